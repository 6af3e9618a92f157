"""A fourth set: art that no other file here has, and damages unlike the others, for one look at the end.

The art is drawn by rules (creatures, islands, dithered skies, rooms, words of a small font), so it
shares nothing with the tiles in `data/`. Neither weights nor rules of dgx-pixels were set on it.
"""

import numpy as np
from canvas import LONG_SIDE, Axis, Canvas, Damaged, Rng, blur, smooth_noise
from kinds import BICUBIC, BILINEAR, LANCZOS, NEAREST, Category, straight, supersampled
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from scipy import ndimage
from sources import Pixels, Source, rng_of
from wild import judged, of_step, pasted, whole_cells

BAYER = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]], np.float32) / 16


def palette(rng: Rng, count: int) -> Pixels:
    """Shades of two hues, dark to light."""
    first, last = rng.uniform(0, 90, 3), rng.uniform(150, 255, 3)
    shades = first + (last - first) * np.linspace(0, 1, count)[:, None] + rng.uniform(-25, 25, (count, 3))
    return shades.clip(0, 255).astype(np.uint8)


def creature(rng: Rng) -> Pixels:
    rows, half = int(rng.integers(14, 29)), int(rng.integers(8, 15))
    mask = ndimage.gaussian_filter(rng.normal(size=(rows, half)), 0.8) + np.linspace(-0.4, 0.5, half)
    mask = np.pad(np.concatenate([mask, mask[:, ::-1]], axis=1) > 0.05, 1)
    shades = palette(rng, 6)
    tone = ndimage.gaussian_filter(rng.normal(size=mask.shape), 1)
    index = np.digitize(tone, np.quantile(tone, [0.25, 0.5, 0.75])) + 2
    rim = ndimage.binary_dilation(mask) & ~mask
    page = np.zeros((*mask.shape, 4), np.uint8)
    page[mask] = np.c_[shades[index[mask]], np.full(mask.sum(), 255)]
    page[rim] = (*shades[0], 255)
    return page


def opaque(pixels: Pixels) -> Pixels:
    return np.concatenate([pixels, np.full((*pixels.shape[:2], 1), 255, np.uint8)], axis=-1)


def islands(rng: Rng) -> Pixels:
    rows, cols = (int(v) for v in rng.integers(32, 81, 2))
    height = ndimage.gaussian_filter(rng.normal(size=(rows, cols)), 3) * 8 + rng.normal(0, 0.15, (rows, cols))
    return opaque(palette(rng, 9)[np.digitize(height, np.linspace(-1.2, 1.6, 8))])


def sky(rng: Rng) -> Pixels:
    rows, cols = (int(v) for v in rng.integers(48, 97, 2))
    shade = np.linspace(0, 5, rows)[:, None] + np.tile(BAYER, (rows // 4 + 1, cols // 4 + 1))[:rows, :cols]
    page = palette(rng, 7)[shade.astype(int)]
    hills = rows * 0.6 + ndimage.gaussian_filter1d(rng.normal(size=cols), 4) * rows
    page[np.arange(rows)[:, None] > hills] = palette(rng, 4)[0]
    stars = rng.random((rows, cols)) < 0.02
    page[stars & (np.arange(rows)[:, None] < hills)] = (250, 250, 230)
    return opaque(page)


def rooms(rng: Rng) -> Pixels:
    rows, cols = (int(v) for v in rng.integers(36, 73, 2))
    shades = palette(rng, 8)
    page = np.empty((rows, cols, 3), np.uint8)
    page[...] = shades[1]
    for _ in range(int(rng.integers(9, 22))):
        y, x = int(rng.integers(0, rows - 6)), int(rng.integers(0, cols - 6))
        h, w = (int(v) for v in rng.integers(4, 15, 2))
        page[y : y + h, x : x + w] = shades[rng.integers(2, 7)]
        page[y : y + 1, x : x + w], page[y : y + h, x : x + 1] = shades[7], shades[6]
        page[y + h - 1 : y + h, x : x + w] = shades[0]
    return opaque(page)


def words(rng: Rng) -> Pixels:
    cols, rows = int(rng.integers(48, 97)), int(rng.integers(36, 61))
    shades = palette(rng, 5)
    page = Image.new("RGB", (cols, rows), tuple(int(v) for v in shades[0]))
    pen = ImageDraw.Draw(page)
    pen.fontmode = "1"
    font = ImageFont.load_default(8)
    for top in range(2, rows - 8, 10):
        tone = tuple(int(v) for v in shades[rng.integers(2, 5)])
        pen.text((2, top), " ".join(rng.choice(["HP", "GOLD", "run", "Key", "x12", "Sword", "99"], 4)), tone, font)
    return opaque(np.array(page))


ART = (creature, islands, sky, rooms, words)


def drawn_art(count: int, seed: int) -> list[Source]:
    """`count` pictures at their own size, all kinds in turn."""
    made = []
    for i in range(count):
        draw = ART[i % len(ART)]
        pixels = draw(rng_of("fourth", seed, i))
        made.append(Source(f"{draw.__name__}_{i:02}_{pixels.shape[1]}x{pixels.shape[0]}", pixels))
    return made


def mosaic_camera(rng: Rng, truth: Pixels) -> Canvas:
    """A sensor that sees one colour a pixel, and what a camera makes of it."""
    canvas = supersampled(rng, truth, "fractional").blurred(0.12)
    height, width = canvas.image.shape[:2]
    y, x = np.mgrid[0:height, 0:width]
    seen = np.stack([(y % 2 == 0) & (x % 2 == 0), (y + x) % 2 == 1, (y % 2 == 1) & (x % 2 == 1)], axis=-1)
    values = (canvas.image[..., :3] + rng.normal(0, 4, (height, width, 3))) * seen
    kernel = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32)
    for c in range(3):
        weight = ndimage.convolve(seen[..., c].astype(np.float32), kernel)
        canvas.image[..., c] = ndimage.convolve(values[..., c], kernel) / weight
    return canvas.clamped()


def ordered_dither(rng: Rng, truth: Pixels) -> Canvas:
    """Six levels a channel at the size of the picture, in a pattern of 4x4 pixels."""
    canvas = straight(rng, truth, "fractional", BICUBIC)
    height, width = canvas.image.shape[:2]
    pattern = np.tile(BAYER, (height // 4 + 1, width // 4 + 1))[:height, :width, None]
    canvas.image[..., :3] = np.floor(canvas.image[..., :3] / 51 + pattern) * 51
    return canvas.clamped()


def composite_video(rng: Rng, truth: Pixels) -> Canvas:
    """Colour smeared along rows, brightness ringing: a television's cable."""
    canvas = straight(rng, truth, "integer", BILINEAR)
    colour = canvas.image[..., :3]
    luma = colour.mean(axis=-1, keepdims=True)
    chroma = ndimage.gaussian_filter1d(colour - luma, float(rng.uniform(1.5, 4)), axis=1)
    ringing = luma - ndimage.gaussian_filter1d(luma, 2.0, axis=1)
    canvas.image[..., :3] = luma + 0.6 * ringing + chroma
    return canvas.clamped()


def interlaced(rng: Rng, truth: Pixels) -> Canvas:
    """Every second row is of a moment later."""
    canvas = straight(rng, truth, "fractional", LANCZOS)
    canvas.image[1::2] = np.roll(canvas.image[1::2], int(rng.integers(1, 3)), axis=1)
    return canvas


def ruled(rng: Rng, truth: Pixels) -> Canvas:
    """The lines of a map editor, at every eighth or sixteenth cell."""
    canvas = whole_cells(rng, truth, 5, 12)
    every = int(canvas.step) * int(rng.choice([8, 16]))
    height, width = canvas.image.shape[:2]
    lines = (np.arange(height)[:, None] % every == 0) | (np.arange(width)[None, :] % every == 0)
    canvas.image[lines] = (*rng.uniform(0, 255, 3), 255)
    return canvas


def avif(rng: Rng, truth: Pixels) -> Canvas:
    return straight(rng, truth, "fractional", BILINEAR).coded(int(rng.integers(35, 70)), "AVIF")


def sticker(rng: Rng, truth: Pixels) -> Canvas:
    """A smooth white rim around the art, on a slope of colour."""
    canvas = whole_cells(rng, np.pad(truth, ((4, 4), (4, 4), (0, 0))), 5, 12)
    alpha = canvas.image[..., 3]
    rim = np.clip(blur(ndimage.grey_dilation(alpha, (int(canvas.step), int(canvas.step)))[..., None], 2.0), 0, 255)
    slope = np.linspace(0, 1, alpha.shape[0])[:, None, None]
    page = rng.uniform(60, 200, 3) * (1 - slope) + rng.uniform(60, 200, 3) * slope
    page = page + (255 - page) * rim / 255
    canvas.image[..., :3] += page * (1 - alpha[..., None] / 255)
    canvas.image[..., 3] = 255
    return canvas


def woven(rng: Rng, truth: Pixels) -> Canvas:
    """Printed on cloth: threads across threads, a little uneven."""
    canvas = straight(rng, truth, "fractional", BICUBIC)
    height, width = canvas.image.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    y += smooth_noise(rng, (height, width, 1), 20)[..., 0]
    period = float(rng.uniform(2.3, 4.1))
    threads = np.maximum(np.cos(2 * np.pi * x / period), np.cos(2 * np.pi * y / period))
    canvas.image[..., :3] *= (0.92 + 0.1 * threads)[..., None]
    return canvas.grain(rng, 4)


def dots(rng: Rng, truth: Pixels) -> Canvas:
    """A wall of lamps: each cell a round dot on black."""
    canvas = whole_cells(rng, truth, 7, 14)
    cx, cy = np.meshgrid(canvas.x.cells() % 1 - 0.5, canvas.y.cells() % 1 - 0.5)
    canvas.image[..., :3] *= np.clip((0.47 - np.hypot(cx, cy)) * canvas.step + 0.5, 0, 1)[..., None]
    return canvas.blurred(0.05)


def carved(rng: Rng, truth: Pixels) -> Canvas:
    """Enlarged softly and hardened again, as smoothing filters of players do: corners become round."""
    canvas = straight(rng, truth, "integer", BICUBIC)
    for _ in range(2):
        canvas.sharpened(0.3, 1.5)
    picture = Image.fromarray(canvas.image[..., :3].round().clip(0, 255).astype(np.uint8))
    canvas.image[..., :3] = np.array(picture.filter(ImageFilter.ModeFilter(5)))
    return canvas


def captioned(rng: Rng, truth: Pixels) -> Damaged:
    """A page with the art at some place, a headline above it and smooth words below."""
    canvas = whole_cells(rng, truth, 4, 9)
    height, width = canvas.image.shape[:2]
    left, top = (int(v) for v in rng.integers(15, 60, 2))
    picture = Image.new("RGBA", (width + 2 * left + 7, height + top + 90), (246, 246, 242, 255))
    pen = ImageDraw.Draw(picture)
    pen.text((left, 3), "Figure 3. A sprite", (20, 20, 20), ImageFont.load_default(12))
    for i in range(3):
        pen.text((left, top + height + 8 + 22 * i), "It was drawn by hand, then enlarged.", (40, 40, 40), ImageFont.load_default(15))
    page = np.array(picture, np.float32)
    pasted(page, canvas, left, top)
    canvas.image, canvas.truth = page, np.full((*truth.shape[:2], 4), 255, np.uint8)
    return judged(canvas, "step")


def anamorphic(rng: Rng, truth: Pixels) -> Canvas:
    """Cells a fifth higher than wide, as 320x200 looked on a screen of 4:3."""
    rows, cols = truth.shape[:2]
    step = float(rng.uniform(max(3.0, 140 / min(rows, cols)), min(10, 1000 / max(rows, cols)) + 1))
    axes = [Axis(round(n * s), round(n * s) / n, 0.0, 0, n) for n, s in ((cols, step), (rows, 1.2 * step))]
    return Canvas(truth, *axes).resized(BICUBIC)


def moved_layer(rng: Rng, truth: Pixels) -> Canvas:
    """Some things stand half a cell off, as in a game that moves them by pixels of the screen."""
    canvas = whole_cells(rng, truth, 6, 10)
    for _ in range(3):
        part = truth[: int(rng.integers(6, 12)), : int(rng.integers(6, 12))]
        thing = of_step(np.ascontiguousarray(part), canvas.step).resized(NEAREST)
        room = [canvas.image.shape[axis] - thing.image.shape[axis] for axis in (1, 0)]
        pasted(canvas.image, thing, *(int(rng.integers(0, max(1, space))) for space in room))
    return canvas


def three_frames(rng: Rng, truth: Pixels) -> Damaged:
    """A strip of frames with gaps of any width, enlarged softly."""
    most = min(8, (LONG_SIDE - 160) // (3 * truth.shape[1]))
    frame = of_step(truth, float(rng.integers(3, max(4, most)))).resized(BILINEAR)
    height, width = frame.image.shape[:2]
    gap = int(rng.integers(3, 40))
    page = np.zeros((height + 2 * gap, 3 * width + 4 * gap, 4), np.float32)
    page[...] = (*rng.choice([[240, 240, 240], [30, 30, 36]]), 255)
    for i in range(3):
        frame.image = frame.image[:, ::-1] if i == 1 else frame.image
        pasted(page, frame, gap + i * (width + gap), gap)
    frame.image, frame.truth = page, np.full((*truth.shape[:2], 4), 255, np.uint8)
    return judged(frame, "step")


FOURTH: dict[str, Category] = {
    "mosaic_camera": Category("screen", mosaic_camera, 1.0),
    "ordered_dither": Category("codec", ordered_dither, 1.0),
    "composite_video": Category("screen", composite_video, 1.0),
    "interlaced": Category("screen", interlaced, 1.0),
    "ruled": Category("layout", ruled, 1.0),
    "avif": Category("codec", avif, 1.0),
    "sticker": Category("layout", sticker, 0.0),
    "woven": Category("screen", woven, 1.0),
    "dots": Category("cells", dots, 1.0),
    "carved": Category("resample", carved, 1.0),
    "captioned": Category("layout", captioned, 1.0),
    "anamorphic": Category("lattice", anamorphic, 1.0),
    "moved_layer": Category("layout", moved_layer, 1.0),
    "three_frames": Category("layout", three_frames, 1.0),
}
