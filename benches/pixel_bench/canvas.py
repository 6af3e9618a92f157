"""A picture on its way from its true size to a damaged one, and where its cells lie.

Coordinates: a cell is one true pixel. Column `i` of the truth spans `phase_x + i * step_x` to
`phase_x + (i + 1) * step_x` in the picture, whose own pixels span `x` to `x + 1`. Where the crop
cuts through cells, the truth keeps a column that shows more than half of itself, so `-step_x / 2 <
phase_x < step_x / 2`; crops between 0.42 and 0.58 of a cell are not made. Where the lattice is
bent, step and phase are its mean, and `centres` says where each cell is.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from sources import Pixels

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
    judge: str = "size"
    """`size`: columns and rows must be right. `step`: the pixels of a cell must be, as in a sheet whose parts lie at
    phases of their own. `doubt`: the only right answer is that the program is not sure."""


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

    def blurred_px(self, pixels: float) -> "Canvas":
        self.image = blur(self.image, pixels)
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
        if (picture[..., 3] == 255).all():
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
