"""Alpha of 0 or 255, as sprites have."""

import numpy as np


def harden(pixels: np.ndarray) -> np.ndarray:
    """Straight RGBA with alpha 0 or 255 and nothing under what is not seen.

    Half-seen pixels are laid over black if there are many of them (glows, clouds), as the game shows them at its darkest.
    """
    alpha = pixels[..., 3]
    soft = (alpha > 0) & (alpha < 255)
    threshold = 64 if soft.mean() > 0.15 else 128
    visible = alpha >= threshold
    rgb = pixels[..., :3].astype(np.float32)
    rgb = rgb * (0.45 + 0.55 * alpha[..., None] / 255)
    return np.concatenate([rgb.round().astype(np.uint8) * visible[..., None], 255 * visible[..., None].astype(np.uint8)], -1)
