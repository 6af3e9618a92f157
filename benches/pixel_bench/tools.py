"""The tools under test, each called as its own documentation says, with its defaults.

    python tools.py list                                # which are installed, and which version
    python tools.py run unfake IN.png OUT.png           # one picture, by hand
    python tools.py serve unfake                        # what bench.py talks to: a JSON line in, a JSON line out

To add a tool, write a function that imports it and returns `picture file -> Outcome`, and name it
in `TOOLS`. The bench runs each in a process of its own, which imports nothing of the bench, so its
memory and time are its own.
"""

import argparse
import contextlib
import importlib.metadata
import importlib.util
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Outcome:
    pixels: Pixels
    """`[rows, cols, 3 or 4]`, one pixel a cell."""
    grid: bool = True
    """False if the tool says that the picture has no grid, in whatever way it says that."""
    verdict: str | None = None
    """`grid`, `native`, `no_grid` or `unsure`, if the tool tells."""
    confidence: float | None = None
    """How sure it is of that, 0 to 1, if it tells."""
    edges_x: list[float] | None = None
    """Where the columns begin and end in the picture, `cols + 1` numbers, if the tool tells."""
    edges_y: list[float] | None = None
    peak_bytes: int | None = None
    """Only of a tool that is a process of its own."""
    own_ms: float | None = None
    """Its own measure from file to file, of a tool that is a process of its own: imports of the others don't count."""


Run = Callable[[Path], Outcome]


@dataclass(frozen=True)
class Tool:
    package: str | None
    """Its name at PyPI; None for ours and for what needs no package."""
    module: str | None
    open: Callable[[str], Run]
    """Imports the tool. Given the path of our program, which only ours wants."""
    rgb_only: bool = False
    """It knows no alpha, so it sees the picture over white."""


def read_rgb(path: Path) -> Pixels:
    """Over white where there is alpha: what shows in a browser."""
    picture = Image.open(path).convert("RGBA")
    page = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    page.alpha_composite(picture)
    return np.array(page.convert("RGB"))


def open_dgx_pixels(binary: str) -> Run:
    """One process a picture."""

    def run(path: Path) -> Outcome:
        with tempfile.TemporaryDirectory() as folder, (Path(folder) / "said").open("w+b") as said:
            command = [binary, "pixelize", str(path), "--output", folder, "--json"]
            child = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().splitlines()
            if child.returncode != 0:
                raise RuntimeError(lines[-1] if lines else f"exit status {child.returncode}")
            line = json.loads(next(text for text in lines if text.startswith("{")))
            pixels = np.array(Image.open(line["output"]).convert("RGBA"))
        peak = usage.ru_maxrss * 1024
        own_ms = sum(line["timings_ms"].values())
        said = (line["verdict"], line["confidence"])
        is_grid = line["verdict"] == "grid"
        if line["verdict"] == "no_grid":
            return Outcome(pixels, False, *said, peak_bytes=peak, own_ms=own_ms)
        across, down = (
            line.get(f"edges_{axis}") or [line[f"phase_{axis}"] + i * line[f"step_{axis}"] for i in range(count + 1)]
            for axis, count in (("x", line["cols"]), ("y", line["rows"]))
        )
        return Outcome(pixels, is_grid, *said, across, down, peak, own_ms)

    return run


def open_unfake(_: str) -> Run:
    import unfake

    def run(path: Path) -> Outcome:
        # As its command line does it: colours counted by itself, dominant colour, grid snapped.
        result = unfake.process_image_sync(str(path))
        scale = result["manifest"].processing_steps["scale_detection"]["detected_scale"]
        return Outcome(np.array(result["image"].convert("RGBA")), grid=scale != 1)

    return run


def open_proper_pixel_art(_: str) -> Run:
    from proper_pixel_art import pixelate

    def run(path: Path) -> Outcome:
        picture = Image.open(path)
        result = pixelate(picture)
        across, down = ([float(v) / result.upscale_factor for v in lines] for lines in result.mesh)
        return Outcome(np.array(result.image.convert("RGBA")), result.image.size != picture.size, edges_x=across, edges_y=down)

    return run


def open_perfect_pixel(_: str) -> Run:
    from perfect_pixel import get_perfect_pixel

    def run(path: Path) -> Outcome:
        width, _, pixels = get_perfect_pixel(read_rgb(path))
        return Outcome(np.asarray(pixels), grid=width is not None)

    return run


def open_pixel_snapper(_: str) -> Run:
    from pixel_snapper import PixelSnapperConfig, process_image

    def run(path: Path) -> Outcome:
        picture = Image.open(path)
        found = Image.open(io.BytesIO(process_image(path.read_bytes(), PixelSnapperConfig())))
        return Outcome(np.array(found.convert("RGBA")), grid=found.size != picture.size)

    return run


def open_ai2pixelart(_: str) -> Run:
    from ai2pixelart import clean

    def run(path: Path) -> Outcome:
        result = clean(read_rgb(path))
        if result.grid is None:
            return Outcome(result.image, grid=False)
        across, down = ([float(v) for v in axis.edges] for axis in (result.grid.x, result.grid.y))
        return Outcome(result.image, True, edges_x=across, edges_y=down)

    return run


def open_nearest_8x(_: str) -> Run:
    """The recipe of pixel-art-xl: every eighth pixel, whatever the picture."""

    def run(path: Path) -> Outcome:
        picture = Image.open(path).convert("RGBA")
        size = (max(1, round(picture.width / 8)), max(1, round(picture.height / 8)))
        return Outcome(np.array(picture.resize(size, Image.Resampling.NEAREST)))

    return run


TOOLS: dict[str, Tool] = {
    "dgx-pixels": Tool(None, None, open_dgx_pixels),
    "ai2pixelart": Tool("ai2pixelart", "ai2pixelart", open_ai2pixelart, rgb_only=True),
    "perfect-pixel": Tool("perfect-pixel", "perfect_pixel", open_perfect_pixel, rgb_only=True),
    "proper-pixel-art": Tool("proper-pixel-art", "proper_pixel_art", open_proper_pixel_art),
    "unfake": Tool("unfake", "unfake", open_unfake),
    "pixel-snapper": Tool("pixel-snapper", "pixel_snapper", open_pixel_snapper),
    "nearest-8x": Tool(None, None, open_nearest_8x),
}


def absent(name: str, binary: str) -> str | None:
    """Why a tool cannot run here, or None if it can."""
    tool = TOOLS[name]
    if name == "dgx-pixels":
        if shutil.which(binary) is None:
            return f"no program `{binary}`; give --binary"
        asked = subprocess.run([binary, "pixelize", "--help"], capture_output=True, timeout=20)
        return None if asked.returncode == 0 else f"`{binary}` knows no `pixelize`"
    if tool.module is not None and importlib.util.find_spec(tool.module) is None:
        return f"not installed; pip install {tool.package}"
    return None


def version(name: str, binary: str) -> str:
    if name == "dgx-pixels":
        return subprocess.run([binary, "--version"], capture_output=True, text=True).stdout.strip().split()[-1]
    package = TOOLS[name].package
    return importlib.metadata.version(package) if package else ""


def serve(name: str, binary: str, answers: TextIO) -> None:
    """Answers `{"input", "output"}` with what was found; the pixels go to `output` as PNG."""
    run = TOOLS[name].open(binary)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        began = time.perf_counter()
        try:
            found = run(Path(task["input"]))
        except Exception as error:  # a tool's own failure is a result, whatever it is
            print(json.dumps({"error": f"{type(error).__name__}: {error}"[:300]}), file=answers, flush=True)
            continue
        elapsed = time.perf_counter() - began
        peak = found.peak_bytes or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        Image.fromarray(found.pixels).save(task["output"], compress_level=1)
        answer = {"ms": found.own_ms or 1e3 * elapsed, "grid": found.grid, "edges_x": found.edges_x, "edges_y": found.edges_y}
        answer |= {"verdict": found.verdict, "confidence": found.confidence}
        print(json.dumps({**answer, "peak_bytes": peak}), file=answers, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="dgx-pixels", help="our program")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list")
    one = commands.add_parser("run")
    one.add_argument("tool", choices=TOOLS)
    one.add_argument("input", type=Path)
    one.add_argument("output", type=Path)
    commands.add_parser("serve").add_argument("tool", choices=TOOLS)
    args = parser.parse_args()
    if args.command == "list":
        for name in TOOLS:
            print(f"{name:20} {absent(name, args.binary) or version(name, args.binary) or 'built in'}")
    elif args.command == "run":
        found = TOOLS[args.tool].open(args.binary)(args.input)
        Image.fromarray(found.pixels).save(args.output)
        print(f"{found.pixels.shape[1]} x {found.pixels.shape[0]}" if found.grid else "no grid")
    else:
        # What a tool prints must not get between the answers.
        with os.fdopen(os.dup(1), "w") as answers, contextlib.redirect_stdout(sys.stderr):
            os.dup2(2, 1)
            serve(args.tool, args.binary, answers)


if __name__ == "__main__":
    main()
