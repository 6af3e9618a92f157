"""How well tools find the true pixels of damaged pixel art. README.md defines every figure.

    python bench.py run --set tune --sources 12 --output results.jsonl          # every tool that is installed
    python bench.py run --set report --binary target/release/dgx-pixels --output results.jsonl
    python bench.py run --set no-grid --output no_grid.jsonl                    # photographs: who sees a grid?
    python bench.py run --set native --output native.jsonl                      # scenes and sheets that nobody enlarged
    python bench.py run --set MY_SPRITES/ --tools dgx-pixels ai2pixelart --only jpeg_70 warp_light --output mine.jsonl
    python bench.py run --set drawings --output drawings.jsonl                  # text, charts, flags: who sees a grid?
    python bench.py run --set tune --group wild --quick --output wild.jsonl     # 300 pictures, two minutes on one core
    python bench.py table results.jsonl no_grid.jsonl                           # Markdown
    python bench.py doubt results.jsonl no_grid.jsonl --picture reliability.png # wrong and sure, abstained, calibration
    python bench.py compare results.jsonl --output compare.png                  # wins and losses, drawn again

`run` writes a JSON line for each tool and picture, in no fixed order. One worker a core makes a
picture, then asks the tools one after another, each in its own process with one thread, so no more
is busy at a time than there are cores.
"""

import argparse
import contextlib
import io
import json
import os
import platform
import queue
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from damage import CATEGORIES, Damaged, as_it_is, spoil
from damage import GROUPS as DAMAGES
from doubt import doubt
from drawings import drawings
from fourth import drawn_art
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from sources import DATA, Pixels, Source, load, native, no_grid, rng_of, subsample

import tools

ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "RAYON", "NUMEXPR", "VECLIB_MAXIMUM")}
NO_GRID = "no_grid"
NATIVE = "native"
DRAWINGS = "drawings"
# Pictures of a quick run.
QUICK = 300
Result = dict[str, Any]


# 1. A tool in its own process.


class Served:
    """One `tools.py serve`, started when first asked, and again after a time-out or a crash."""

    def __init__(self, tool: str, binary: str) -> None:
        self.command = [sys.executable, str(Path(tools.__file__)), "--binary", binary, "serve", tool]
        self.child: subprocess.Popen[str] | None = None

    def ask(self, picture: Path, output: Path, limit_seconds: float) -> Result:
        """The tool's answer, or `{"error": ...}`."""
        child = self.child or self.start()
        if child is None:
            return {"error": "does not start"}
        assert child.stdin is not None
        try:
            child.stdin.write(json.dumps({"input": str(picture), "output": str(output)}) + "\n")
            child.stdin.flush()
            line = self.lines.get(timeout=limit_seconds)
        except (queue.Empty, BrokenPipeError) as error:
            line, reason = "", "time-out" if isinstance(error, queue.Empty) else "crash"
        else:
            reason = "crash"
        if line:
            answer: Result = json.loads(line)
            return answer
        self.stop()
        return {"error": reason}

    def start(self) -> subprocess.Popen[str] | None:
        child = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **ONE_THREAD},
        )
        self.lines: queue.Queue[str] = queue.Queue()
        self.child = child
        threading.Thread(target=self.listen, args=(child, self.lines), daemon=True).start()
        try:
            ready = self.lines.get(timeout=120)
        except queue.Empty:
            ready = ""
        if ready.strip() == "ready":
            return child
        self.stop()
        return None

    @staticmethod
    def listen(child: subprocess.Popen[str], lines: "queue.Queue[str]") -> None:
        assert child.stdout is not None
        for line in child.stdout:
            lines.put(line)
        lines.put("")  # the end: it has crashed or was stopped

    def stop(self) -> None:
        if self.child is not None:
            self.child.kill()
            self.child.wait()
            self.child = None


# 2. What an answer is worth.


def oklab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """Björn Ottosson's Oklab of sRGB 0 to 255."""
    to_lms = np.array([[0.4122214708, 0.5363325363, 0.0514459929],
                       [0.2119034982, 0.6806995451, 0.1073969566],
                       [0.0883024619, 0.2817188376, 0.6299787005]])  # fmt: skip
    to_lab = np.array([[0.2104542553, 0.7936177850, -0.0040720468],
                       [1.9779984951, -2.4285922050, 0.4505937099],
                       [0.0259040371, 0.7827717662, -0.8086757660]])  # fmt: skip
    lab: NDArray[np.float64] = np.cbrt(linear(rgb) @ to_lms.T) @ to_lab.T
    return lab


def cielab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIE L*a*b* of sRGB 0 to 255, white D65."""
    to_xyz = np.array([[0.4124564, 0.3575761, 0.1804375],
                       [0.2126729, 0.7151522, 0.0721750],
                       [0.0193339, 0.1191920, 0.9503041]])  # fmt: skip
    xyz = linear(rgb) @ to_xyz.T / to_xyz.sum(axis=1)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def linear(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    v = rgb / 255
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def with_alpha(pixels: Pixels) -> Pixels:
    return np.array(Image.fromarray(pixels).convert("RGBA"))


def packed(colours: Pixels) -> NDArray[np.int64]:
    """Each colour as one number."""
    numbers: NDArray[np.int64] = colours[..., :3].astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    return numbers


def alignment(answer: Result, size: tuple[int, int], out: Pixels, centres: NDArray[np.float32]) -> float:
    """Share of cells that have an output pixel to themselves: see README.md."""
    rows, cols = out.shape[:2]

    def place(edges: list[float] | None, pixels: int, count: int, at: NDArray[np.float32]) -> NDArray[np.int64]:
        lines = np.linspace(0, pixels, count + 1) if edges is None or len(edges) != count + 1 else np.asarray(edges)
        return np.searchsorted(lines, at, side="right") - 1

    x = place(answer["edges_x"], size[0], cols, centres[..., 0])
    y = place(answer["edges_y"], size[1], rows, centres[..., 1])
    inside = (x >= 0) & (x < cols) & (y >= 0) & (y < rows)
    _, shared = np.unique((y * cols + x)[inside], return_counts=True)
    return float((shared == 1).sum() / max(rows * cols, centres.shape[0] * centres.shape[1]))


def common_step(edges: list[float]) -> float:
    """Pixels of a cell, gutters of another width left out."""
    widths = np.diff(edges)
    return float(widths[abs(widths - np.median(widths)) <= 1].mean())


def is_right(damaged: Damaged, answer: Result, out: Pixels) -> bool:
    """The right size; of a sheet whose parts lie apart, the right step."""
    if damaged.judge == "size":
        return out.shape[:2] == damaged.truth.shape[:2]
    steps = [common_step(edges) for edges in (answer["edges_x"], answer["edges_y"]) if edges is not None and len(edges) > 1]
    true = (damaged.step_x, damaged.step_y)
    return damaged.judge == "step" and len(steps) == 2 and all(abs(a / b - 1) < 0.01 for a, b in zip(steps, true, strict=True))


def score(damaged: Damaged, answer: Result, out: Pixels, rgb_only: bool) -> Result:
    """The figures of one picture; those of colour only where the size is exact."""
    truth = damaged.truth
    rows, cols = truth.shape[:2]
    height, width = damaged.picture.shape[:2]
    result: Result = {
        "cols": out.shape[1],
        "rows": out.shape[0],
        "exact": is_right(damaged, answer, out),
        "within_1": abs(out.shape[0] - rows) <= 1 and abs(out.shape[1] - cols) <= 1,
        "alignment": round(alignment(answer, (width, height), out, damaged.centres), 5),
    }
    found = with_alpha(out)
    colours = np.unique(packed(found[found[..., 3] > 127]))
    source = with_alpha(damaged.picture)
    seen = source[source[..., 3] > 0]
    if rgb_only:  # it saw the picture over white
        page = Image.new("RGBA", (width, height), (255, 255, 255, 255))
        page.alpha_composite(Image.fromarray(source))
        seen = np.array(page)
    result["colours"] = len(colours)
    result["invented"] = int((~np.isin(colours, packed(seen))).sum())
    if result["exact"] and damaged.judge == "size":
        visible = truth[..., 3] > 127
        both = visible if rgb_only else visible & (found[..., 3] > 127)
        if both.any():
            pair = [p[both][:, :3].astype(np.float64) for p in (truth, found)]
            for name, space, scale in (("oklab", oklab, 100), ("cielab", cielab, 1)):
                distance = np.linalg.norm(space(pair[0]) - space(pair[1]), axis=-1)
                result[name] = round(float(distance.mean()) * scale, 4)
        if not rgb_only and not visible.all():
            result["alpha_wrong"] = round(float((visible != (found[..., 3] > 127)).mean()), 5)
    return result


def same(a: Pixels, b: Pixels) -> bool:
    """Equal where anything can be seen."""
    a, b = with_alpha(a), with_alpha(b)
    if a.shape != b.shape or (a[..., 3] != b[..., 3]).any():
        return False
    return bool((a == b)[a[..., 3] > 0].all())


# 3. All of them.


@dataclass(frozen=True)
class Plan:
    tools: tuple[str, ...]
    binary: str
    seed: int
    limit_seconds: float
    again: float
    """Share of pictures on which a tool is run on its own output too."""


served: dict[str, Served] = {}


def measure(plan: Plan, category: str, source: Source) -> list[Result]:
    """One damaged picture through every tool."""
    if category in (NO_GRID, DRAWINGS):
        damaged = None
    elif category == NATIVE:
        damaged = as_it_is(source.pixels)
    else:
        damaged = spoil(source, category, plan.seed)
    pixels = source.pixels if damaged is None else damaged.picture
    again = rng_of("again", plan.seed, category, source.name).random() < plan.again
    results = []
    with tempfile.TemporaryDirectory() as folder:
        picture, output, second = (Path(folder) / f"{name}.png" for name in ("picture", "output", "second"))
        Image.fromarray(pixels).save(picture, compress_level=1)
        for tool in plan.tools:
            child = served.setdefault(tool, Served(tool, plan.binary))
            answer = child.ask(picture, output, plan.limit_seconds)
            result: Result = {
                "tool": tool,
                "category": category,
                "source": source.name,
                "width": pixels.shape[1],
                "height": pixels.shape[0],
                "alpha": pixels.shape[2] == 4,
                "cut": damaged is not None and (damaged.phase_x, damaged.phase_y) != (0, 0),
                **{key: answer[key] for key in ("error", "ms", "grid", "peak_bytes", "verdict", "confidence") if key in answer},
                "judge": "none" if damaged is None else damaged.judge,
            }
            if "error" not in answer and damaged is not None:
                out = np.array(Image.open(output))
                result |= {"true_cols": damaged.truth.shape[1], "true_rows": damaged.truth.shape[0]}
                result |= score(damaged, answer, out, tools.TOOLS[tool].rgb_only)
                if again:
                    answer = child.ask(output, second, plan.limit_seconds)
                    result["idempotent"] = "error" not in answer and same(out, np.array(Image.open(second)))
            results.append(result)
    return results


def stop_tools() -> None:
    for child in served.values():
        child.stop()


def start_worker() -> None:
    os.environ.update(ONE_THREAD)
    import multiprocessing.util

    multiprocessing.util.Finalize(None, stop_tools, exitpriority=10)


def run(args: argparse.Namespace) -> None:
    wanted = []
    for tool in args.tools or tools.TOOLS:
        reason = tools.absent(tool, args.binary)
        if reason:
            print(f"{tool} is passed over: {reason}", file=sys.stderr)
        else:
            wanted.append(tool)
    if not wanted:
        raise SystemExit("no tool to run; `python tools.py list` says why")
    if args.set == "no-grid":
        pictures = no_grid(args.sources or 120, args.seed)
        tasks = [(NO_GRID, source) for source in pictures]
    elif args.set == DRAWINGS:
        tasks = [(DRAWINGS, source) for source in drawings(args.sources or 120, args.seed)]
    elif args.set == NATIVE:
        tasks = [(NATIVE, source) for source in native(args.sources or 120, args.seed)]
    elif args.set == "fourth":
        sources = drawn_art(args.sources or 20, args.seed)
        tasks = [(category, source) for source in sources for category in args.only or DAMAGES[args.group]]
    else:
        folder = DATA / args.set if (DATA / args.set).is_dir() else Path(args.set)
        sources = load(folder)
        sources = subsample(sources, args.sources or len(sources), args.seed)
        tasks = [(category, source) for source in sources for category in args.only or DAMAGES[args.group]]
    # The long ones spread out, and a run that is cut short has seen some of everything.
    tasks = [tasks[i] for i in rng_of("order", args.seed).permutation(len(tasks))][: QUICK if args.quick else args.pictures]
    plan = Plan(tuple(wanted), args.binary, args.seed, args.limit_seconds, args.again)
    began = time.monotonic()
    head = {
        "about": "pixel_bench",
        "set": args.set,
        "group": args.group,
        "seed": args.seed,
        "pictures": len(tasks),
        "tools": {tool: tools.version(tool, args.binary) for tool in wanted},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {args.workers} workers of one thread",
        "python": platform.python_version(),
    }
    with args.output.open("w") as lines, ProcessPoolExecutor(args.workers, initializer=start_worker) as pool:
        print(json.dumps(head), file=lines)
        for i, done in enumerate(as_completed([pool.submit(measure, plan, *task) for task in tasks]), 1):
            for result in done.result():
                print(json.dumps(result), file=lines, flush=True)
            if i % 50 == 0 or i == len(tasks):
                print(f"{i}/{len(tasks)} pictures, {time.monotonic() - began:.0f} s", file=sys.stderr)


# 4. What came of it.


def read(paths: Iterable[Path]) -> tuple[list[Result], list[Result]]:
    """Heads and results of several files."""
    rows = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    return [row for row in rows if "about" in row], [row for row in rows if "about" not in row]


def share(rows: list[Result], key: str) -> str:
    """Percent of `rows` where `key` holds. A failure counts as not."""
    return f"{100 * sum(bool(row.get(key)) for row in rows) / len(rows):.1f}" if rows else "-"


def middle(rows: list[Result], key: str, form: str = ".2f", mean: bool = True) -> str:
    values = [row[key] for row in rows if key in row]
    return format((statistics.fmean if mean else statistics.median)(values), form) if values else "-"


def markdown(head: list[str], body: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


GROUPS: dict[str, Callable[[Result], bool]] = {
    "whole cells": lambda row: not row["cut"],
    "cut through cells": lambda row: bool(row["cut"]),
    "scenes": lambda row: row["source"].startswith("scene"),
    "opaque sprites": lambda row: not row["source"].startswith("scene") and not row["alpha"],
    "pictures with alpha": lambda row: bool(row["alpha"]),
}


def table(args: argparse.Namespace) -> None:
    heads, results = read(args.results)
    names = [name for name in tools.TOOLS if any(row["tool"] == name for row in results)]
    body = []
    for name in names:
        own = [row for row in results if row["tool"] == name]
        gridded, flat = ([row for row in own if (row["category"] in (NO_GRID, DRAWINGS)) == is_flat] for is_flat in (False, True))
        alive = [row for row in gridded if "error" not in row]
        colours, invented = (sum(row[key] for row in alive) for key in ("colours", "invented"))
        aligned = sum(row.get("alignment", 0.0) for row in gridded)
        wrong = [row["alpha_wrong"] for row in alive if "alpha_wrong" in row]
        body.append(
            [
                name,
                str(len(gridded)),
                share(gridded, "exact"),
                share(gridded, "within_1"),
                f"{100 * aligned / len(gridded):.1f}" if gridded else "-",
                middle(alive, "oklab"),
                middle(alive, "cielab"),
                f"{100 * statistics.fmean(wrong):.2f}" if wrong else "-",
                f"{invented / len(alive):.1f} ({100 * invented / max(colours, 1):.0f} %)" if alive else "-",
                share([row for row in alive if "idempotent" in row], "idempotent"),
                share([row for row in flat if "error" not in row], "grid"),
                middle(gridded or flat, "ms", ".0f", mean=False),
                f"{max((row.get('peak_bytes', 0) for row in own), default=0) / 2**20:.0f}",
                str(sum("error" in row for row in own)),
            ]
        )
    for head in heads:
        versions = ", ".join(f"{tool} {version}".strip() for tool, version in head["tools"].items())
        print(f"Set {head['set']}, seed {head['seed']}, {head['pictures']} pictures; {head['machine']}; {versions}.")
    print()
    print(
        markdown(
            ["tool", "pictures", "exact %", "within 1 px %", "alignment %", "ΔE Oklab x100", "ΔE CIELAB",
             "alpha wrong %", "invented colours a picture", "unchanged twice %", "false grid %", "median ms",
             "peak MiB", "failures"],
            body,
        )
    )  # fmt: skip
    by: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for row in results:
        by[row["category"], row["tool"]].append(row)
    kinds = [category for category in CATEGORIES if any((category, name) in by for name in names)]
    if kinds:
        print("\nExact size, %, by damage and by kind of picture:\n")
        body = [[kind, *(share(by[kind, name], "exact") for name in names)] for kind in kinds]
        for kind, belongs in GROUPS.items():
            such = [row for row in results if row["category"] not in (NO_GRID, DRAWINGS) and belongs(row)]
            if such:
                shares = (share([row for row in such if row["tool"] == name], "exact") for name in names)
                body.append([f"**{kind}**", *shares])
        print(markdown(["damage", *names], body))


def compare(args: argparse.Namespace) -> None:
    """Rows of damaged crop, truth, the first tool's answer and the best other's: wins, then losses."""
    heads, results = read(args.results)
    exact: dict[str, dict[tuple[str, str], bool]] = defaultdict(dict)
    for row in results:
        if row["category"] not in (NO_GRID, DRAWINGS, NATIVE):
            exact[row["tool"]][row["category"], row["source"]] = bool(row.get("exact"))
    order = sorted(exact, key=lambda name: -sum(exact[name].values()) / len(exact[name]))
    first = args.first if args.first in exact else order[0]
    other = next((name for name in order if name != first), first)
    shared = sorted(set(exact[first]) & set(exact[other]))
    wins = [key for key in shared if exact[first][key] and not exact[other][key]]
    losses = [key for key in shared if exact[other][key] and not exact[first][key]]
    chosen: list[tuple[str, str]] = []
    for keys, count in ((wins, args.rows), (losses, args.rows)):
        kinds: set[str] = set()
        for i in rng_of("compare", len(keys)).permutation(len(keys)):
            if len(kinds) < count and keys[i][0] not in kinds:
                kinds.add(keys[i][0])
                chosen.append(keys[i])
    sets = {head["set"]: head for head in heads if head["set"] != "no-grid"}
    pictures = {
        source.name: (source, head["seed"])
        for name, head in sets.items()
        for source in load(DATA / name if (DATA / name).is_dir() else Path(name))
    }
    side, gap, band = 256, 8, 16
    page = Image.new("RGB", (4 * (side + gap) + gap, max(1, len(chosen)) * (side + band + gap) + gap), (60, 60, 72))
    pen = ImageDraw.Draw(page)
    runs = {name: tools.TOOLS[name].open(args.binary) for name in (first, other)}
    for i, (category, name) in enumerate(chosen):
        source, seed = pictures[name]
        damaged = spoil(source, category, seed)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "picture.png"
            Image.fromarray(damaged.picture).save(file)
            with contextlib.redirect_stdout(io.StringIO()):  # perfect-pixel talks
                answers = [runs[tool](file).pixels for tool in (first, other)]
        shown = [
            ("damaged, " + category, damaged.picture),
            ("truth", damaged.truth),
            *zip((first, other), answers, strict=True),
        ]
        for j, (title, pixels) in enumerate(shown):
            left, top = gap + j * (side + gap), gap + i * (side + band + gap)
            # The same part of each: the middle half of it, enlarged to the same square.
            height, width = pixels.shape[:2]
            part = Image.fromarray(with_alpha(pixels)).crop(
                (width // 4, height // 4, width - width // 4, height - height // 4)
            )
            part = part.resize((side, max(1, round(side * part.height / part.width))), Image.Resampling.NEAREST)
            part = part.crop((0, 0, side, min(side, part.height)))
            page.paste(part, (left, top + band), part)
            pen.text((left, top), f"{title}, {width} x {height}", fill=(255, 255, 255))
    page.save(args.output, optimize=True)
    print(f"{first} against {other}: {len(wins)} wins, {len(losses)} losses of {len(shared)} pictures")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="measure, and write a JSON line a result")
    running.add_argument("--set", default="tune", help="tune, report, no-grid, drawings, native, or a folder of true-size sprites")
    running.add_argument("--group", default="report", choices=DAMAGES, help="which damages; see `damage.py list`")
    running.add_argument("--quick", action="store_true", help=f"{QUICK} pictures, drawn from all")
    running.add_argument("--seed", type=int, default=1)
    running.add_argument("--sources", type=int, help="no more than this many sources")
    running.add_argument("--pictures", type=int, help="no more than this many pictures, drawn from all")
    running.add_argument("--only", nargs="+", choices=CATEGORIES, metavar="CATEGORY", help="see `damage.py list`")
    running.add_argument("--tools", nargs="+", choices=tools.TOOLS)
    running.add_argument("--binary", default="dgx-pixels", help="our program")
    running.add_argument("--workers", type=int, default=os.cpu_count())
    running.add_argument("--limit-seconds", type=float, default=60.0, help="for one picture and one tool")
    running.add_argument("--again", type=float, default=0.2, help="share of pictures run a second time on the output")
    running.add_argument("--output", type=Path, required=True)
    running.set_defaults(call=run)
    telling = commands.add_parser("table", help="Markdown of one or several runs")
    telling.add_argument("results", type=Path, nargs="+")
    telling.set_defaults(call=table)
    doubting = commands.add_parser("doubt", help="who is wrong and sure, and who says so")
    doubting.add_argument("results", type=Path, nargs="+")
    doubting.add_argument("--picture", type=Path, help="a reliability picture, PNG")
    doubting.set_defaults(call=lambda args: doubt(*read(args.results), args.picture))
    drawing = commands.add_parser("compare", help="a picture of wins and losses")
    drawing.add_argument("results", type=Path, nargs="+")
    drawing.add_argument("--first", default="dgx-pixels", help="the tool whose wins and losses are drawn")
    drawing.add_argument("--rows", type=int, default=4, help="rows of wins, and of losses")
    drawing.add_argument("--binary", default="dgx-pixels", help="our program")
    drawing.add_argument("--output", type=Path, required=True)
    drawing.set_defaults(call=compare)
    args = parser.parse_args()
    args.call(args)


if __name__ == "__main__":
    main()
