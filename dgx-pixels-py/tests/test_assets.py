"""Sprites on their way into a game: sheets, checks and deploys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import dgx_pixels as dp
from dgx_pixels import errors


@pytest.fixture(scope="module")
def frames() -> list[dp.Sprite]:
    with dp.Engine("sketch") as engine:
        return engine.generate("a slime", seed=1, count=4)


@pytest.fixture
def game(tmp_path: Path) -> Path:
    """A project that depends on Bevy."""
    folder = tmp_path / "game"
    folder.mkdir()
    (folder / "Cargo.toml").write_text('[package]\nname = "game"\n[dependencies]\nbevy = "0.19"\n')
    return folder


def test_a_sheet_has_its_frames_where_the_index_says(
    frames: list[dp.Sprite], tmp_path: Path
) -> None:
    path = tmp_path / "walk.png"
    sheet = dp.sheet(path, frames, columns=2, gutter=1, duration_ms=120)
    assert sheet.path == str(path)
    assert json.loads((tmp_path / "walk.json").read_text()) == sheet.index
    array = dp.Sprite.open(path).array
    entries = sheet.index["frames"]
    assert [entry["filename"] for entry in entries] == [f"frame_{n}.png" for n in range(4)]
    for entry, frame in zip(entries, frames, strict=True):
        at = entry["frame"]
        cut = array[at["y"] : at["y"] + at["h"], at["x"] : at["x"] + at["w"]]
        assert np.array_equal(cut[cut[..., 3] > 0], frame.array[frame.array[..., 3] > 0])
        assert entry["duration"] == 120


def test_frames_are_images_of_any_kind(frames: list[dp.Sprite], tmp_path: Path) -> None:
    first, *_ = frames
    first.save(tmp_path / "frame.png")
    kinds = [first, first.image, first.array, tmp_path / "frame.png", str(tmp_path / "frame.png")]
    sheet = dp.sheet(tmp_path / "sheet.png", kinds)
    assert len(sheet.index["frames"]) == 5
    named = dp.sheet(tmp_path / "named.png", {"idle": first, "jump": frames[1]}, layout="packed")
    assert {frame["filename"] for frame in named.index["frames"]} == {"idle.png", "jump.png"}
    whole = np.stack([frame.array for frame in frames])
    assert len(dp.sheet(tmp_path / "array.png", whole).index["frames"]) == 4


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"columns": 0}, "columns"),
        ({"columns": 2.5}, "columns"),
        ({"gutter": -1}, "gutter"),
        ({"extrude": "1"}, "extrude"),
        ({"duration_ms": 0}, "duration_ms"),
        ({"layout": "row"}, "layout"),
        ({"layout": "packed", "columns": 2}, "columns"),
        ({"frames": "frame.png"}, "frames"),
        ({"frames": 3}, "frames"),
        ({"frames": [None]}, "image"),
        ({"path": "sheet.jpg"}, "path"),
    ],
)
def test_a_wrong_option_of_a_sheet_is_named(
    options: dict[str, Any], field: str, frames: list[dp.Sprite], tmp_path: Path
) -> None:
    given: dict[str, Any] = {"path": tmp_path / "sheet.png", "frames": frames, **options}
    with pytest.raises(dp.InvalidRequestError) as caught:
        dp.sheet(given.pop("path"), given.pop("frames"), **given)
    assert caught.value.field == field
    assert not (tmp_path / "sheet.png").exists()


def test_a_sheet_needs_frames_and_room(frames: list[dp.Sprite], tmp_path: Path) -> None:
    with pytest.raises(dp.DgxPixelsError):
        dp.sheet(tmp_path / "sheet.png", [])
    with pytest.raises(dp.DgxPixelsError):
        dp.sheet(tmp_path / "sheet.png", frames, gutter=10**6)
    dp.sheet(tmp_path / "sheet.png", frames)
    with pytest.raises(errors.OutputError, match="already exists"):
        dp.sheet(tmp_path / "sheet.png", frames)
    dp.sheet(tmp_path / "sheet.png", frames[:2], force=True)


def test_validate_finds_what_a_game_would_stumble_over(
    frames: list[dp.Sprite], tmp_path: Path
) -> None:
    frames[0].save(tmp_path / "slime.png")
    report = dp.validate(tmp_path)
    assert (report.files, report.errors) == (1, 0)
    (tmp_path / "cut.png").write_bytes(frames[0].png()[:200])
    Image.new("RGBA", (32, 32), (9, 9, 9, 128)).save(tmp_path / "half.png")
    report = dp.validate(tmp_path)
    assert report.errors >= 1
    assert report.errors + report.warnings == len(report.findings)
    for finding in report.findings:
        assert finding.severity in ("error", "warning")
        assert finding.check and finding.reason and finding.fix
        assert Path(finding.path).parent == tmp_path
    with pytest.raises(errors.NotFoundError):
        dp.validate(tmp_path / "nothing")


def test_deploys_add_replace_and_leave(frames: list[dp.Sprite], game: Path) -> None:
    planned = dp.deploy(game, {"enemy_slime": frames[0]}, dry_run=True)
    assert planned.changed and planned.live is None and planned.reason is None
    assert not Path(planned.manifest).exists()
    first = dp.deploy(game, {"enemy_slime": frames[0], "item_key": frames[1]}, reload=False)
    assert [(one.name, one.change) for one in first.sprites] == [
        ("enemy_slime", "added"),
        ("item_key", "added"),
    ]
    assert first.changed and first.live is None
    manifest = json.loads(Path(first.manifest).read_text())
    assert set(manifest["sprites"]) == {"enemy_slime", "item_key"}
    assert dp.Sprite.open(first.sprites[0].path) == frames[0]
    again = dp.deploy(game, {"enemy_slime": frames[0], "item_key": frames[2]}, reload=False)
    assert [one.change for one in again.sprites] == ["unchanged", "replaced"]
    assert not dp.deploy(game, {"item_key": frames[2]}, reload=False).changed


def test_a_game_that_does_not_run_is_no_error(frames: list[dp.Sprite], game: Path) -> None:
    deployed = dp.deploy(game, {"enemy_slime": frames[0]}, port=9, wait=0)
    assert deployed.live is False
    assert deployed.reason


@pytest.mark.parametrize(
    "given",
    [
        {"sprites": {"No Name": "sprite"}},
        {"sprites": {"enemy_slime": "slime.png"}},
        {"wait": -1},
        {"wait": float("nan")},
        {"wait": 601},
        {"port": 0},
        {"port": 70_000},
    ],
)
def test_a_wrong_option_of_a_deploy_is_named(
    given: dict[str, Any], frames: list[dp.Sprite], game: Path
) -> None:
    sprites = given.pop("sprites", {"enemy_slime": frames[0]})
    sprites = {name: frames[0] if it == "sprite" else it for name, it in sprites.items()}
    with pytest.raises(dp.InvalidRequestError) as caught:
        dp.deploy(game, sprites, **given)
    assert caught.value.field
    assert not (game / "assets").exists()


def test_a_folder_without_a_game_is_refused(frames: list[dp.Sprite], tmp_path: Path) -> None:
    with pytest.raises(dp.InvalidRequestError, match=r"it has no `Cargo\.toml`"):
        dp.deploy(tmp_path, {"enemy_slime": frames[0]})
