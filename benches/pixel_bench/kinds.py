"""The sixty damages of the report: enlarging, cropping, blur, lossy files, noise, bent lattices,
light, diffusion.

The list follows the description of pixel-bench by Retro Diffusion; the code is our own.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from canvas import (
    LONG_SIDE,
    SHORT_SIDE,
    Canvas,
    Damaged,
    Rng,
    axes,
    blur,
    drifting,
    edges_wobble,
    multiplied,
    tilted,
    unequal,
    warped,
)
from PIL import Image
from scipy import ndimage
from sources import Pixels

# Damages too long for one line of the table.


def recoloured(rng: Rng, truth: Pixels, amount: float) -> Pixels:
    """Every cell a little off its colour."""
    moved = truth.astype(np.float32)
    moved[..., :3] += rng.normal(0, amount, (*truth.shape[:2], 3))
    return np.where(truth[..., 3:] > 0, moved.clip(0, 255).round(), 0).astype(np.uint8)


def shaded_cells(canvas: Canvas, rng: Rng, amount: float) -> Canvas:
    """A small slope of light inside each cell, each in its own direction."""
    cx, cy = np.meshgrid(canvas.x.cells(), canvas.y.cells())
    angle = rng.uniform(0, 2 * np.pi, (canvas.truth.shape[0] + 1, canvas.truth.shape[1] + 1)).astype(np.float32)
    turn = angle[cy.astype(int), cx.astype(int)]
    slope = (cx % 1 - 0.5) * np.cos(turn) + (cy % 1 - 0.5) * np.sin(turn)
    return canvas.added((2 * amount * slope)[..., None].astype(np.float32))


def lined(canvas: Canvas, rng: Rng, strength: float) -> Canvas:
    """A thin line between cells, as editors and bead patterns draw it."""
    columns, lines = np.floor(canvas.x.cells()), np.floor(canvas.y.cells())
    on = (np.diff(columns, prepend=columns[0]) > 0)[None, :] | (np.diff(lines, prepend=lines[0]) > 0)[:, None]
    tone = float(rng.choice([0.0, 255.0]))
    alpha = canvas.image[..., 3:] / 255
    canvas.image[..., :3] += (on[..., None] * strength) * (tone * alpha - canvas.image[..., :3])
    return canvas


def broken(canvas: Canvas, rng: Rng, share: float) -> Canvas:
    """Gaps in dark strokes: part of a dark cell takes the colour of a lighter neighbour."""
    truth = canvas.truth.astype(np.float32)
    luma = truth[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32) + (255 - truth[..., 3])
    sides = [(0, 1), (0, -1), (1, 0), (-1, 0)]
    around = np.stack([np.roll(luma, side, axis=(0, 1)) for side in sides])
    dark = np.argwhere((luma < 90) & (around.max(axis=0) > luma + 35))
    source = multiplied(canvas.truth)
    for row, col in dark[rng.permutation(len(dark))[: int(share * len(dark))]]:
        down, right = sides[int(around[:, row, col].argmax())]
        left = (col - canvas.x.start) * canvas.x.step
        top = (row - canvas.y.start) * canvas.y.step
        width, height = rng.uniform(0.45, 0.85, 2) * (canvas.x.step, canvas.y.step)
        left += rng.uniform(0, canvas.x.step - width)
        top += rng.uniform(0, canvas.y.step - height)
        x0, x1, y0, y1 = (max(0, round(v)) for v in (left, left + width, top, top + height))
        other = source[(row - down) % len(source), (col - right) % source.shape[1]]
        canvas.image[y0:y1, x0:x1] += 0.8 * (other - canvas.image[y0:y1, x0:x1])
    return canvas


def speckled(canvas: Canvas, rng: Rng, share: float) -> Canvas:
    """Dead pixels: single ones and small blots, black, white or of any colour."""
    height, width = canvas.image.shape[:2]
    for _ in range(int(share * height * width)):
        x, y, size = rng.integers(width), rng.integers(height), 1 + int(rng.random() < 0.15)
        blot = canvas.image[y : y + size, x : x + size]
        colour = (0, 0, 0) if rng.random() < 0.3 else (255, 255, 255) if rng.random() < 0.4 else rng.uniform(0, 255, 3)
        blot[..., :3] = np.asarray(colour, np.float32) * (blot[..., 3:] / 255)
    return canvas


def soft_edges(canvas: Canvas, cells: float) -> Canvas:
    """Alpha blurred, colour not: it spreads outward under the soft rim."""
    spread = blur(canvas.image, cells * canvas.step)
    alpha = spread[..., 3:]
    outside = np.divide(spread[..., :3] * 255, alpha, out=np.zeros_like(spread[..., :3]), where=alpha > 0)
    colour = np.where(canvas.image[..., 3:] > 0, canvas.image[..., :3], outside)
    canvas.image = np.concatenate([colour * (alpha / 255), alpha], axis=-1)
    return canvas


def cut_out(rng: Rng, truth: Pixels) -> Pixels:
    """A scene gets a round window, so that it has an alpha edge too; a sprite has one already."""
    if (truth[..., 3] < 255).any():
        return truth
    rows, cols = truth.shape[:2]
    y, x = (np.mgrid[0:rows, 0:cols] + 0.5) / np.array([rows, cols]).reshape(2, 1, 1) * 2 - 1
    power = rng.uniform(1.6, 4)
    inside = np.abs(x) ** power + np.abs(y) ** power < 0.95
    return np.where(inside[..., None], truth, 0).astype(np.uint8)


def lit(canvas: Canvas, rng: Rng) -> Canvas:
    """A slope of light and tint over the whole picture."""
    height, width = canvas.image.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    t = (x / width - 0.5) * np.cos(angle) + (y / height - 0.5) * np.sin(angle)
    tint = rng.uniform(-18, 18, 3).astype(np.float32)
    canvas.image[..., :3] *= 1 + np.float32(rng.uniform(0.35, 0.6)) * t[..., None]
    return canvas.added(t[..., None] * 2 * tint)


def fringed(canvas: Canvas, cells: float) -> Canvas:
    """Red and blue shifted apart, as by a cheap lens."""
    shift = cells * canvas.x.step
    for channel, by in ((0, shift), (2, -shift)):
        canvas.image[..., channel] = ndimage.shift(canvas.image[..., channel], (0, by), order=1, mode="nearest")
    return canvas.clamped()


def smeared(canvas: Canvas, rng: Rng, cells: float) -> Canvas:
    length = max(2, round(cells * canvas.step))
    canvas.image = ndimage.uniform_filter1d(canvas.image, length, axis=int(rng.integers(2)), mode="nearest")
    return canvas


def dithered(canvas: Canvas, colours: int) -> Canvas:
    """A GIF of few colours, errors spread at the size of the picture."""
    picture = Image.fromarray(canvas.image[..., :3].round().astype(np.uint8))
    palette = picture.quantize(colours, Image.Quantize.MEDIANCUT)
    canvas.image[..., :3] = np.array(
        picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).convert("RGB")
    )
    return canvas


def painted(canvas: Canvas, cells: float) -> Canvas:
    """Kuwahara's filter: each pixel takes the mean of the calmest of four windows about it. Looks brushed."""
    half = max(1, round(cells * canvas.step / 2))
    height, width = canvas.image.shape[:2]
    page = np.pad(canvas.image, ((half, half), (half, half), (0, 0)), mode="edge")
    size = (2 * half + 1, 2 * half + 1, 0)
    mean = ndimage.uniform_filter(page, size, mode="nearest")
    spread = (ndimage.uniform_filter(page**2, size, mode="nearest") - mean**2).sum(axis=-1)
    least = np.full((height, width), np.inf, np.float32)
    for top in (0, 2 * half):
        for left in (0, 2 * half):
            window = (slice(top, top + height), slice(left, left + width))
            calmer = spread[window] < least
            canvas.image = np.where(calmer[..., None], mean[window], canvas.image)
            least = np.minimum(least, spread[window])
    return canvas


def up_down_up(rng: Rng, truth: Pixels) -> Canvas:
    """Enlarged clean, shrunk soft, enlarged soft."""
    canvas = straight(rng, truth, "integer", Image.Resampling.NEAREST)
    width, height = canvas.x.pixels, canvas.y.pixels
    down = rng.uniform(0.5, 0.8)
    canvas.scaled_to(round(width * down), round(height * down), Image.Resampling.BICUBIC)
    up = max(rng.uniform(0.75, 1.3), SHORT_SIDE / min(width, height))
    up = min(up, LONG_SIDE / max(width, height))
    return canvas.scaled_to(round(width * up), round(height * up), Image.Resampling.BICUBIC)


def mush(rng: Rng, truth: Pixels, wobble: float, soft: float, tint: float, drift: float = 0.0) -> Canvas:
    """What a diffusion model makes of pixel art: edges off the lattice, soft, then over-sharp, colours that swim."""
    coloured = recoloured(rng, truth, tint / 2)
    canvas = Canvas(coloured, *axes(rng, truth, "fractional"))
    bend = edges_wobble(rng, truth.shape, wobble)
    canvas = warped(canvas, rng, drift, bend) if drift else canvas.sampled(bend)
    canvas.blurred(soft).sharpened(2 * soft, 0.6).clouds(rng, 1.5, tint).noise(rng, 1.5)
    canvas.truth = truth
    return canvas


def straight(rng: Rng, truth: Pixels, kind: str, filter: Image.Resampling, shifted: bool = False) -> Canvas:
    return Canvas(truth, *axes(rng, truth, kind, shifted)).resized(filter)


NEAREST, BILINEAR, BICUBIC, LANCZOS, BOX = (
    Image.Resampling.NEAREST,
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
    Image.Resampling.BOX,
)


def supersampled(rng: Rng, truth: Pixels, kind: str, shifted: bool = False) -> Canvas:
    """Edges between cells mixed by the area each has in the pixel."""
    return Canvas(truth, *axes(rng, truth, kind, shifted)).sampled(lambda cx, cy: (cx, cy))


def swaying(rng: Rng, truth: Pixels, amount: float) -> Canvas:
    return drifting(Canvas(truth, *axes(rng, truth, "fractional")), rng, amount)


def uneven(rng: Rng, truth: Pixels, amount: float) -> Canvas:
    return unequal(Canvas(truth, *axes(rng, truth, "fractional")), lambda n: 1 + rng.uniform(-amount, amount, n))


def bent(rng: Rng, truth: Pixels, cells: float) -> Canvas:
    return warped(Canvas(truth, *axes(rng, truth, "fractional")), rng, cells, lambda cx, cy: (cx, cy))


def jittered(rng: Rng, truth: Pixels) -> Canvas:
    canvas = Canvas(recoloured(rng, truth, 6), *axes(rng, truth, "fractional")).resized(NEAREST)
    canvas.truth = truth
    return canvas


@dataclass(frozen=True)
class Category:
    group: str
    spoil: Callable[[Rng, Pixels], Canvas | Damaged]
    matte: float = 0.5
    """How often a sprite is put over a flat colour first; 1.0 where the damage knows no alpha."""


def _upscales() -> dict[str, Category]:
    made: dict[str, Category] = {}
    for name, kind, filter, shifted in [
        ("nearest_integer", "integer", NEAREST, False),
        ("nearest_integer_fine", "integer_fine", NEAREST, False),
        ("nearest_fractional", "fractional", NEAREST, False),
        ("nearest_fractional_fine", "fractional_fine", NEAREST, False),
        ("nearest_nonsquare", "nonsquare", NEAREST, False),
        ("nearest_integer_cropped", "integer", NEAREST, True),
        ("nearest_fractional_cropped", "fractional", NEAREST, True),
        ("bilinear_integer", "integer", BILINEAR, False),
        ("bilinear_fractional", "fractional", BILINEAR, False),
        ("bilinear_nonsquare", "nonsquare", BILINEAR, False),
        ("bilinear_cropped", "fractional", BILINEAR, True),
        ("bicubic_integer", "integer", BICUBIC, False),
        ("bicubic_fractional", "fractional", BICUBIC, False),
        ("bicubic_cropped", "fractional", BICUBIC, True),
        ("lanczos_integer", "integer", LANCZOS, False),
        ("lanczos_fractional", "fractional", LANCZOS, False),
        ("lanczos_fractional_fine", "fractional_fine", LANCZOS, False),
    ]:
        group = "crop" if shifted else name.split("_")[0]
        made[name] = Category(
            group,
            lambda rng, truth, k=kind, f=filter, s=shifted: straight(rng, truth, k, f, s),  # type: ignore[misc]
        )
    return made


CATEGORIES: dict[str, Category] = {
    **_upscales(),
    "area_fractional": Category("resample", lambda r, t: supersampled(r, t, "fractional")),
    "area_cropped": Category("crop", lambda r, t: supersampled(r, t, "nonsquare", shifted=True)),
    "up_down_up": Category("resample", up_down_up),
    "blur_light": Category("blur", lambda r, t: supersampled(r, t, "fractional").blurred(0.15)),
    "blur_medium": Category("blur", lambda r, t: supersampled(r, t, "fractional").blurred(0.28)),
    "blur_heavy": Category("blur", lambda r, t: supersampled(r, t, "fractional").blurred(0.45)),
    "blur_motion": Category("blur", lambda r, t: smeared(supersampled(r, t, "fractional"), r, 0.5)),
    "jpeg_95": Category("codec", lambda r, t: straight(r, t, "fractional", NEAREST).coded(95), 1.0),
    "jpeg_85": Category("codec", lambda r, t: straight(r, t, "integer", NEAREST).coded(85), 1.0),
    "jpeg_70": Category("codec", lambda r, t: straight(r, t, "fractional", BICUBIC).coded(70), 1.0),
    "jpeg_50": Category("codec", lambda r, t: straight(r, t, "fractional", NEAREST).coded(50), 1.0),
    "jpeg_cropped": Category("codec", lambda r, t: supersampled(r, t, "fractional", shifted=True).coded(75), 1.0),
    "webp_50": Category("codec", lambda r, t: straight(r, t, "fractional", BILINEAR).coded(50, "WEBP"), 1.0),
    "gif_dither": Category("codec", lambda r, t: dithered(straight(r, t, "fractional", BICUBIC), 24), 1.0),
    "noise_light": Category("noise", lambda r, t: straight(r, t, "fractional", NEAREST).noise(r, 4)),
    "noise_medium": Category("noise", lambda r, t: straight(r, t, "fractional", NEAREST).noise(r, 12)),
    "noise_heavy": Category("noise", lambda r, t: straight(r, t, "fractional", NEAREST).noise(r, 28)),
    "noise_channels": Category("noise", lambda r, t: supersampled(r, t, "fractional").noise(r, (18, 5, 24))),
    "noise_grain": Category("noise", lambda r, t: straight(r, t, "fractional", BICUBIC).grain(r, 12)),
    "dead_pixels": Category("noise", lambda r, t: speckled(straight(r, t, "fractional", NEAREST), r, 0.012)),
    "palette_jitter": Category("cells", jittered),
    "cell_shading": Category("cells", lambda r, t: shaded_cells(straight(r, t, "fractional", NEAREST), r, 14)),
    "grid_lines": Category("cells", lambda r, t: lined(straight(r, t, "fractional", NEAREST), r, 0.3)),
    "broken_outlines": Category("cells", lambda r, t: broken(supersampled(r, t, "fractional"), r, 0.35).blurred(0.1)),
    "edge_jitter": Category(
        "lattice",
        lambda r, t: Canvas(t, *axes(r, t, "fractional")).sampled(edges_wobble(r, t.shape, 0.2)),
    ),
    "grid_drift_light": Category("lattice", lambda r, t: swaying(r, t, 0.04)),
    "grid_drift": Category("lattice", lambda r, t: swaying(r, t, 0.1)),
    "grid_uneven": Category("lattice", lambda r, t: uneven(r, t, 0.22)),
    "warp_light": Category("lattice", lambda r, t: bent(r, t, 0.4)),
    "warp_strong": Category("lattice", lambda r, t: bent(r, t, 0.9)),
    "tilt": Category("lattice", lambda r, t: tilted(Canvas(t, *axes(r, t, "fractional")), r.choice([-1, 1]) * 0.5)),
    "halo": Category("light", lambda r, t: straight(r, t, "fractional", BICUBIC).sharpened(0.4, 1.6)),
    "soft_alpha": Category(
        "light", lambda r, t: soft_edges(straight(r, cut_out(r, t), "fractional", NEAREST), 0.3), 0.0
    ),
    "gradient_overlay": Category("light", lambda r, t: lit(straight(r, t, "fractional", NEAREST), r)),
    "colour_fringe": Category("light", lambda r, t: fringed(supersampled(r, t, "fractional"), 0.22)),
    "ai_mush_light": Category("generated", lambda r, t: mush(r, t, 0.1, 0.14, 4)),
    "ai_mush": Category("generated", lambda r, t: mush(r, t, 0.2, 0.22, 7)),
    "ai_mush_heavy": Category("generated", lambda r, t: mush(r, t, 0.28, 0.32, 9, drift=0.35)),
    "painterly": Category("generated", lambda r, t: painted(mush(r, t, 0.16, 0.18, 6), 0.42).noise(r, 2)),
    "painterly_strong": Category("generated", lambda r, t: painted(mush(r, t, 0.22, 0.28, 8), 0.6).clouds(r, 0.8, 4)),
    "kitchen_sink_light": Category(
        "sink", lambda r, t: supersampled(r, t, "fractional", shifted=True).blurred(0.15).noise(r, 5).coded(85), 1.0
    ),
    "kitchen_sink": Category(
        "sink",
        lambda r, t: (
            lit(supersampled(r, t, "nonsquare", shifted=True).blurred(0.25).sharpened(0.4, 0.8), r)
            .noise(r, 9)
            .coded(70)
        ),
        1.0,
    ),
    "kitchen_sink_generated": Category(
        "sink",
        lambda r, t: broken(mush(r, t, 0.2, 0.2, 6, drift=0.3), r, 0.15).blurred(0.12).noise(r, 6).coded(60),
        1.0,
    ),
}
