"""Damages of public complaints: sheets, drawn checkerboards, isometric art, icons, shadows, screens,
copies of copies.

They are a development set: thresholds and the confidence of dgx-pixels were set on them.
`fourth.py` has kinds that were not. The kinds were found in issue threads and forum posts about
tools that reduce pixel art.
"""

import numpy as np
from canvas import (
    LONG_SIDE,
    Axis,
    Canvas,
    Damaged,
    Field,
    Rng,
    axes,
    flattened,
    tilted,
)
from kinds import BICUBIC, LANCZOS, NEAREST, Category, cut_out, straight, supersampled
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from sources import Pixels

LIGHT_SQUARES = [(255, 204), (255, 239), (204, 153), (153, 102), (102, 68)]


def of_step(truth: Pixels, step: float) -> Canvas:
    """All cells at one step."""
    rows, cols = truth.shape[:2]
    return Canvas(truth, Axis(round(cols * step), step, 0.0, 0, cols), Axis(round(rows * step), step, 0.0, 0, rows))


def whole_step(rng: Rng, truth: Pixels, low: int, high: int) -> int:
    most = max(low, min(high, LONG_SIDE // max(truth.shape[:2])))
    return int(rng.integers(low, most + 1))


def whole_cells(rng: Rng, truth: Pixels, low: int, high: int, filter: Image.Resampling = NEAREST) -> Canvas:
    return of_step(truth, whole_step(rng, truth, low, high)).resized(filter)


def pasted(page: Field, canvas: Canvas, left: int, top: int) -> None:
    """Lays a canvas on a page of the same kind."""
    height, width = canvas.image.shape[:2]
    under = page[top : top + height, left : left + width]
    page[top : top + height, left : left + width] = canvas.image + under * (1 - canvas.image[..., 3:] / 255)


def judged(canvas: Canvas, judge: str) -> Damaged:
    made = canvas.done()
    return Damaged(**{**made.__dict__, "judge": judge})


# Layouts.


def variants(truth: Pixels, count: int) -> list[Pixels]:
    """Turned, mirrored and recoloured copies of one source: a sheet's parts."""
    made = []
    for i in range(count):
        part = np.rot90(truth, i % 4) if truth.shape[0] == truth.shape[1] else truth[:, :: 1 if i % 2 else -1]
        channels = [[0, 1, 2, 3], [1, 2, 0, 3], [2, 0, 1, 3]][i // 4 % 3]
        made.append(np.ascontiguousarray(part[..., channels]))
    return made


def gutters(rng: Rng, truth: Pixels, filter: Image.Resampling = NEAREST) -> Damaged:
    """A sheet whose parts stand between gutters that are no whole number of cells."""
    part = truth[:40, :40]
    across, down = (3, 2) if max(part.shape) > 24 else (4, 3)
    step = max(4, whole_step(rng, np.zeros((part.shape[0] * down, part.shape[1] * (across + 1), 4)), 4, 12))
    gap = int(rng.integers(2, 3 * step))
    gap += gap % step == 0
    height, width = part.shape[0] * step, part.shape[1] * step
    page = np.zeros((gap + down * (height + gap), gap + across * (width + gap), 4), np.float32)
    page[...] = (*rng.choice([[255, 255, 255], [32, 32, 40], [135, 176, 214], [204, 196, 170]]), 255)
    for i, one in enumerate(variants(part, across * down)):
        if one.shape != part.shape:
            one = part
        cells = of_step(one, step).resized(filter)
        pasted(page, cells, gap + i % across * (width + gap), gap + i // across * (height + gap))
    canvas = of_step(part, step)
    canvas.truth = np.full((*part.shape[:2], 4), 255, np.uint8)
    canvas.image = page
    return judged(canvas, "step")


def checkered(rng: Rng, truth: Pixels, filter: Image.Resampling, quality: int | None = None) -> Canvas:
    """A sprite over a checkerboard that a program drew for transparency."""
    truth = cut_out(rng, truth)
    canvas = whole_cells(rng, truth, 5, 24, filter)
    side = int(rng.choice([8, 10, 12, 16, 20, 24, 32]))
    height, width = canvas.image.shape[:2]
    y, x = np.mgrid[0:height, 0:width] // side
    light, dark = LIGHT_SQUARES[rng.integers(len(LIGHT_SQUARES))]
    board = np.where((x + y + int(rng.integers(2))) % 2 == 0, light, dark).astype(np.float32)
    page = np.concatenate([np.repeat(board[..., None], 3, axis=-1), np.full((height, width, 1), 255, np.float32)], -1)
    canvas.image = canvas.image + page * (1 - canvas.image[..., 3:] / 255)
    return canvas if quality is None else canvas.coded(quality)


def isometric(rng: Rng, _: Pixels) -> Canvas:
    """Tiles of 2:1 lines, at no more than four colours a tile."""
    cols, rows = int(rng.choice([64, 96, 112])), int(rng.choice([48, 64, 80]))
    page = Image.new("RGBA", (cols, rows), tuple(int(v) for v in rng.integers(40, 200, 3)) + (255,))
    pen = ImageDraw.Draw(page)
    half, quarter = int(rng.choice([8, 12, 16])), 0
    quarter = half // 2
    kinds = rng.integers(50, 220, (5, 3))
    for row in range(-2, rows // quarter + 3):
        for col in range(-1, cols // (2 * half) + 2):
            colour = kinds[rng.integers(len(kinds))]
            lift = int(rng.integers(0, 3)) * 2
            left, top = col * 2 * half + (row % 2) * half, row * quarter - lift
            light, dark = np.clip(colour * 0.8, 0, 255), np.clip(colour * 0.55, 0, 255)
            for i in range(half):  # two columns a row, as every isometric guide says
                y = top + quarter - (i + 1) // 2 if i < half else top
                for x, shade in ((left + i, light), (left + 2 * half - 1 - i, dark)):
                    pen.line([(x, top + quarter + i // 2), (x, top + quarter + i // 2 + 4)], tuple(map(int, shade)))
                    pen.line([(x, y), (x, top + quarter + i // 2)], tuple(map(int, colour)))
    return whole_cells(rng, np.array(page), 4, 10)


def icon(rng: Rng, _: Pixels, filter: Image.Resampling = NEAREST) -> Canvas:
    """A plain icon of a few rectangles: few edges along each axis."""
    side = int(rng.choice([8, 9, 11, 12, 16, 20]))
    page = np.full((side, side, 4), 255, np.uint8)
    page[..., :3] = rng.choice([[255, 255, 255], [238, 238, 238], [24, 24, 32]])
    one, two = rng.integers(20, 220, (2, 3))
    kind = rng.integers(5)
    a, b = 1 + int(rng.integers(0, 2)), max(2, side // 4)
    middle = side // 2
    if kind == 0:  # cross
        page[middle - 1 : middle + 1 + side % 2, a : side - a, :3] = one
        page[a : side - a, middle - 1 : middle + 1 + side % 2, :3] = one
    elif kind == 1:  # frame
        page[a : side - a, a : side - a, :3] = one
        page[a + 1 : side - a - 1, a + 1 : side - a - 1, :3] = two
    elif kind == 2:  # bar
        page[middle - 2 : middle + 2, a : side - a, :3] = one
        page[middle - 1 : middle + 1, a + 1 : side - a - b, :3] = two
    elif kind == 3:  # menu
        for top in range(a, side - 1, 3):
            page[top, a : side - a, :3] = one
    else:  # arrow
        for i in range(middle - 1):
            page[middle - i : middle + i + 1, a + i : a + i + 1, :3] = one
        page[middle, a : side - a, :3] = one
    return whole_cells(rng, page, 10, 40, filter)


def shadowed(rng: Rng, truth: Pixels, glow: bool) -> Canvas:
    """A soft shadow or a glow under the cells, drawn at the size of the picture."""
    truth = cut_out(rng, truth)
    room = int(rng.integers(3, 7))
    truth = np.pad(truth, ((room, room), (room, room), (0, 0)))
    canvas = whole_cells(rng, truth, 5, 14)
    alpha = canvas.image[..., 3]
    soft = ndimage.gaussian_filter(alpha, canvas.step * rng.uniform(0.5, 1.2))
    if not glow:
        soft = ndimage.shift(soft, rng.uniform(0.2, 1.0, 2) * canvas.step, order=1)
    tone = rng.uniform(160, 255, 3) if glow else np.zeros(3)
    page = np.asarray((20, 22, 30) if glow else (250, 250, 250), np.float32)
    behind = page + (tone - page) * (soft[..., None] / 255 * rng.uniform(0.4, 0.8))
    canvas.image[..., :3] += behind * (1 - alpha[..., None] / 255)
    canvas.image[..., 3] = 255
    canvas.truth = flattened_over(truth, tuple(int(v) for v in page))
    return canvas


def flattened_over(truth: Pixels, colour: tuple[int, ...]) -> Pixels:
    page = Image.new("RGBA", (truth.shape[1], truth.shape[0]), colour)
    page.alpha_composite(Image.fromarray(truth))
    return np.array(page)


def letterboxed(rng: Rng, truth: Pixels) -> Damaged:
    """Bars around the art that are no whole number of cells."""
    canvas = whole_cells(rng, truth, 4, 12)
    step = int(canvas.step)
    bars = [int(b) * step + int(rng.integers(1, step)) for b in rng.integers(1, 5, 2)]
    height, width = canvas.image.shape[:2]
    page = np.zeros((height + bars[0] + bars[1], width, 4), np.float32)
    page[..., 3] = 255
    page[bars[0] : bars[0] + height] = canvas.image
    canvas.image = page
    canvas.truth = np.full_like(truth, 255)
    return judged(canvas, "step")


def lettered(rng: Rng, truth: Pixels) -> Canvas:
    """Smooth text of a program over enlarged art."""
    canvas = straight(rng, truth, "integer", NEAREST)
    page = Image.fromarray(canvas.image[..., :3].round().clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(page)
    size = max(11, page.width // 20)
    font = ImageFont.load_default(size)
    for _ in range(int(rng.integers(1, 4))):
        at = (int(rng.integers(0, page.width // 2)), int(rng.integers(0, page.height - size)))
        pen.text(at, rng.choice(["Score 1200", "Level 3", "PRESS START", "sample preview"]), (255, 255, 255), font)
    canvas.image[..., :3] = np.array(page)
    return canvas


def mixed_pitch(rng: Rng, truth: Pixels) -> Damaged:
    """Two pictures of different cells side by side: no one grid is right."""
    first = of_step(truth, 6).resized(NEAREST)
    second = of_step(truth[::-1], 9).resized(NEAREST)
    height = min(first.image.shape[0], second.image.shape[0])
    page = np.concatenate([first.image[:height], second.image[:height]], axis=1)[:, :1800]
    first.image = page
    first.truth = np.full_like(truth, 255)
    return judged(first, "doubt")


# Screens and copies.


def scan_lines(rng: Rng, truth: Pixels) -> Canvas:
    """A dark line at the foot of each row, as emulators draw a tube."""
    canvas = whole_cells(rng, truth, 3, 8)
    step = int(canvas.step)
    thick = max(1, step // 3)
    rows = np.arange(canvas.y.pixels) % step >= step - thick
    canvas.image[rows, :, :3] *= np.float32(rng.uniform(0.2, 0.6))
    return canvas


def fine_scan_lines(rng: Rng, truth: Pixels) -> Canvas:
    """Dark lines every two pixels, whatever the cells are."""
    canvas = straight(rng, truth, "integer", BICUBIC)
    canvas.image[::2, :, :3] *= np.float32(rng.uniform(0.3, 0.7))
    return canvas


def screen_photograph(rng: Rng, truth: Pixels) -> Canvas:
    """Pixels of a display, seen by a camera that stands a little askew."""
    canvas = straight(rng, truth, "fractional", BICUBIC)
    canvas = tilted(Canvas(truth, canvas.x, canvas.y), float(rng.uniform(-1.5, 1.5))).blurred(0.12)
    height, width = canvas.image.shape[:2]
    period = rng.uniform(2.2, 3.4)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    canvas.image[..., :3] *= (0.85 + 0.15 * np.cos(2 * np.pi * x / period))[..., None]
    canvas.image[..., :3] *= (0.9 + 0.1 * np.cos(2 * np.pi * (y + 0.02 * x) / period))[..., None]
    radius = np.hypot(x / width - 0.5, y / height - 0.5)
    canvas.image[..., :3] *= (1.1 - 0.7 * radius)[..., None]
    return canvas.clamped().noise(rng, 6).coded(80)


def small_jpeg(rng: Rng, truth: Pixels) -> Canvas:
    """A short side below 100 pixels, through JPEG."""
    part = truth[: int(rng.integers(14, 25)), : int(rng.integers(14, 33))]
    step = int(rng.integers(3, 1 + max(3, 96 // max(part.shape[:2]))))
    return of_step(np.ascontiguousarray(part), step).resized(NEAREST).coded(int(rng.integers(70, 96)))


def copied(rng: Rng, truth: Pixels, times: int) -> Canvas:
    """Saved as JPEG with halved chroma again and again, moved by a few pixels each time."""
    canvas = straight(rng, truth, "fractional", BICUBIC)
    for quality in rng.integers(55, 85, times):
        canvas.coded(int(quality))
    return canvas


def turned(rng: Rng, truth: Pixels) -> Canvas:
    canvas = Canvas(truth, *axes(rng, truth, "fractional"))
    return tilted(canvas, float(rng.choice([-1, 1]) * rng.uniform(1, 3)))


def dark(rng: Rng, truth: Pixels) -> Canvas:
    dim = truth.copy()
    dim[..., :3] = (truth[..., :3] * rng.uniform(0.1, 0.3)).round()
    return whole_cells(rng, dim, 6, 20, BICUBIC)


def sky(rng: Rng, truth: Pixels) -> Canvas:
    """A slope of hundreds of colours behind the art, one colour a cell."""
    rows, cols = truth.shape[:2]
    t = np.linspace(0, 1, rows)[:, None, None]
    first, second = rng.uniform(0, 255, (2, 3))
    slope = (first + (second - first) * t + rng.uniform(-4, 4, (rows, cols, 3))).clip(0, 255)
    page = np.concatenate([slope, np.full((rows, cols, 1), 255)], axis=-1).round().astype(np.uint8)
    shown = cut_out(rng, truth)
    over = Image.fromarray(page)
    over.alpha_composite(Image.fromarray(shown))
    return straight(rng, np.array(over), "fractional", NEAREST)


def epx(pixels: Pixels) -> Pixels:
    """Scale2x: doubles an image, and rounds its corners."""
    page = np.pad(pixels, ((1, 1), (1, 1), (0, 0)), mode="edge")
    up, left, right, down, middle = page[:-2, 1:-1], page[1:-1, :-2], page[1:-1, 2:], page[2:, 1:-1], pixels

    def equal(a: Pixels, b: Pixels) -> np.ndarray:
        return (a == b).all(axis=-1)[..., None]

    corners = [
        np.where(equal(left, up) & ~equal(left, down) & ~equal(up, right), up, middle),
        np.where(equal(up, right) & ~equal(up, left) & ~equal(right, down), right, middle),
        np.where(equal(down, left) & ~equal(down, right) & ~equal(left, up), left, middle),
        np.where(equal(right, down) & ~equal(right, up) & ~equal(down, left), down, middle),
    ]
    made = np.zeros((2 * pixels.shape[0], 2 * pixels.shape[1], 4), np.uint8)
    made[::2, ::2], made[::2, 1::2], made[1::2, ::2], made[1::2, 1::2] = corners
    return made


def rounded(rng: Rng, truth: Pixels) -> Canvas:
    """Twice through Scale2x, then enlarged softly."""
    truth = flattened(rng, truth)
    canvas = of_step(truth, 4)
    large = Image.fromarray(epx(epx(truth)))
    canvas.image = np.array(large).astype(np.float32)
    factor = max(1.0, 200 / min(large.size))
    return canvas.scaled_to(round(large.width * factor), round(large.height * factor), BICUBIC)


WILD: dict[str, Category] = {
    "blur_whole": Category("blur", lambda r, t: whole_cells(r, t, 6, 14).blurred_px(r.uniform(0.7, 1.8))),
    "large_cells_bicubic": Category("resample", lambda r, t: whole_cells(r, t, 16, 30, BICUBIC)),
    "large_cells_lanczos": Category("resample", lambda r, t: whole_cells(r, t, 14, 30, LANCZOS)),
    "gutters": Category("layout", gutters),
    "gutters_soft": Category("layout", lambda r, t: gutters(r, t, BICUBIC)),
    "checkerboard": Category("layout", lambda r, t: checkered(r, t, NEAREST), 0.0),
    "checkerboard_jpeg": Category("layout", lambda r, t: checkered(r, t, NEAREST, 90), 0.0),
    "isometric": Category("layout", isometric),
    "icon": Category("layout", icon),
    "icon_soft": Category("layout", lambda r, t: icon(r, t, BICUBIC)),
    "shadow": Category("layout", lambda r, t: shadowed(r, t, glow=False), 0.0),
    "glow": Category("layout", lambda r, t: shadowed(r, t, glow=True), 0.0),
    "letterbox": Category("layout", letterboxed, 1.0),
    "lettered": Category("layout", lettered, 1.0),
    "mixed_pitch": Category("layout", mixed_pitch, 1.0),
    "scan_lines": Category("screen", scan_lines, 1.0),
    "fine_scan_lines": Category("screen", fine_scan_lines, 1.0),
    "screen_photograph": Category("screen", screen_photograph, 1.0),
    "small_jpeg": Category("codec", small_jpeg, 1.0),
    "copied_twice": Category("codec", lambda r, t: copied(r, t, 2), 1.0),
    "turned": Category("lattice", turned, 1.0),
    "dark": Category("light", dark, 1.0),
    "sky": Category("cells", sky, 0.0),
    "scale2x": Category("resample", rounded, 1.0),
    "area_dark_noise": Category("light", lambda r, t: supersampled(r, t, "fractional").blurred(0.2).noise(r, 8), 1.0),
}
