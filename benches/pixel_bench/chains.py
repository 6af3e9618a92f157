"""Recipes of two to five random steps each, to fit the confidence of dgx-pixels on.

A recipe's name is its seed, so a kind is one chain of steps whose amounts differ from picture to
picture. No single chain is meant to be seen in the wild; forty of them cover more than a list of
known damages does, and can be left out in turn.
"""

from collections.abc import Callable

import numpy as np
from canvas import Canvas, Rng, tilted, warped
from kinds import (
    BICUBIC,
    BILINEAR,
    BOX,
    LANCZOS,
    NEAREST,
    Category,
    lined,
    lit,
    shaded_cells,
    speckled,
    straight,
    supersampled,
)
from PIL import Image, ImageDraw
from scipy import ndimage
from sources import Pixels, rng_of

Step = Callable[[Rng, Canvas], Canvas]
COUNT = 48
FILTERS = (BILINEAR, BICUBIC, LANCZOS, BOX, NEAREST)


def resized(rng: Rng, canvas: Canvas) -> Canvas:
    scale = float(rng.uniform(max(0.7, 2.6 / canvas.step), 1.4))
    size = (round(canvas.x.pixels * scale), round(canvas.y.pixels * scale))
    return canvas.scaled_to(*size, FILTERS[rng.integers(len(FILTERS) - 1)])


def median(rng: Rng, canvas: Canvas) -> Canvas:
    canvas.image = ndimage.median_filter(canvas.image, (3, 3, 1))
    return canvas.clamped()


def striped(rng: Rng, canvas: Canvas) -> Canvas:
    """Lines or stripes of a screen, of two or three pixels, along either axis, in all channels or one by one."""
    period, along = int(rng.integers(2, 4)), int(rng.integers(2))
    shade = np.float32(rng.uniform(0.5, 0.9))
    at = np.arange(canvas.image.shape[along]) % period
    for channel in range(3):
        wanted = at == (channel % period if rng.random() < 0.5 else 0)
        part = canvas.image[wanted, :, channel] if along == 0 else canvas.image[:, wanted, channel]
        if along == 0:
            canvas.image[wanted, :, channel] = part * shade
        else:
            canvas.image[:, wanted, channel] = part * shade
    return canvas


def few_colours(rng: Rng, canvas: Canvas) -> Canvas:
    picture = Image.fromarray(canvas.image[..., :3].round().clip(0, 255).astype(np.uint8))
    dither = Image.Dither.FLOYDSTEINBERG if rng.random() < 0.4 else Image.Dither.NONE
    colours = picture.quantize(int(rng.choice([32, 64, 128])))
    canvas.image[..., :3] = np.array(picture.quantize(palette=colours, dither=dither).convert("RGB"))
    return canvas


def gamma(rng: Rng, canvas: Canvas) -> Canvas:
    canvas.image[..., :3] = 255 * (canvas.image[..., :3].clip(0, 255) / 255) ** np.float32(rng.uniform(0.5, 2.2))
    return canvas


def bordered(rng: Rng, canvas: Canvas) -> Canvas:
    """Something of the screen's own size over a corner: a box with lines in it."""
    height, width = canvas.image.shape[:2]
    page = Image.fromarray(canvas.image[..., :3].round().clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(page)
    x, y = int(rng.integers(0, width // 2)), int(rng.integers(0, height // 2))
    box = [x, y, x + width // 4, y + height // 6]
    pen.rounded_rectangle(box, 5, tuple(int(v) for v in rng.integers(0, 255, 3)), (255, 255, 255), 2)
    canvas.image[..., :3] = np.array(page)
    return canvas


STEPS: tuple[Step, ...] = (
    resized,
    resized,
    median,
    striped,
    few_colours,
    gamma,
    bordered,
    lambda r, c: c.blurred(float(r.uniform(0.05, 0.3))),
    lambda r, c: c.blurred_px(float(r.uniform(0.5, 1.5))),
    lambda r, c: c.coded(int(r.integers(35, 95))),
    lambda r, c: c.coded(int(r.integers(35, 95))),
    lambda r, c: c.coded(int(r.integers(30, 90)), "WEBP"),
    lambda r, c: c.noise(r, float(r.uniform(2, 16))),
    lambda r, c: c.grain(r, float(r.uniform(2, 12))),
    lambda r, c: c.sharpened(0.2, float(r.uniform(0.5, 1.5))),
    lambda r, c: c.clouds(r, float(r.uniform(0.3, 3)), float(r.uniform(2, 10))),
    lambda r, c: lit(c, r),
    lambda r, c: shaded_cells(c, r, float(r.uniform(4, 20))),
    lambda r, c: lined(c, r, float(r.uniform(0.1, 0.5))),
    lambda r, c: speckled(c, r, 0.002),
)


def enlarged(rng: Rng, truth: Pixels, way: int) -> Canvas:
    sides = ("integer", "fractional", "fractional_fine", "nonsquare", "integer_fine")[way // 8 % 5]
    if way % 8 == 0:
        return supersampled(rng, truth, sides)
    if way % 8 == 1:
        return tilted(straight(rng, truth, sides, NEAREST), float(rng.uniform(-0.5, 0.5)))
    if way % 8 == 2:
        return warped(straight(rng, truth, sides, NEAREST), rng, float(rng.uniform(0.05, 0.35)), lambda x, y: (x, y))
    return straight(rng, truth, sides, FILTERS[way % 5])


def chain(name: str) -> Callable[[Rng, Pixels], Canvas]:
    recipe = rng_of("recipe", name)
    way = int(recipe.integers(40))
    steps = [STEPS[i] for i in recipe.integers(len(STEPS), size=int(recipe.integers(1, 5)))]

    def spoil(rng: Rng, truth: Pixels) -> Canvas:
        canvas = enlarged(rng, truth, way).clamped()
        for step in steps:
            canvas = step(rng, canvas).clamped()
        return canvas

    return spoil


CHAINS: dict[str, Category] = {f"chain_{i:02}": Category("chain", chain(f"chain_{i:02}"), 1.0) for i in range(COUNT)}
