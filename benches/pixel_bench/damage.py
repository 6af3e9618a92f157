"""Fifty-odd ways to spoil pixel art, each with the truth beside it.

    python damage.py list
    python damage.py write --set tune --sources 12 --seed 1 --output /tmp/pixel_tune     # pictures and truth.json
    python damage.py sheet --set tune --output /tmp/sheet.png                            # one picture a category

A damage takes a source at its true size and gives a picture some 128 to 1100 px a side. Everything random comes from
(seed, source, category), so one picture can be made again alone. The list of damages follows the description of
pixel-bench by Retro Diffusion; the code is our own.

Coordinates: a cell is one true pixel. Column `i` of the truth spans `phase_x + i * step_x` to `phase_x + (i + 1) *
step_x` in the picture, whose own pixels span `x` to `x + 1`. Where the crop cuts through cells, the truth keeps a
column that shows more than half of itself, so `-step_x / 2 < phase_x < step_x / 2`; crops between 0.42 and 0.58 of a
cell are not made. Where the lattice is bent, step and phase are its mean, and `centres` says where each cell is.
"""

import argparse
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage
from sources import DATA, Pixels, Source, load, rng_of, subsample

Field = NDArray[np.floating[Any]]
Rng = np.random.Generator

SHORT_SIDE, LONG_SIDE = 128, 1100
MATTES = [(255, 255, 255), (128, 128, 128), (24, 24, 32), (255, 0, 255), (0, 177, 64), (135, 176, 214), (236, 226, 198)]


@dataclass(frozen=True)
class Damaged:
    picture: Pixels
    """`[height, width, 3 or 4]`."""
    truth: Pixels
    """`[rows, cols, 4]`: the cells of which more than half can be seen."""
    step_x: float
    step_y: float
    phase_x: float
    phase_y: float
    centres: Field
    """`[rows, cols, 2]`: x and y of each cell's middle in the picture."""


@dataclass(frozen=True)
class Axis:
    """How one side of the picture runs over the cells: pixel `x` shows cell coordinate `start + x / step`."""

    pixels: int
    step: float
    start: float
    first: int
    count: int

    @property
    def phase(self) -> float:
        return (self.first - self.start) * self.step

    def cells(self, per_pixel: int = 1) -> Field:
        """The cell coordinate of each pixel's middle, `per_pixel` samples to a pixel."""
        x = (np.arange(self.pixels * per_pixel, dtype=np.float32) + 0.5) / per_pixel
        return self.start + x / np.float32(self.step)


def whole(cells: int, step: float) -> Axis:
    """All cells, and a whole number of pixels: the step gives way, as in any resize."""
    pixels = round(cells * step)
    return Axis(pixels, pixels / cells, 0.0, 0, cells)


def cut(rng: Rng, cells: int, step: float, on_pixel: bool) -> Axis:
    """A crop that starts and ends inside cells. `on_pixel`: it starts between two pixels of the uncut picture."""
    while True:
        start = float(rng.uniform(0.15, 0.85))
        if on_pixel:
            start = round(start * step) / step
        pixels = int((cells - float(rng.uniform(0.15, 0.85)) - start) * step)
        end = (start + pixels / step) % 1
        if all(0.12 < part < 0.88 and not 0.42 <= part <= 0.58 for part in (start, end)):
            first = int(start > 0.5)
            count = int(np.floor(start + pixels / step)) + int(end > 0.5) - first
            return Axis(pixels, step, start, first, count)


def axes(rng: Rng, truth: Pixels, kind: str, shifted: bool = False) -> tuple[Axis, Axis]:
    """The two sides, for `kind` integer, integer_fine, fractional, fractional_fine or nonsquare."""
    rows, cols = truth.shape[:2]
    low, high = max(3.0, SHORT_SIDE / min(rows, cols)), min(16.0, LONG_SIDE / max(rows, cols))
    if shifted:
        low = max(low, SHORT_SIDE / (min(rows, cols) - 2))
    low = min(low, high)
    if kind.startswith("integer"):
        least = int(np.ceil(low))
        most = min(least + 1, int(high)) if kind == "integer_fine" else int(high)
        # Small steps are the common ones; an even draw would be all large pictures.
        choices = np.arange(least, max(least, most) + 1)
        x = y = float(rng.choice(choices, p=(1 / choices) / (1 / choices).sum()))
    else:
        top = min(high, low + 1.8) if kind == "fractional_fine" else high
        x = y = float(np.exp(rng.uniform(np.log(low), np.log(top))))
        if kind == "nonsquare":
            stretch = float(rng.uniform(1.03, 1.12)) ** rng.choice([-1, 1])
            x, y = x * stretch, y / stretch
        elif abs(x - round(x)) < 0.12:
            x = y = round(x) + float(rng.choice([-1, 1]) * rng.uniform(0.15, 0.45))
    if shifted:
        return cut(rng, cols, x, kind.startswith("integer")), cut(rng, rows, y, kind.startswith("integer"))
    return whole(cols, x), whole(rows, y)


class Canvas:
    """A picture on its way: colour multiplied by alpha, `f32 [h, w, 4]`, 0 to 255, and where its cells lie."""

    def __init__(self, truth: Pixels, x: Axis, y: Axis) -> None:
        self.truth, self.x, self.y = truth, x, y
        columns = x.phase + (np.arange(x.count, dtype=np.float32) + 0.5) * x.step
        lines = y.phase + (np.arange(y.count, dtype=np.float32) + 0.5) * y.step
        self.centres: Field = np.stack(np.meshgrid(columns, lines), axis=-1).astype(np.float32)
        self.image: Field = np.zeros((y.pixels, x.pixels, 4), np.float32)

    @property
    def step(self) -> float:
        return (self.x.step + self.y.step) / 2

    # 1. from cells to pixels

    def resized(self, filter: Image.Resampling) -> "Canvas":
        """PIL's own resize, as paint programs and web pages do it."""
        x, y = self.x, self.y
        if filter == Image.Resampling.NEAREST:
            columns, lines = np.floor(x.cells()).astype(int), np.floor(y.cells()).astype(int)
            columns, lines = np.clip(columns, 0, self.truth.shape[1] - 1), np.clip(lines, 0, self.truth.shape[0] - 1)
            self.image = multiplied(self.truth[lines[:, None], columns[None, :]])
            return self
        box = (x.start, y.start, x.start + x.pixels / x.step, y.start + y.pixels / y.step)
        box = (box[0], box[1], min(box[2], self.truth.shape[1]), min(box[3], self.truth.shape[0]))
        self.image = multiplied(np.array(Image.fromarray(self.truth).resize((x.pixels, y.pixels), filter, box)))
        return self

    def sampled(self, bend: Callable[[Field, Field], tuple[Field, Field]]) -> "Canvas":
        """Each pixel's cell by `bend(cell_x, cell_y)`, four samples a pixel."""
        cx, cy = bend(*np.meshgrid(self.x.cells(2), self.y.cells(2)))
        columns = np.clip(np.floor(cx).astype(np.int32), 0, self.truth.shape[1] - 1)
        lines = np.clip(np.floor(cy).astype(np.int32), 0, self.truth.shape[0] - 1)
        fine = multiplied(self.truth)[lines, columns]
        self.image = fine.reshape(self.y.pixels, 2, self.x.pixels, 2, 4).mean(axis=(1, 3), dtype=np.float32)
        return self

    # 2. what happens to pixels

    def blurred(self, cells: float) -> "Canvas":
        self.image = blur(self.image, cells * self.step)
        return self

    def sharpened(self, cells: float, amount: float) -> "Canvas":
        colour = self.image[..., :3]
        self.image[..., :3] = colour + amount * (colour - blur(colour, cells * self.step))
        return self.clamped()

    def clamped(self) -> "Canvas":
        self.image[..., 3] = np.clip(self.image[..., 3], 0, 255)
        self.image[..., :3] = np.clip(self.image[..., :3], 0, self.image[..., 3:])
        return self

    def added(self, field: Field) -> "Canvas":
        """Colour moved by `field`, only where there is something to see."""
        self.image[..., :3] += field * (self.image[..., 3:] / 255)
        return self.clamped()

    def noise(self, rng: Rng, sigma: float | tuple[float, float, float]) -> "Canvas":
        shape = (*self.image.shape[:2], 3)
        return self.added(rng.standard_normal(shape, np.float32) * np.asarray(sigma, np.float32))

    def grain(self, rng: Rng, sigma: float) -> "Canvas":
        """The same noise in all channels, as of film."""
        return self.added(rng.standard_normal((*self.image.shape[:2], 1), np.float32) * np.float32(sigma))

    def clouds(self, rng: Rng, cells: float, amount: float) -> "Canvas":
        """Colour noise that changes slowly."""
        return self.added(smooth_noise(rng, (*self.image.shape[:2], 3), cells * self.step) * amount)

    def coded(self, quality: int, codec: str = "JPEG") -> "Canvas":
        """Through a lossy file. Wants an opaque canvas."""
        file = io.BytesIO()
        Image.fromarray(self.image[..., :3].round().astype(np.uint8)).save(file, codec, quality=quality)
        self.image[..., :3] = np.array(Image.open(file).convert("RGB"))
        return self

    def scaled_to(self, width: int, height: int, filter: Image.Resampling) -> "Canvas":
        """The whole picture resized; the cells move along."""
        kx, ky = width / self.x.pixels, height / self.y.pixels
        bands = [Image.fromarray(self.image[..., c]).resize((width, height), filter) for c in range(4)]
        self.image = np.stack([np.array(band) for band in bands], axis=-1)
        self.x = Axis(width, self.x.step * kx, self.x.start, self.x.first, self.x.count)
        self.y = Axis(height, self.y.step * ky, self.y.start, self.y.first, self.y.count)
        self.centres = self.centres * np.array([kx, ky], np.float32)
        return self.clamped()

    # 3. to a file

    def done(self) -> Damaged:
        rows = slice(self.y.first, self.y.first + self.y.count)
        cols = slice(self.x.first, self.x.first + self.x.count)
        alpha = self.image[..., 3:]
        colour = np.divide(self.image[..., :3] * 255, alpha, out=np.zeros_like(self.image[..., :3]), where=alpha > 0)
        picture = np.concatenate([colour, alpha], axis=-1).round().clip(0, 255).astype(np.uint8)
        picture[picture[..., 3] == 0] = 0
        if (self.truth[..., 3] == 255).all():
            picture = picture[..., :3]
        return Damaged(
            np.ascontiguousarray(picture),
            self.truth[rows, cols],
            float(self.x.step),
            float(self.y.step),
            float(self.x.phase),
            float(self.y.phase),
            self.centres,
        )


def multiplied(pixels: Pixels) -> Field:
    image = pixels.astype(np.float32)
    image[..., :3] *= image[..., 3:] / 255
    return image


def blur(image: Field, sigma: float) -> Field:
    blurred: Field = ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="nearest")
    return blurred


def smooth_noise(rng: Rng, shape: tuple[int, int, int], sigma: float) -> Field:
    """Noise of unit spread that changes over some `sigma` pixels."""
    coarse = max(1.0, sigma / 2)
    small = rng.standard_normal((int(shape[0] / coarse) + 4, int(shape[1] / coarse) + 4, shape[2]), np.float32)
    small = blur(small, sigma / coarse)
    field = np.stack(
        [np.array(Image.fromarray(band).resize((shape[1], shape[0]), Image.Resampling.BICUBIC))
         for band in np.moveaxis(small, -1, 0)], axis=-1)  # fmt: skip
    return field / max(float(field.std()), 1e-6)


def flattened(rng: Rng, truth: Pixels) -> Pixels:
    """Over one flat colour, as a generator or a web page shows a sprite. Opaque pictures stay."""
    if (truth[..., 3] == 255).all():
        return truth
    page = Image.new("RGBA", (truth.shape[1], truth.shape[0]), MATTES[rng.integers(len(MATTES))])
    page.alpha_composite(Image.fromarray(truth))
    return np.array(page)


# Lattices that are not straight.


def edges_wobble(rng: Rng, shape: tuple[int, ...], amount: float) -> Callable[[Field, Field], tuple[Field, Field]]:
    """Every edge of every cell off its place by up to `amount` of a cell; the middles stay."""
    off_x = rng.uniform(-amount, amount, (shape[0] + 1, shape[1] + 2)).astype(np.float32)
    off_y = rng.uniform(-amount, amount, (shape[0] + 2, shape[1] + 1)).astype(np.float32)

    def bend(cx: Field, cy: Field) -> tuple[Field, Field]:
        i, j = np.clip(cx.astype(np.int32), 0, shape[1] - 1), np.clip(cy.astype(np.int32), 0, shape[0] - 1)
        fx, fy = cx - i, cy - j
        x = np.where(fx < off_x[j, i], i - 0.5, np.where(fx > 1 + off_x[j, i + 1], i + 1.5, i + 0.5))
        y = np.where(fy < off_y[j, i], j - 0.5, np.where(fy > 1 + off_y[j + 1, i], j + 1.5, j + 0.5))
        return x, y

    return bend


def unequal(canvas: Canvas, widths: Callable[[int], NDArray[np.float64]]) -> Canvas:
    """Columns and rows of unlike width, `widths(count)` in cells; `canvas` is uncut."""
    maps, middles = [], []
    for axis in (canvas.x, canvas.y):
        edges = np.concatenate([[0.0], np.cumsum(widths(axis.count))])
        edges *= axis.count / edges[-1]
        maps.append(edges)
        middles.append((edges[:-1] + edges[1:]) / 2 * axis.step)
    canvas.centres = np.stack(np.meshgrid(*middles), axis=-1).astype(np.float32)

    def bend(cx: Field, cy: Field) -> tuple[Field, Field]:
        found = [np.interp(c, e, np.arange(len(e))).astype(np.float32) for c, e in zip((cx, cy), maps, strict=True)]
        return found[0], found[1]

    return canvas.sampled(bend)


def drifting(canvas: Canvas, rng: Rng, amount: float) -> Canvas:
    """The pitch swells and shrinks slowly by `amount` of itself."""

    def widths(count: int) -> NDArray[np.float64]:
        waves, at = rng.uniform(0.5, 1.5), rng.uniform(0, 1)
        return 1 + amount * np.sin(2 * np.pi * (waves * np.arange(count) / count + at))

    return unequal(canvas, widths)


def warped(canvas: Canvas, rng: Rng, cells: float, also: Callable[[Field, Field], tuple[Field, Field]]) -> Canvas:
    """The lattice pushed about by a smooth field, at most `cells` of a cell; `also` bends what comes of it."""
    field = smooth_noise(rng, (canvas.y.pixels, canvas.x.pixels, 2), 5 * canvas.step)
    field *= cells / np.abs(field).max()
    flow = np.repeat(np.repeat(field, 2, axis=0), 2, axis=1)
    size = np.array([canvas.x.step, canvas.y.step], np.float32)
    still = canvas.centres
    for _ in range(8):  # where a cell's middle went: p + flow(p) * size = its place on the straight lattice
        at = [canvas.centres[..., 1] - 0.5, canvas.centres[..., 0] - 0.5]
        moved = [ndimage.map_coordinates(field[..., k], at, order=1, mode="nearest") for k in (0, 1)]
        canvas.centres = still - np.stack(moved, axis=-1) * size
    return canvas.sampled(lambda cx, cy: also(cx + flow[..., 0], cy + flow[..., 1]))


def tilted(canvas: Canvas, degrees: float) -> Canvas:
    middle = np.array([canvas.x.pixels, canvas.y.pixels], np.float32) / 2
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[cos, -sin], [sin, cos]], np.float32)
    canvas.centres = (canvas.centres - middle) @ turn.T + middle
    kx, ky = canvas.x.step, canvas.y.step

    def bend(cx: Field, cy: Field) -> tuple[Field, Field]:
        x, y = cx * kx - middle[0], cy * ky - middle[1]
        return (x * cos + y * sin + middle[0]) / kx, (-x * sin + y * cos + middle[1]) / ky

    return canvas.sampled(bend)


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
    spoil: Callable[[Rng, Pixels], Canvas]
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


def spoil(source: Source, category: str, seed: int) -> Damaged:
    rng = rng_of("damage", seed, source.name, category)
    kind = CATEGORIES[category]
    truth = flattened(rng, source.pixels) if rng.random() < kind.matte else source.pixels
    return kind.spoil(rng, truth).done()


def as_it_is(pixels: Pixels) -> Damaged:
    """Art at its own size: every pixel is a cell."""
    rows, cols = pixels.shape[:2]
    middles = np.meshgrid(np.arange(cols, dtype=np.float32) + 0.5, np.arange(rows, dtype=np.float32) + 0.5)
    truth = np.array(Image.fromarray(pixels).convert("RGBA"))
    return Damaged(pixels, truth, 1.0, 1.0, 0.0, 0.0, np.stack(middles, axis=-1).astype(np.float32))


def write(sources: list[Source], seed: int, output: Path) -> None:
    (output / "truth").mkdir(parents=True, exist_ok=True)
    rows = []
    for source in sources:
        for category in CATEGORIES:
            damaged = spoil(source, category, seed)
            file, truth = f"{category}__{source.name}.png", f"truth/{category}__{source.name}.png"
            Image.fromarray(damaged.picture).save(output / file, compress_level=1)
            Image.fromarray(damaged.truth).save(output / truth)
            rows.append(
                {
                    "file": file,
                    "category": category,
                    "source": source.name,
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
    parser.add_argument("--sources", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    if args.command == "list":
        for name, category in CATEGORIES.items():
            print(f"{category.group:10} {name}")
        return
    folder = DATA / args.set if (DATA / args.set).is_dir() else Path(args.set)
    sources = subsample(load(folder), args.sources, args.seed)
    (write if args.command == "write" else sheet)(sources, args.seed, args.output)


if __name__ == "__main__":
    main()
