"""Ways to spoil pixel art, each with the truth beside it.

    python damage.py list
    python damage.py write --set tune --sources 12 --seed 1 --output /tmp/pixel_tune     # pictures and truth.json
    python damage.py sheet --set tune --output /tmp/sheet.png                            # one picture a category

A damage takes a source at its true size and gives a picture some 128 to 1100 px a side. Everything
random comes from (seed, source, category), so one picture can be made again alone. `kinds.py` has
the sixty damages of the report, `wild.py` and `held_out.py` those of public complaints, `chains.py`
random recipes, `textures.py` those that repeat, and `fourth.py` and `fifth.py` those that nothing
was fitted on.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from canvas import LONG_SIDE, Canvas, Damaged, flattened
from chains import CHAINS
from fifth import FIFTH
from fourth import FOURTH, drawn_art
from held_out import HELD_OUT
from kinds import CATEGORIES as REPORT
from kinds import Category
from PIL import Image, ImageDraw
from sources import DATA, Pixels, Source, load, rng_of, subsample
from textures import TEXTURES
from wild import WILD

__all__ = ["CATEGORIES", "GROUPS", "LONG_SIDE", "Damaged", "as_it_is", "spoil"]

GROUPS: dict[str, dict[str, Category]] = {
    "report": REPORT, "wild": WILD, "held-out": HELD_OUT, "chains": CHAINS, "textures": TEXTURES, "fourth": FOURTH,
    "fifth": FIFTH,
}  # fmt: skip
CATEGORIES: dict[str, Category] = {name: kind for group in GROUPS.values() for name, kind in group.items()}


def spoil(source: Source, category: str, seed: int) -> Damaged:
    rng = rng_of("damage", seed, source.name, category)
    kind = CATEGORIES[category]
    truth = flattened(rng, source.pixels) if rng.random() < kind.matte else source.pixels
    made = kind.spoil(rng, truth)
    return made.done() if isinstance(made, Canvas) else made


def as_it_is(pixels: Pixels) -> Damaged:
    """Art at its own size: every pixel is a cell."""
    rows, cols = pixels.shape[:2]
    middles = np.meshgrid(np.arange(cols, dtype=np.float32) + 0.5, np.arange(rows, dtype=np.float32) + 0.5)
    truth = np.array(Image.fromarray(pixels).convert("RGBA"))
    return Damaged(pixels, truth, 1.0, 1.0, 0.0, 0.0, np.stack(middles, axis=-1).astype(np.float32))


def write(sources: list[Source], group: str, seed: int, output: Path) -> None:
    (output / "truth").mkdir(parents=True, exist_ok=True)
    rows = []
    for source in sources:
        for category in GROUPS[group]:
            damaged = spoil(source, category, seed)
            file, truth = f"{category}__{source.name}.png", f"truth/{category}__{source.name}.png"
            Image.fromarray(damaged.picture).save(output / file, compress_level=1)
            Image.fromarray(damaged.truth).save(output / truth)
            rows.append(
                {
                    "file": file,
                    "category": category,
                    "source": source.name,
                    "judge": damaged.judge,
                    "cols": damaged.truth.shape[1],
                    "rows": damaged.truth.shape[0],
                    **{k: round(getattr(damaged, k), 4) for k in ("step_x", "step_y", "phase_x", "phase_y")},
                    "truth_file": truth,
                }
            )
    (output / "truth.json").write_text(json.dumps(rows, indent=1) + "\n")


def sheet(sources: list[Source], seed: int, output: Path) -> None:
    """One crop of every category, 220 px of the picture at its own size."""
    side, columns = 220, 8
    page = Image.new("RGB", (columns * (side + 6), -(-len(CATEGORIES) // columns) * (side + 20)), (90, 90, 110))
    pen = ImageDraw.Draw(page)
    for i, category in enumerate(CATEGORIES):
        damaged = spoil(sources[i % len(sources)], category, seed)
        left, top = i % columns * (side + 6), i // columns * (side + 20)
        picture = Image.fromarray(damaged.picture).convert("RGBA")
        x, y = max(0, (picture.width - side) // 2), max(0, (picture.height - side) // 2)
        page.paste(picture.crop((x, y, min(x + side, picture.width), min(y + side, picture.height))), (left, top + 14),
                   picture.crop((x, y, min(x + side, picture.width), min(y + side, picture.height))))  # fmt: skip
        pen.text((left + 2, top + 1), f"{category}  {damaged.step_x:.2f} x {damaged.step_y:.2f}", fill=(255, 255, 255))
    page.save(output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["list", "write", "sheet"])
    parser.add_argument("--set", default="tune", help="tune, report, or a folder of sprites")
    parser.add_argument("--group", default="report", choices=GROUPS, help="which damages to write")
    parser.add_argument("--sources", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    if args.command == "list":
        for group, kinds in GROUPS.items():
            for name, category in kinds.items():
                print(f"{group:10} {category.group:10} {name}")
        return
    if args.set == "fourth":
        sources = drawn_art(args.sources, args.seed)
    else:
        folder = DATA / args.set if (DATA / args.set).is_dir() else Path(args.set)
        sources = subsample(load(folder), args.sources, args.seed)
    if args.command == "write":
        write(sources, args.group, args.seed, args.output)
    else:
        sheet(sources, args.seed, args.output)


if __name__ == "__main__":
    main()
