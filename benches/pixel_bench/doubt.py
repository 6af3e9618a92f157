"""Who is wrong and sure, who says that it is not sure, and whether a confidence means what it says."""

from collections import defaultdict
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

Result = dict[str, Any]

# A confidence from here on is "sure".
SURE = 0.8
BINS = 10


def is_answered(row: Result) -> bool:
    """Neither a failure nor "not sure"."""
    confidence = row.get("confidence")
    return "error" not in row and row.get("verdict") != "unsure" and (confidence is None or confidence >= SURE)


def is_right(row: Result) -> bool:
    """The right size, or on pictures without cells the answer that there are none."""
    if row["judge"] == "none":
        return not row.get("grid", True)
    return bool(row.get("exact"))


def calibration(rows: list[Result]) -> tuple[float, list[tuple[float, float, int]]]:
    """The expected calibration error, and for each tenth the mean confidence, the share that is right, the count."""
    bins: dict[int, list[Result]] = defaultdict(list)
    for row in rows:
        bins[min(BINS - 1, int(BINS * row["confidence"]))].append(row)
    points = []
    error = 0.0
    for _, such in sorted(bins.items()):
        sure = sum(row["confidence"] for row in such) / len(such)
        right = sum(is_right(row) for row in such) / len(such)
        error += abs(sure - right) * len(such) / len(rows)
        points.append((sure, right, len(such)))
    return error, points


def percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f}" if whole else "-"


def line(name: str, rows: list[Result]) -> str:
    answered = [row for row in rows if is_answered(row)]
    told = [row for row in rows if row.get("confidence") is not None and "error" not in row]
    wrong = sum(not is_right(row) for row in answered)
    error = f"{calibration(told)[0]:.3f}" if told else "-"
    cells = [
        name,
        str(len(rows)),
        percent(sum(is_right(row) for row in rows), len(rows)),
        percent(len(answered) - wrong, len(answered)),
        percent(len(rows) - len(answered), len(rows)),
        percent(wrong, len(rows)),
        error,
    ]
    return "| " + " | ".join(cells) + " |"


def doubt(heads: list[Result], results: list[Result], picture: Path | None) -> None:
    """Prints a table of all tools, and for each damage one of those that tell a confidence."""
    for head in heads:
        print(f"Set {head['set']}, damages {head.get('group', 'report')}, seed {head['seed']}, {head['pictures']} pictures.")
    top = "| tool | pictures | exact % | exact of answered % | abstained % | wrong and sure % | calibration error |"
    print(f"\n{top}\n|---|---:|---:|---:|---:|---:|---:|")
    by: dict[str, list[Result]] = defaultdict(list)
    for row in results:
        by[row["tool"]].append(row)
    for tool, rows in by.items():
        print(line(tool, rows))
    for tool, rows in by.items():
        told = [row for row in rows if row.get("confidence") is not None]
        if not told:
            continue
        print(f"\n{tool}, by kind:\n\n{top.replace('tool', 'kind')}\n|---|---:|---:|---:|---:|---:|---:|")
        kinds: dict[str, list[Result]] = defaultdict(list)
        for row in rows:
            kinds[row["category"]].append(row)
        for kind, such in sorted(kinds.items()):
            print(line(kind, such))
        if picture is not None:
            draw(calibration(told)[1], tool, picture)


def draw(points: list[tuple[float, float, int]], tool: str, path: Path) -> None:
    """The share that is right over the confidence; the diagonal is what a confidence should mean."""
    side, edge = 480, 56
    page = Image.new("RGB", (side + 2 * edge, side + 2 * edge), (255, 255, 255))
    pen = ImageDraw.Draw(page)

    def at(x: float, y: float) -> tuple[float, float]:
        return edge + side * x, edge + side * (1 - y)

    for i in range(11):
        pen.line([at(i / 10, 0), at(i / 10, 1)], (230, 230, 235))
        pen.line([at(0, i / 10), at(1, i / 10)], (230, 230, 235))
        pen.text((at(i / 10, 0)[0] - 8, at(0, 0)[1] + 6), f"{i / 10:.1f}", (60, 60, 70))
        pen.text((edge - 26, at(0, i / 10)[1] - 6), f"{i / 10:.1f}", (60, 60, 70))
    pen.line([at(0, 0), at(1, 1)], (150, 150, 160), 2)
    pen.line([at(x, y) for x, y, _ in points], (40, 90, 200), 3)
    for x, y, count in points:
        radius = 3 + count**0.5 / 4
        left, top = at(x, y)
        pen.ellipse([left - radius, top - radius, left + radius, top + radius], (40, 90, 200))
        pen.text((left + radius + 3, top - 6), str(count), (60, 60, 70))
    pen.text((edge, 16), f"{tool}: share that is right, over its confidence", (20, 20, 30))
    page.save(path, optimize=True)
