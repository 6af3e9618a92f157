"""The fields of requests, as keyword arguments.

Written by `tools/make_fields.py`: do not edit.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal, TypedDict

from .sprite import ImageLike

__all__ = ["Control", "PixelFields", "SpriteFields"]

#: Two sides in pixels or cells: `"32x24"` or `(32, 24)`.
Sides = str | tuple[int, int]
#: A palette: its name, its file, or its colors as `"#1a1c2c"` or `(26, 28, 44)`.
PaletteLike = str | os.PathLike[str] | Sequence[str | tuple[int, int, int]]


class _Followed(TypedDict):
    #: The image to follow, as `init_image` takes one. It is scaled to the image that the model
    #: draws, and transparent pixels are black.
    image: ImageLike | bytes
    #: The name of a control net in the folders `controlnet` of the model folders; the program and
    #: Python also take a path.
    model: str


class Control(_Followed, total=False):
    """A control net, the image that it follows, and its strength."""

    #: The share of the steps after which it acts no more, 0 to 1: diffusers'
    #: `control_guidance_end`. Default: 1.
    end: float
    #: The image that is made of `image`: `edges`, its edges in white (Canny); `silhouette`, its
    #: visible pixels in white; `outline`, the border of these. Default: `none`.
    preprocess: Literal["none", "edges", "silhouette", "outline"]
    #: The strength, 0 to 10: diffusers' `controlnet_conditioning_scale`. Default: 1.
    scale: float
    #: The share of the steps after which it begins to act, 0 to 1: diffusers'
    #: `control_guidance_start`. Default: 0.
    start: float


class PixelFields(TypedDict, total=False):
    """The fields that make a sprite of an image."""

    #: The place of a sprite that is smaller than `size`: `center` or `bottom`. Default: `center`.
    anchor: str | None
    #: Fill invisible pixels with the color of their neighbors, for filtering on a GPU. Default: no.
    bleed: bool | None
    #: Fix stray pixels where that is sure. The certificate counts them in any case. Default: no.
    cleanup: bool | None
    #: The cells along the longer side of an image without a grid: `low` for 48, `medium` for 80,
    #: `high` for 128. Default: `medium`.
    detail: str | int | None
    #: The pattern that shows a color between two of the palette: `none`, `bayer2`, `bayer4`,
    #: `bayer8`, `floyd-steinberg` or `atkinson`. Default: `none`.
    dither: str | None
    #: The grid of the image: columns and rows such as `32x32`, the pixels of a cell from 1 to 256
    #: such as `8` or `7.6`, or `auto`, which finds it. Default: `auto`.
    grid: Sides | None
    #: The most colors, 1 to 256; `all`; `elbow`, where more colors would add little; or `auto`.
    #: Default: `auto`, which keeps all colors of an image that is pixel art already, and is `elbow`
    #: for every other and for generated images.
    max_colors: int | str | None
    #: The outline of the sprite: `keep`, `add`, `add:#RRGGBB`, `selective` or `remove`. Default:
    #: `keep`.
    outline: str | None
    #: Use only the colors of this palette: a well-known name such as `pico-8`, colors such as
    #: `#1a1c2c,#fff`, or, on the command line and in a batch, a palette file (hex, GPL, PAL, ACT,
    #: ASE, ACO, PNG, Paint.NET). Default: the image's own.
    palette: PaletteLike | None
    #: The size of the sprite in its own pixels, for example `32x32`. Sides: 1 to 2048. Room around
    #: a smaller sprite is transparent. Default: one pixel for each cell of the image's grid.
    size: Sides | None
    #: The image is a strip of this many frames side by side, 1 or more; all get the same number of
    #: columns. Default: one frame.
    strip: int | None
    #: The left edge meets the right edge, as in a texture. The model itself draws on across the
    #: edge, and the pixel stages take both sides for neighbors. Default: no.
    tile_x: bool | None
    #: The top edge meets the bottom edge, in the model and in the pixel stages, as with `tile_x`.
    #: Default: no.
    tile_y: bool | None
    #: The part that becomes transparent: `auto`, a plain background, or of a generated image what
    #: its model marks, and else nothing of a texture that tiles; `off`; or a color such as
    #: `#ff00ff`. Default: `auto`.
    transparent: str | bool | None
    #: The answer to an image whose grid is not sure: `best` draws the likeliest sprite, `keep`
    #: returns the image as it is, and `fail` refuses it. `grid` decides it. Default: `best`.
    unsure: str | None


class SpriteFields(PixelFields, total=False):
    """The fields that ask for a sprite, and say how its job is served."""

    #: The name of the caller that the job is for. Callers share the device fairly. Default: none.
    client: str | None
    #: The last layers of the text encoders that the prompt skips, 1 or 2, as diffusers counts them:
    #: beyond the one that SDXL always skips. Default: none.
    clip_skip: int | None
    #: Control nets (ControlNets) that have the image follow others, at most 8, each with the
    #: `image` that it follows, a path, an asset_id in an MCP call, or bytes as `init_image` takes
    #: them. At the command line `NAME:IMAGE`, then scale, start, end and preprocessing if wanted,
    #: for example `canny:sword.png:0.8:0:0.6:edges`; or a JSON object as in a batch. Default: none.
    control: Sequence[Control] | None
    #: The number of images, 1 to 10000 (to 16 in an MCP call), with seeds from `seed` upwards.
    #: Default: 1.
    count: int | None
    #: Size conditioning: the left top corner of the crop, in pixels from 0 to 65535. Default:
    #: `0,0`.
    crop: Sides | None
    #: The longest time from the submission to the finished image, in seconds. Default: none.
    deadline: float | None
    #: Compute the UNet's inner levels at every Nth step only, 2 to 10. Much faster, but it changes
    #: details. Default: at every step.
    deep_cache: int | None
    #: The share of fresh noise in a step of `tcd`, 0 to 1. Default: 0.3.
    eta: float | None
    #: `True` to replace a file that exists. Default: `False`.
    force: bool | None
    #: The part of the schedule with guidance, two shares from 0 to 1, for example `0.1,0.8` for 10
    #: % to 80 %. Faster, but it changes the image. Default: all steps.
    guidance_interval: tuple[float, float] | None
    #: The share of guidance rescale, 0 to 1, against washed-out images at strong guidance. Default:
    #: 0.
    guidance_rescale: float | None
    #: The strength of the prompt, 0 to 100. At 1 or less nothing guides. Default: the model's own,
    #: or 5.
    guidance_scale: float | None
    #: The height of the image that the model draws, in pixels, 64 to 2048. It goes with `width`.
    height: int | None
    #: Submitting the same again with the same key gives the first job, after a restart too where
    #: the engine has a journal. Default: none.
    idempotency_key: str | None
    #: The image to begin from: a path, an asset_id in an MCP call, or the bytes of a file as
    #: `data:image/png;base64,...`. PNG, JPEG, WebP, GIF or BMP, of at most 16 megapixels, not
    #: animated. A sprite keeps its size, a larger image is reduced. Default: none, and the image
    #: begins from noise.
    init_image: ImageLike | bytes | None
    #: `True` to keep the latents for `Sprite.latents`, for a model that has any. Default: `False`.
    latents: bool | None
    #: LoRAs that change the model, at most 16, each `NAME:WEIGHT` with a weight from -10 to 10, for
    #: example `pixel-art:1.2`. `NAME` alone has the weight 1; `NAME:WEIGHT:TEXT_WEIGHT` has another
    #: weight in the text encoders. The name is that of a file in the model folders; the program and
    #: Python also take a path. Default: none.
    lora: Sequence[str] | None
    #: The part of `init_image` that is drawn anew: rectangles of its pixels as
    #: `LEFT,TOP,WIDTHxHEIGHT`, for example `4,4,8x8;20,0,2x6`; `alpha` for its transparent pixels;
    #: or an image of the same size, white there and black elsewhere. All other pixels of a sprite
    #: stay byte for byte. Default: all of it may change.
    mask: ImageLike | bytes | None
    #: The name of one of the engine's models. Default: the engine's first.
    model: str | None
    #: Text that describes what the image should not show. It acts at a guidance scale above 1.
    #: Default: none, and many SDXL models then guide away from zeros
    #: (`force_zeros_for_empty_prompt`), not from the empty text.
    negative_prompt: str | None
    #: Size conditioning: the size of a training image before it was cropped, for example
    #: `1024x1024`. Sides: 1 to 65535. Default: the image's own size.
    original_size: Sides | None
    #: A file that ends in `.png`, which the engine writes; the certificate of a sprite goes beside
    #: it as `NAME.json`. Default: none.
    output: str | os.PathLike[str] | None
    #: The settings that a few-step model or LoRA was trained for: `steps`, `guidance_scale`,
    #: `scheduler`, `timestep_spacing`, `timesteps` and `eta`. A field that is given wins. Default:
    #: none.
    preset: (
        Literal[
            "lcm",
            "lightning-2",
            "lightning-4",
            "lightning-8",
            "hyper-sd-1",
            "hyper-sd-1-unet",
            "hyper-sd-2",
            "hyper-sd-4",
            "hyper-sd-8",
            "hyper-sd-8-cfg",
            "hyper-sd-12-cfg",
            "dmd2",
            "dmd2-1",
            "turbo",
        ]
        | None
    )
    #: Report a preview after every Nth step. Default: 0, which reports none.
    preview_every: int | None
    #: `urgent`, `high`, `normal` or `low`. A job that waits rises. Default: `normal`.
    priority: Literal["urgent", "high", "normal", "low"] | None
    #: The rule for brackets, `BREAK` and long texts in both prompts: `comfyui`, `a1111`, or
    #: `plain`, which takes every character for itself and drops words past the model's length, as
    #: diffusers does. Default: `comfyui`.
    prompt_syntax: Literal["comfyui", "a1111", "plain"] | None
    #: `True` to return the model's image as it is, without the stages that make a sprite of it.
    #: Default: `False`.
    raw: bool | None
    #: The noise schedule. Default: the model's own.
    scheduler: (
        Literal[
            "euler",
            "euler_ancestral",
            "heun",
            "ddim",
            "dpmpp_2m",
            "dpmpp_2m_sde",
            "unipc",
            "lcm",
            "tcd",
            "edm_euler",
            "edm_dpmpp_2m",
        ]
        | None
    )
    #: The seed of the first image, a whole number from 0. The same seed with the same request gives
    #: the same image. Default: drawn at random and reported; in a batch, derived from the line's
    #: number and prompt.
    seed: int | None
    #: The noise levels to draw at, falling, in place of `steps`, for example `14.6,4.1,0.9,0`. The
    #: last is what the last step leaves. For `euler`. Default: those of the schedule.
    sigmas: Sequence[float] | None
    #: Denoising steps, 1 to 1000; more steps take longer. Default: the model's own, or 30.
    steps: int | None
    #: The share of the steps that `init_image` goes through, more than 0 and at most 1. A small one
    #: keeps the shapes, 1 keeps next to nothing. Default: 0.6, and 1 with a `mask`.
    strength: float | None
    #: Size conditioning: the size that a training image was cropped to, for example `1024x1024`.
    #: Sides: 1 to 65535. Default: the image's own size.
    target_size: Sides | None
    #: The spread of the timesteps over the schedule: `linspace`, `leading` or `trailing`. Few-step
    #: models need `trailing`. Default: the model's own.
    timestep_spacing: Literal["linspace", "leading", "trailing"] | None
    #: The timesteps of training to draw at, falling, in place of `steps`, for example
    #: `999,749,499,249`. For `euler`, `heun`, `dpmpp_2m`, `dpmpp_2m_sde`, `lcm` and `tcd`. Default:
    #: those that the schedule spreads.
    timesteps: Sequence[int] | None
    #: The VAE that decodes in place of the model's own, for a checkpoint without one or with a bad
    #: one, for example `sdxl-vae`. The name is that of a file or a folder in the folders `vae` of
    #: the model folders; the program and Python also take a path. Default: the model's own.
    vae: str | None
    #: The width of the image that the model draws, in pixels, 64 to 2048; most models need a
    #: multiple of 8. It goes with `height`. Default: the width that fits `size`, or the model's
    #: own.
    width: int | None
