"""A sheet: variants of one sprite in one PNG file, with an index that engines read.

python examples/python/sheet.py "a potion" --count 8 --palette pico-8 --output potions.png
"""

from __future__ import annotations

import argparse

import dgx_pixels as dp


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw variants of a sprite into one sheet.")
    parser.add_argument("prompt", nargs="?", default="a potion")
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--palette", default="pico-8", help="one palette makes them a set")
    parser.add_argument("--model")
    parser.add_argument("--output", default="sheet.png")
    arguments = parser.parse_args()

    with dp.Engine(arguments.model) as engine:
        variants = engine.generate(
            arguments.prompt,
            count=arguments.count,
            seed=arguments.seed,
            palette=arguments.palette,
            size=(32, 32),
        )
    # Variants that look the same are kept once. They are named by their seeds.
    frames: dict[str, dp.Sprite] = {}
    for variant in variants:
        if all(variant != frame for frame in frames.values()):
            frames[f"seed_{variant.seed}"] = variant

    sheet = dp.sheet(arguments.output, frames, columns=4, gutter=1, extrude=1, force=True)
    for frame in sheet.index["frames"]:
        at = frame["frame"]
        print(f"{frame['filename']}: {at['w']}x{at['h']} at {at['x']},{at['y']}")
    report = dp.validate(arguments.output)
    for finding in report.findings:
        print(f"{finding.severity}: {finding.reason}; {finding.fix}")
    print(f"{sheet.path}: {len(frames)} frames, {report.errors} errors")


if __name__ == "__main__":
    main()
