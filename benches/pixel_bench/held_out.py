"""More damages. They were held out for two looks, and dgx-pixels is fitted on them since;
`fourth.py` has kinds that it is not fitted on.
"""

import io

import numpy as np
from canvas import Canvas, Damaged, Rng, axes, blur, flattened, warped
from kinds import (
    BICUBIC,
    BILINEAR,
    BOX,
    LANCZOS,
    NEAREST,
    Category,
    cut_out,
    straight,
    supersampled,
)
from PIL import Image, ImageDraw
from scipy import ndimage
from sources import Pixels
from wild import checkered, epx, gutters, icon, judged, of_step, whole_cells


def video_frame(rng: Rng, truth: Pixels) -> Canvas:
    """A frame of a film: shrunk to half, coded at a low rate with halved chroma, and shown at the old size."""
    canvas = straight(rng, truth, "integer", NEAREST)
    width, height = canvas.x.pixels, canvas.y.pixels
    canvas.scaled_to(round(width * 0.75), round(height * 0.75), BILINEAR).coded(45, "WEBP")
    return canvas.scaled_to(width, height, BILINEAR)


def shadow_mask(rng: Rng, truth: Pixels) -> Canvas:
    """Red, green and blue stripes over soft cells."""
    canvas = straight(rng, truth, "integer", BILINEAR)
    stripe = np.arange(canvas.x.pixels) % 3
    for channel in range(3):
        canvas.image[:, stripe != channel, channel] *= np.float32(0.6)
    return canvas


def double_wide(rng: Rng, truth: Pixels) -> Canvas:
    """Every cell twice as wide as high, as on home computers. The truth has square cells."""
    truth = np.repeat(truth[:, ::2], 2, axis=1)
    return whole_cells(rng, np.ascontiguousarray(truth), 3, 8)


def bevelled(rng: Rng, truth: Pixels) -> Canvas:
    """A light edge above and left of each cell, a dark one below and right, as bead patterns are drawn."""
    canvas = whole_cells(rng, truth, 8, 20)
    step = int(canvas.step)
    x, y = np.arange(canvas.x.pixels) % step, np.arange(canvas.y.pixels) % step
    light = ((x == 0)[None, :] | (y == 0)[:, None]) * np.float32(40)
    shade = ((x == step - 1)[None, :] | (y == step - 1)[:, None]) * np.float32(40)
    return canvas.added((light - shade)[..., None])


def paper(rng: Rng, truth: Pixels) -> Canvas:
    """Printed and scanned: grain of the paper, and a slow warp."""
    canvas = Canvas(truth, *axes(rng, truth, "fractional"))
    canvas = warped(canvas, rng, 0.3, lambda cx, cy: (cx, cy)).blurred(0.15)
    return canvas.clouds(rng, 0.3, 8).grain(rng, 6)


def gif_of_jpeg(rng: Rng, truth: Pixels) -> Canvas:
    canvas = straight(rng, truth, "fractional", LANCZOS).coded(80)
    picture = Image.fromarray(canvas.image[..., :3].round().clip(0, 255).astype(np.uint8))
    canvas.image[..., :3] = np.array(picture.quantize(64).convert("RGB"))
    return canvas


def watermarked(rng: Rng, truth: Pixels) -> Canvas:
    """Slanted lines of a stock site over the art."""
    canvas = supersampled(rng, truth, "fractional")
    height, width = canvas.image.shape[:2]
    page = Image.new("L", (2 * width, 2 * height))
    pen = ImageDraw.Draw(page)
    for at in range(-2 * height, 2 * width, int(rng.integers(60, 160))):
        pen.line([(at, 0), (at + 2 * height, 2 * height)], 255, 5)
    veil = np.array(page.resize((width, height), BOX), np.float32)[..., None] / 255
    canvas.image[..., :3] += 0.4 * veil * (255 - canvas.image[..., :3])
    return canvas


def framed(rng: Rng, truth: Pixels) -> Damaged:
    """A window of a program around the art: its title bar and border are drawn at the size of the screen."""
    canvas = whole_cells(rng, truth, 4, 10)
    height, width = canvas.image.shape[:2]
    bar, border = int(rng.integers(19, 34)), int(rng.integers(1, 4))
    page = np.zeros((height + bar + border, width + 2 * border, 4), np.float32)
    page[...] = (210, 212, 220, 255)
    page[6:14, 8:16, :3] = (200, 60, 50)
    page[6:14, 22:30, :3] = (60, 160, 70)
    page[bar : bar + height, border : border + width] = canvas.image
    canvas.image, canvas.truth = page, np.full_like(truth, 255)
    return judged(canvas, "step")


def gray_board(rng: Rng, truth: Pixels) -> Canvas:
    """A drawn checkerboard, then the whole picture resized softly."""
    canvas = checkered(rng, truth, NEAREST)
    scale = rng.uniform(0.8, 1.3)
    return canvas.scaled_to(round(canvas.x.pixels * scale), round(canvas.y.pixels * scale), BICUBIC)


def smoothed(rng: Rng, truth: Pixels) -> Canvas:
    """Through Scale2x once and enlarged softly, as old emulators do."""
    truth = flattened(rng, truth)
    canvas = of_step(truth, 2)
    canvas.image = np.array(Image.fromarray(epx(truth))).astype(np.float32)
    scale = max(2.0, 160 / min(canvas.x.pixels, canvas.y.pixels))
    return canvas.scaled_to(round(canvas.x.pixels * scale), round(canvas.y.pixels * scale), BILINEAR)


def bloomed(rng: Rng, truth: Pixels) -> Canvas:
    """A soft light around all that is bright."""
    canvas = straight(rng, truth, "fractional", NEAREST)
    bright = np.clip(canvas.image[..., :3] - 120, 0, None)
    return canvas.added(1.2 * blur(bright, 1.2 * canvas.step))


def screenshot_chain(rng: Rng, truth: Pixels) -> Canvas:
    """A page zoomed to an odd factor, then to another, as browsers do with a display of 125 %."""
    canvas = straight(rng, truth, "integer", NEAREST)
    for factor in (1.25, float(rng.choice([0.9, 1.1]))):
        canvas.scaled_to(round(canvas.x.pixels * factor), round(canvas.y.pixels * factor), BILINEAR)
    file = io.BytesIO()
    Image.fromarray(canvas.image[..., :3].round().clip(0, 255).astype(np.uint8)).save(file, "PNG")
    return canvas


def shaken(rng: Rng, truth: Pixels) -> Canvas:
    """Rows of pixels shifted by one to either side, as by a bad cable."""
    canvas = straight(rng, truth, "fractional", NEAREST)
    for y in range(canvas.y.pixels):
        canvas.image[y] = np.roll(canvas.image[y], int(rng.integers(-1, 2)), axis=0)
    canvas.image = ndimage.gaussian_filter(canvas.image, (0.4, 0.4, 0))
    return canvas


HELD_OUT: dict[str, Category] = {
    "video_frame": Category("codec", video_frame, 1.0),
    "shadow_mask": Category("screen", shadow_mask, 1.0),
    "double_wide": Category("lattice", double_wide),
    "bevelled": Category("cells", bevelled),
    "paper": Category("screen", paper, 1.0),
    "gif_of_jpeg": Category("codec", gif_of_jpeg, 1.0),
    "watermarked": Category("layout", watermarked, 1.0),
    "framed": Category("layout", framed, 1.0),
    "gray_board": Category("layout", gray_board, 0.0),
    "smoothed": Category("resample", smoothed, 1.0),
    "bloomed": Category("light", bloomed, 1.0),
    "screenshot_chain": Category("resample", screenshot_chain, 1.0),
    "shaken": Category("lattice", shaken, 1.0),
    "gutters_jpeg": Category("layout", lambda r, t: gutters(r, t, LANCZOS)),
    "icon_bilinear": Category("layout", lambda r, t: icon(r, t, BILINEAR)),
    "round_window": Category("light", lambda r, t: straight(r, cut_out(r, t), "fractional", LANCZOS), 0.0),
}
