"""Textures that repeat: dithering at the size of the picture, and cells that are no plain squares.

A development set: dgx-pixels was fitted on these kinds after the fourth set had shown that it is
wrong and sure about such pictures.
"""

from collections.abc import Callable

import numpy as np
from canvas import Canvas, Field, Rng
from kinds import BICUBIC, BILINEAR, LANCZOS, NEAREST, Category, straight
from PIL import Image
from sources import Pixels
from wild import whole_cells

Spoil = Callable[[Rng, Pixels], Canvas]

# Dithering: thresholds from 0 to 1 that repeat over the picture.


def bayer(side: int) -> Field:
    pattern = np.zeros((1, 1), np.float32)
    while len(pattern) < side:
        pattern = np.block([[4 * pattern, 4 * pattern + 2], [4 * pattern + 3, 4 * pattern + 1]])
    return pattern / side**2


def halftone(side: int) -> Field:
    """Dots that grow from the middle of each square."""
    y, x = np.mgrid[0:side, 0:side] - (side - 1) / 2 + 0.01
    order = np.argsort(np.argsort(np.hypot(x, 1.07 * y).ravel()))
    return (order.reshape(side, side) / side**2).astype(np.float32)


def lines(side: int) -> Field:
    return np.repeat(np.random.default_rng(side).permutation(side)[:, None] / side, side, axis=1).astype(np.float32)


def dithered(pattern: Callable[[Rng], Field]) -> Spoil:
    """Few levels a channel, which the pattern chooses between."""

    def spoil(rng: Rng, truth: Pixels) -> Canvas:
        filter = [NEAREST, BILINEAR, BICUBIC, LANCZOS][rng.integers(4)]
        canvas = straight(rng, truth, "fractional", filter)
        height, width = canvas.image.shape[:2]
        tile, gap = pattern(rng), 255 / int(rng.integers(1, 7))
        laid = np.tile(tile, (height // len(tile) + 1, width // tile.shape[1] + 1))[:height, :width, None]
        canvas.image[..., :3] = np.floor(canvas.image[..., :3] / gap + laid * 0.999) * gap
        return canvas.clamped()

    return spoil


def spread_error(rng: Rng, truth: Pixels) -> Canvas:
    """Floyd and Steinberg's dithering to few colors."""
    canvas = straight(rng, truth, "fractional", [BILINEAR, BICUBIC, LANCZOS][rng.integers(3)])
    picture = Image.fromarray(canvas.image[..., :3].round().clip(0, 255).astype(np.uint8))
    few = picture.quantize(int(rng.choice([4, 8, 16])))
    canvas.image[..., :3] = np.array(picture.quantize(palette=few, dither=Image.Dither.FLOYDSTEINBERG).convert("RGB"))
    return canvas


# Cells of a shape.


def shaped(cover: Callable[[Rng, Field, Field], Field], low: int = 6, high: int = 15) -> Spoil:
    """Each cell drawn by `cover(x, y)`, -0.5 to 0.5 from its middle.

    1 shows the cell, 0 what is between, 2 white.
    """

    def spoil(rng: Rng, truth: Pixels) -> Canvas:
        canvas = whole_cells(rng, truth, low, high)
        x, y = np.meshgrid(canvas.x.cells(4) % 1 - 0.5, canvas.y.cells(4) % 1 - 0.5)
        height, width = canvas.image.shape[:2]
        shown = cover(rng, x, y).reshape(height, 4, width, 4).mean(axis=(1, 3))[..., None]
        ground = rng.choice([[0, 0, 0], [20, 20, 28], [90, 90, 96], [255, 255, 255], [200, 190, 160]])
        inside = canvas.image[..., :3] * np.minimum(shown, 1) + ground * (1 - np.minimum(shown, 1))
        canvas.image[..., :3] = inside + np.maximum(shown - 1, 0) * (255 - inside)
        return canvas.blurred_px(float(rng.choice([0, 0.5, 0.9]))).clamped()

    return spoil


def lamp(rng: Rng, x: Field, y: Field) -> Field:
    return (np.hypot(x, y) < rng.uniform(0.3, 0.5)).astype(np.float32)


def glowing(rng: Rng, x: Field, y: Field) -> Field:
    return np.exp(-((np.hypot(x, y) / rng.uniform(0.28, 0.45)) ** 2)).astype(np.float32)


def ring(rng: Rng, x: Field, y: Field) -> Field:
    away = np.hypot(x, y)
    return ((away < 0.49) & (away > rng.uniform(0.1, 0.22))).astype(np.float32)


def gapped(rng: Rng, x: Field, y: Field) -> Field:
    return (np.maximum(abs(x), abs(y)) < rng.uniform(0.32, 0.45)).astype(np.float32)


def diamond(rng: Rng, x: Field, y: Field) -> Field:
    return (abs(x) + abs(y) < rng.uniform(0.45, 0.6)).astype(np.float32)


def stitch(rng: Rng, x: Field, y: Field) -> Field:
    wide = rng.uniform(0.1, 0.18)
    return ((abs(x - y) < wide) | (abs(x + y) < wide)).astype(np.float32)


def bubble(rng: Rng, x: Field, y: Field) -> Field:
    body = (np.hypot(x, y) < rng.uniform(0.42, 0.5)).astype(np.float32)
    return body + (np.hypot(x + 0.15, y + 0.17) < 0.1)


def stud(rng: Rng, x: Field, y: Field) -> Field:
    away = np.hypot(x, y)
    return 1 - 0.35 * (abs(away - rng.uniform(0.26, 0.34)) < 0.05) - 0.5 * (np.maximum(abs(x), abs(y)) > 0.46)


def knit(rng: Rng, x: Field, y: Field) -> Field:
    return 1 - 0.45 * (abs((y + 0.8 * abs(x)) % 0.5 - 0.25) < rng.uniform(0.05, 0.1))


def corner_mark(rng: Rng, x: Field, y: Field) -> Field:
    """A small dark square in one corner of each cell."""
    side = rng.uniform(0.12, 0.25)
    return 1 - 0.8 * ((x > 0.5 - side) & (y > 0.5 - side))


TEXTURES: dict[str, Category] = {
    "dither_bayer_2": Category("texture", dithered(lambda _: bayer(2)), 1.0),
    "dither_bayer_4": Category("texture", dithered(lambda _: bayer(4)), 1.0),
    "dither_bayer_8": Category("texture", dithered(lambda _: bayer(8)), 1.0),
    "dither_checker": Category("texture", dithered(lambda _: np.array([[0.25, 0.75], [0.75, 0.25]], np.float32)), 1.0),
    "dither_rows": Category("texture", dithered(lambda rng: lines(int(rng.integers(2, 5)))), 1.0),
    "dither_columns": Category("texture", dithered(lambda rng: lines(int(rng.integers(2, 5))).T), 1.0),
    "dither_halftone": Category("texture", dithered(lambda rng: halftone(int(rng.integers(3, 7)))), 1.0),
    "dither_spread": Category("texture", spread_error, 1.0),
    "cells_lamp": Category("texture", shaped(lamp), 1.0),
    "cells_glowing": Category("texture", shaped(glowing), 1.0),
    "cells_ring": Category("texture", shaped(ring), 1.0),
    "cells_gapped": Category("texture", shaped(gapped), 1.0),
    "cells_diamond": Category("texture", shaped(diamond), 1.0),
    "cells_stitch": Category("texture", shaped(stitch, 8), 1.0),
    "cells_bubble": Category("texture", shaped(bubble), 1.0),
    "cells_stud": Category("texture", shaped(stud, 8), 1.0),
    "cells_knit": Category("texture", shaped(knit, 8), 1.0),
    "cells_corner_mark": Category("texture", shaped(corner_mark), 1.0),
}
