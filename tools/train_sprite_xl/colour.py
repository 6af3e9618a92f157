"""The colour words of sprites: measured from pixels, and changed.

Everything works on batches of sprites as tensors `[n, 4, h, w]`: straight RGBA, 0 to 1, alpha 0 or 1.
Angles are hues of Oklab (Ottosson 2020), in degrees.
"""

import torch
from torch import Tensor

# Where each hue begins; the last one ends at the first, a turn later.
HUES = {"red": 12.0, "orange": 43.0, "yellow": 80.0, "green": 116.0, "teal": 168.0, "blue": 222.0, "purple": 283.0, "pink": 320.0}
COLOURS = [*HUES, "brown", "black", "grey", "white"]
# What recolouring aims at: hue, the chroma of the most colourful pixels, and how lightness L becomes a + b * L.
TARGETS = {
    "red": (27.0, 0.21, 0.00, 0.95),
    "orange": (60.0, 0.18, 0.17, 0.88),
    "yellow": (100.0, 0.17, 0.22, 0.85),
    "green": (142.0, 0.19, 0.03, 1.00),
    "teal": (196.0, 0.13, 0.08, 1.00),
    "blue": (260.0, 0.20, 0.00, 0.95),
    "purple": (303.0, 0.20, 0.00, 0.95),
    "pink": (348.0, 0.19, 0.15, 0.85),
    "brown": (58.0, 0.085, 0.02, 0.72),
    "black": (0.0, 0.0, 0.02, 0.38),
    "grey": (0.0, 0.0, 0.08, 0.80),
    "white": (0.0, 0.0, 0.50, 0.52),
}

_TO_LMS = torch.tensor(
    [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566], [0.0883024619, 0.2817188376, 0.6299787005]]
)
_TO_LAB = torch.tensor(
    [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099], [0.0259040371, 0.7827717662, -0.8086757660]]
)


def to_lch(rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """sRGB `[n, 3, h, w]` → lightness 0 to 1, chroma 0 to about 0.33, hue in degrees, each `[n, h, w]`."""
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055).clamp_min(0) ** 2.4)
    lms = torch.einsum("ij,njhw->nihw", _TO_LMS.to(rgb), linear).clamp_min(0) ** (1 / 3)
    light, a, b = torch.einsum("ij,njhw->nihw", _TO_LAB.to(rgb), lms).unbind(1)
    return light, torch.hypot(a, b), torch.rad2deg(torch.atan2(b, a)) % 360


def from_lch(light: Tensor, chroma: Tensor, hue: Tensor) -> Tensor:
    """The way back. Colours outside sRGB lose chroma until they fit."""

    def rgb(chroma: Tensor) -> Tensor:
        angle = torch.deg2rad(hue)
        lab = torch.stack([light, chroma * angle.cos(), chroma * angle.sin()], 1)
        lms = torch.einsum("ij,njhw->nihw", torch.linalg.inv(_TO_LAB).to(lab), lab) ** 3
        linear = torch.einsum("ij,njhw->nihw", torch.linalg.inv(_TO_LMS).to(lab), lms)
        return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp_min(0) ** (1 / 2.4) - 0.055)

    low, high = torch.zeros_like(chroma), chroma
    for _ in range(7):
        middle = (low + high) / 2
        found = rgb(middle)
        fits = (found.amin(1) >= -0.002) & (found.amax(1) <= 1.002)
        low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
    return rgb(low).clamp(0, 1)


def _hue_index(hue: Tensor) -> Tensor:
    starts = torch.tensor(list(HUES.values()), device=hue.device)
    return (torch.bucketize(hue, starts, right=True) - 1) % len(HUES)


def _pixels(sprites: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Lightness, chroma, hue, which pixels have a hue that is seen, and each pixel's index in `COLOURS`."""
    light, chroma, hue = to_lch(sprites[:, :3])
    visible = sprites[:, 3] > 0.5
    hued = visible & (chroma > 0.045) & (light > 0.2)
    named = _hue_index(hue)
    brown = (hue > 30) & (hue < 95) & (light < 0.62) & (chroma < 0.125)
    named = torch.where(brown, COLOURS.index("brown"), named)
    shade = torch.where(light < 0.30, COLOURS.index("black"), COLOURS.index("grey"))
    shade = torch.where(light > 0.78, COLOURS.index("white"), shade)
    return light, chroma, hue, hued, torch.where(hued, named, torch.where(visible, shade, -1))


def measure(sprites: Tensor) -> tuple[Tensor, Tensor]:
    """The colour that a person names first: indices in `COLOURS` `[n]`, and its share of what is coloured `[n]`.

    Hues count by chroma, and win over black, grey and white as soon as they cover a sixth of the sprite: outlines and
    shadows are dark in sprites of every colour.
    """
    light, chroma, _, hued, named = _pixels(sprites)
    visible = (sprites[:, 3] > 0.5).flatten(1).sum(1).clamp_min(1)
    mass = torch.stack([((named == i) * hued * chroma).flatten(1).sum(1) for i in range(len(HUES) + 1)], 1)
    share, first = (mass / mass.sum(1, keepdim=True).clamp_min(1e-6)).max(1)
    lit = (sprites[:, 3] > 0.5) & ~hued & (light > 0.16)
    count = lit.flatten(1).sum(1)
    mean = (light * lit).flatten(1).sum(1) / count.clamp_min(1)
    shade = torch.where(mean < 0.36, COLOURS.index("black"), COLOURS.index("grey"))
    shade = torch.where(mean > 0.70, COLOURS.index("white"), shade)
    shade = torch.where(count < 0.1 * visible, COLOURS.index("black"), shade)
    has_hue = hued.flatten(1).sum(1) > visible / 6
    return torch.where(has_hue, first, shade), torch.where(has_hue, share, 1.0)


def recolour(sprites: Tensor, target: str) -> tuple[Tensor, Tensor]:
    """Gives what carries the dominant colour `target` instead, and says where that worked, `[n]`.

    Only pixels near the dominant hue change, or the unhued ones of a sprite without hue; shading is kept. It worked
    where `measure` names the target with a good share and the sprite changed.
    """
    hue_to, chroma_to, add, scale = TARGETS[target]
    light, chroma, hue, hued, _ = _pixels(sprites)
    first, _ = measure(sprites)
    pick = first[:, None, None]
    weight = (hued * chroma * (_hue_index(hue) == pick)).clamp_min(0)
    brown = pick == COLOURS.index("brown")
    weight = torch.where(brown, hued * chroma * ((hue > 30) & (hue < 95)), weight)
    angle = torch.deg2rad(hue)
    centre = torch.rad2deg(torch.atan2((weight * angle.sin()).flatten(1).sum(1), (weight * angle.cos()).flatten(1).sum(1)))
    off = (hue - centre[:, None, None] + 180) % 360 - 180
    plain = pick > COLOURS.index("brown")
    chosen = torch.where(plain, (sprites[:, 3] > 0.5) & (chroma < 0.07) & (light > 0.16), hued & (off.abs() < 42))
    strongest = torch.quantile((chroma * chosen).flatten(1), 0.98, dim=1)[:, None, None].clamp_min(0.05)
    # Where there was no hue, mid tones get the most of it, as in paint.
    strength = torch.where(plain, 4 * light * (1 - light), (chroma / strongest).clamp(0, 1.15))
    spread = torch.where(plain, 0.0, off * 0.35) if chroma_to else torch.zeros_like(off)
    made = from_lch((add + scale * light).clamp(0, 1), chroma_to * strength, (hue_to + spread) % 360)
    rgb = torch.where(chosen[:, None], made, sprites[:, :3])
    result = torch.cat([rgb * (sprites[:, 3:] > 0.5), sprites[:, 3:]], 1)
    named, share = measure(result)
    index = COLOURS.index(target)
    return result, (named == index) & (share > 0.55) & (first != index)


