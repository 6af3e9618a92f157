"""A fifth set of damages, for one look at the end.

Neither a weight nor a rule of dgx-pixels has seen these kinds. They are laid on the drawn art of
`fourth.py` with another seed.
"""

import numpy as np
from canvas import Canvas, Rng
from kinds import BICUBIC, BILINEAR, LANCZOS, Category, straight
from sources import Pixels
from wild import whole_cells


def frosted(rng: Rng, truth: Pixels) -> Canvas:
    """Seen through frosted glass: each pixel is taken from a place nearby."""
    canvas = whole_cells(rng, truth, 5, 12)
    height, width = canvas.image.shape[:2]
    far = max(1, round(float(rng.uniform(0.1, 0.3)) * canvas.step))
    y, x = np.mgrid[0:height, 0:width]
    dy, dx = rng.integers(-far, far + 1, (2, height, width))
    canvas.image = canvas.image[np.clip(y + dy, 0, height - 1), np.clip(x + dx, 0, width - 1)]
    return canvas


def ghosted(rng: Rng, truth: Pixels) -> Canvas:
    """A weaker second exposure, a part of a cell to the side and below."""
    canvas = straight(rng, truth, "fractional", BICUBIC)
    by = [round(float(part) * canvas.step) for part in rng.uniform(0.2, 0.8, 2)]
    canvas.image = 0.7 * canvas.image + 0.3 * np.roll(canvas.image, by, axis=(0, 1))
    return canvas.clamped()


def embossed(rng: Rng, truth: Pixels) -> Canvas:
    """The slopes of the brightness, as a paint program's relief."""
    canvas = straight(rng, truth, "fractional", LANCZOS).blurred_px(float(rng.uniform(0.5, 1.5)))
    luma = canvas.image[..., :3].mean(axis=-1, keepdims=True)
    relief = np.roll(luma, (1, 1), axis=(0, 1)) - np.roll(luma, (-1, -1), axis=(0, 1))
    canvas.image[..., :3] = 128 + float(rng.uniform(0.6, 1.5)) * relief
    return canvas.clamped()


def one_bit(rng: Rng, truth: Pixels) -> Canvas:
    """Enlarged smoothly, then black where it is darker than half of it, and white elsewhere."""
    canvas = straight(rng, truth, "fractional", BILINEAR)
    luma = canvas.image[..., :3].mean(axis=-1, keepdims=True)
    canvas.image[..., :3] = 255.0 * (luma > np.median(luma))
    return canvas


FIFTH: dict[str, Category] = {
    "frosted": Category("screen", frosted, 1.0),
    "ghosted": Category("light", ghosted, 1.0),
    "embossed": Category("light", embossed, 1.0),
    "one_bit": Category("codec", one_bit, 1.0),
}
