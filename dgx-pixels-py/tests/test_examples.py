"""The examples run as they stand, with few sprites and the model that is built in."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from conftest import ROOT, environment

import dgx_pixels as dp

EXAMPLES = ROOT / "examples" / "python"


def run(name: str, *arguments: str, folder: Path) -> str:
    """Returns what an example prints."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_example_says_what_it_shows() -> None:
    for path in EXAMPLES.glob("*.py"):
        first = path.read_text().splitlines()[0]
        assert first.startswith('"""') and len(first) > 20, path


def test_one_sprite(tmp_path: Path) -> None:
    output = run("one_sprite", "a key", "--seed", "7", "--model", "sketch", folder=tmp_path)
    assert "seed 7" in output
    sprite = dp.Sprite.open(tmp_path / "sprite.png")
    assert (sprite.seed, sprite.size) == (7, (32, 32))


def test_sheet(tmp_path: Path) -> None:
    output = run("sheet", "--count", "5", "--model", "sketch", folder=tmp_path)
    assert "sheet.png: 5 frames, 0 errors" in output
    index = json.loads((tmp_path / "sheet.json").read_text())
    assert index["frames"][0]["filename"] == "seed_1.png"


def test_pipeline_goes_on_where_it_ended(tmp_path: Path) -> None:
    pytest.importorskip("tqdm")
    flags = ("--model", "sketch", "--output", "made")
    first = run("pipeline", "--count", "12", *flags, folder=tmp_path)
    assert "12 drawn now, 12 files in made, 0 failed" in first
    for path in list((tmp_path / "made").glob("red_*.png"))[:3]:
        path.unlink()
    second = run("pipeline", "--count", "20", *flags, folder=tmp_path)
    assert "11 drawn now, 20 files in made, 0 failed" in second
    third = run("pipeline", "--count", "20", *flags, folder=tmp_path)
    assert "0 drawn now, 20 files in made, 0 failed" in third


def test_pipeline_that_was_killed_is_finished(tmp_path: Path) -> None:
    pytest.importorskip("tqdm")
    flags = ["--model", "sketch", "--output", "made", "--count", "300"]
    killed = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "pipeline.py"), *flags],
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    while len(list(tmp_path.glob("made/*.png"))) < 20:
        assert killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    before = len(list(tmp_path.glob("made/*.png")))
    assert before < 300
    output = run("pipeline", *flags, folder=tmp_path)
    assert "300 files in made, 0 failed" in output
    for path in tmp_path.glob("made/*.png"):
        assert dp.Sprite.open(path).certificate is not None


def test_own_backend(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    assert "invaders.png: 12 frames" in run("own_backend", folder=tmp_path)
    assert (tmp_path / "invaders.json").is_file()


def test_async_server(tmp_path: Path) -> None:
    server = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "async_server.py"), "--port", "0", "--model", "sketch"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        with urllib.request.urlopen(f"{address}a%20slime?seed=7&steps=4", timeout=20) as answer:
            assert answer.headers["Content-Type"] == "image/png"
            sprite = dp.Sprite.open(answer.read())
        assert sprite.seed == 7
        assert sprite.provenance is not None
        assert sprite.provenance["request"]["prompt"] == "a slime"
        for query, words in (("steps=0", "`steps` is 0"), ("palette=/etc/passwd", "files of")):
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(f"{address}a%20slime?{query}", timeout=20)
            assert caught.value.code == 400
            assert words in caught.value.read().decode()
    finally:
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=20)
    assert "Task exception was never retrieved" not in errors


def test_the_notebook_shows_sprites_where_it_is_read() -> None:
    book = json.loads((EXAMPLES / "tour.ipynb").read_text())
    outputs = [output for cell in book["cells"] for output in cell.get("outputs", [])]
    images = [
        "".join(output["data"]["image/png"])
        for output in outputs
        if "image/png" in output.get("data", {})
    ]
    assert len(images) >= 6
    for image in images:
        assert dp.Sprite.open(base64.b64decode(image)).width >= 200
    assert not any(output["output_type"] == "error" for output in outputs)


def test_the_notebook_runs(with_torch: None, tmp_path: Path) -> None:
    pytest.importorskip("nbmake")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbmake"]
    done = subprocess.run(
        [*command, "--nbmake-timeout", "300", str(EXAMPLES / "tour.ipynb")],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout
