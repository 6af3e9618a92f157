"""Prompts to sprites with Ray Data: a run that is killed goes on where it ended.

    pip install "dgx-pixels[ray]"
    python examples/python/ray_dataset.py [FOLDER]

Run it twice: the second run finds all files and draws nothing. It runs on this machine's CPU or
GPU. On a cluster, set `RAY_ADDRESS=auto`, and give a folder that all machines have mounted.
"""

from __future__ import annotations

import sys
import time

import ray

import dgx_pixels.ray

ITEMS = ["potion", "key", "shield", "torch", "crown"]
MATERIALS = ["wooden", "iron", "golden", "crystal"]


def main(folder: str) -> None:
    """Draws every item in every material, and prints what it did."""
    # Any source of Ray's will do: `ray.data.read_parquet`, `read_csv`, a table of a database.
    rows = [
        {"prompt": f"a {material} {item}", "size": "32x32", "item": item}
        for item in ITEMS
        for material in MATERIALS
    ]
    # A mistake in one row is a value in the column `error`. The others are drawn.
    rows.append({"prompt": "a cup", "size": "huge", "item": "cup"})
    prompts = ray.data.from_items(rows, override_num_blocks=4)

    sprites = dgx_pixels.ray.draw(
        prompts, folder, models=["sprite-xl"], common={"steps": 8}, workers=2, batch_size=6
    )

    started = time.monotonic()
    drawn = there = 0
    for row in sprites.iter_rows():
        if row["error"]:
            print(f"{row['prompt']}: {row['error']}")
        else:
            drawn += row["drawn"]
            there += not row["drawn"]
    seconds = time.monotonic() - started
    print(f"{drawn} drawn and {there} found in {folder} after {seconds:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "sprites")
