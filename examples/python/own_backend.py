"""A backend of your own: ten lines draw, and the engine queues, batches and makes sprites.

This one draws invaders, mirrored noise from the request's seed. Yours may call a web service, or a
model that is written with another library.

python examples/python/own_backend.py --output invaders.png
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

import dgx_pixels as dp


class Invaders(dp.Backend):
    name = "invaders"
    size = (128, 128)

    def draw(self, request: dict[str, Any]) -> Any:
        random = np.random.default_rng(request["seed"])
        half = random.random((12, 6)) < 0.5
        figure = np.pad(np.hstack([half, half[:, ::-1]]), 2)
        color = random.integers(100, 256, 3, np.uint8)
        return (figure[..., None] * color).repeat(8, axis=0).repeat(8, axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw sprites with a backend of your own.")
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--output", default="invaders.png")
    arguments = parser.parse_args()

    # A mapping or a list serves several models; the first is the default.
    with dp.Engine([Invaders(), "sketch"]) as engine:
        invaders = engine.generate("an invader", count=arguments.count, seed=1, grid=8)
        slime = engine.generate("a slime", model="sketch", seed=1)
    print(invaders[0], slime, sep="\n")
    sheet = dp.sheet(arguments.output, invaders, layout="packed", gutter=1, force=True)
    print(f"{sheet.path}: {len(invaders)} frames")


if __name__ == "__main__":
    main()
