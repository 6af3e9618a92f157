"""The call of diffusers on this engine: a script changes one import.

>>> from dgx_pixels.diffusers import StableDiffusionXLPipeline
>>> pipe = StableDiffusionXLPipeline.from_pretrained("sketch")
>>> pipe("a brass key", num_inference_steps=4).images[0].size
(256, 256)

The images are those of diffusers 0.42 for the same model, prompt, steps and generator: the noise
comes from the generator's seed in the same order.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .engine import Engine
from .errors import InvalidRequestError
from .events import Step
from .job import Job, Request
from .sprite import Sprite

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["StableDiffusionXLPipeline", "StableDiffusionXLPipelineOutput"]

#: Precisions by the names of torch's types.
_DTYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}


@dataclass
class StableDiffusionXLPipelineOutput:
    """The answer of a call."""

    #: The images: Pillow's, or one array or tensor, as `output_type` says.
    images: Any


class StableDiffusionXLPipeline:
    """Draws with a model's folder as diffusers' pipeline of the same name does."""

    def __init__(self, model: str, **options: Any) -> None:
        self._model = model
        self._options = options
        self._engine: Engine | None = None
        self._interrupt = False

    @property
    def engine(self) -> Engine:
        """The engine that draws, made when it is first asked for.

        Its other requests share steps with this pipeline.
        """
        if self._engine is None:
            self._engine = Engine([self._model], **self._options)
        return self._engine

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        torch_dtype: Any = None,
        device: str = "auto",
        **options: Any,
    ) -> Self:
        """Returns a pipeline for a model: a folder in diffusers' layout, or a name of `models()`.

        `torch_dtype` is a type of torch, its name, or `None` for the device's own. `options` are
        those of `Engine`.
        """
        # Rounds as diffusers does, so that images can be compared.
        options = {"mode": "exact", **options}
        return cls(os.fspath(pretrained_model_name_or_path), **options).to(device, torch_dtype)

    def to(self, device: Any = None, dtype: Any = None) -> Self:
        """Chooses the device and the precision, and returns this pipeline.

        Both are torch's own, or their names. Raises `InvalidRequestError` after the first call,
        when the model is loaded.
        """
        if hasattr(device, "itemsize"):
            device, dtype = None, device
        if self._engine is not None and (device is not None or dtype is not None):
            text = (
                "`to` is called after the model was loaded; expected a call before the first image"
            )
            raise InvalidRequestError(text, "device")
        if device is not None:
            self._options["device"] = "cuda:0" if str(device) == "cuda" else str(device)
        if dtype is not None:
            name = str(dtype).removeprefix("torch.")
            if name not in _DTYPES:
                text = f"`torch_dtype` is {dtype}; expected one of {', '.join(_DTYPES)}"
                raise InvalidRequestError(text, "torch_dtype")
            self._options["dtype"] = _DTYPES[name]
        return self

    def __call__(
        self,
        prompt: str | Sequence[str],
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        num_images_per_prompt: int = 1,
        generator: Any = None,
        output_type: Literal["pil", "np", "pt", "latent"] = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[[Any, int, int, dict[str, Any]], Any] | None = None,
        guidance_rescale: float | None = None,
        clip_skip: int | None = None,
        original_size: tuple[int, int] | None = None,
        target_size: tuple[int, int] | None = None,
        crops_coords_top_left: tuple[int, int] | None = None,
        timesteps: Sequence[int] | None = None,
        sigmas: Sequence[float] | None = None,
    ) -> Any:
        """Draws the prompts together. The arguments are diffusers'; `None` is the model's value.

        `generator` is one of torch's with a seed, a list of them for each image, or a seed. The
        callback gets this pipeline, the index of the step twice, and an empty mapping.

        Raises `InvalidRequestError` for an argument that cannot be used. An exception of the
        callback cancels all images.
        """
        if output_type not in ("pil", "np", "pt", "latent"):
            text = f"`output_type` is {output_type!r}; expected `pil`, `np`, `pt` or `latent`"
            raise InvalidRequestError(text, "output_type")
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        negatives: list[str | None]
        if negative_prompt is None or isinstance(negative_prompt, str):
            negatives = [negative_prompt] * len(prompts)
        else:
            negatives = list(negative_prompt)
            if len(negatives) != len(prompts):
                text = f"`negative_prompt` has {len(negatives)} texts; expected {len(prompts)}"
                raise InvalidRequestError(text, "negative_prompt")
        seeds = _seeds(generator, len(prompts) * num_images_per_prompt)
        common = {
            "height": height,
            "width": width,
            "steps": num_inference_steps,
            "guidance_scale": guidance_scale,
            "guidance_rescale": guidance_rescale,
            "clip_skip": clip_skip,
            # diffusers takes every character of a prompt for itself.
            "prompt_syntax": "plain",
            "timesteps": None if timesteps is None else list(timesteps),
            "sigmas": None if sigmas is None else list(sigmas),
            # diffusers has height before width, and top before left.
            "original_size": _turned(original_size),
            "target_size": _turned(target_size),
            "crop": _turned(crops_coords_top_left),
            "raw": True,
            "latents": output_type == "latent",
        }
        requests = [
            Request(text, {**common, "negative_prompt": negative, "seed": seed})
            for (text, negative), seed in zip(
                [
                    pair
                    for pair in zip(prompts, negatives, strict=True)
                    for _ in range(num_images_per_prompt)
                ],
                seeds,
                strict=True,
            )
        ]
        self._interrupt = False
        jobs: list[Job] = []
        try:
            for answer in self.engine.submit_all(requests):
                if isinstance(answer, Exception):
                    raise answer
                jobs.append(answer)
            if callback_on_step_end is not None and jobs:
                self._follow(jobs, callback_on_step_end)
            sprites = [job.result() for job in jobs]
        except BaseException:
            for job in jobs:
                job.cancel()
            raise
        output = _converted(sprites, output_type)
        return StableDiffusionXLPipelineOutput(output) if return_dict else (output,)

    def _follow(
        self, jobs: list[Job], callback: Callable[[Any, int, int, dict[str, Any]], Any]
    ) -> None:
        """Calls back after each step of the first job, which the others share."""
        for event in jobs[0]:
            if isinstance(event, Step):
                callback(self, event.n - 1, event.n - 1, {})
                if self._interrupt:
                    for job in jobs:
                        job.cancel()

    def close(self) -> None:
        """Ends the engine."""
        if self._engine is not None:
            self._engine.close()


def _turned(pair: tuple[int, int] | None) -> tuple[int, int] | None:
    return None if pair is None else (pair[1], pair[0])


def _seeds(generator: Any, count: int) -> list[int | None]:
    """Returns a seed for each image."""
    if generator is None:
        return [None] * count
    if isinstance(generator, (list, tuple)):
        if len(generator) != count:
            text = f"`generator` has {len(generator)} generators; expected {count}"
            raise InvalidRequestError(text, "generator")
        return [_seed(one) for one in generator]
    first = _seed(generator)
    if count > 1:
        text = (
            f"`generator` is one for {count} images; expected a list with one for each, so that "
            "each image can be drawn again alone"
        )
        raise InvalidRequestError(text, "generator")
    return [first]


def _seed(generator: Any) -> int:
    return int(generator.initial_seed()) if hasattr(generator, "initial_seed") else int(generator)


def _converted(sprites: list[Sprite], output_type: str) -> Any:
    if output_type == "pil":
        return [sprite.image.convert("RGB") for sprite in sprites]
    import numpy as np

    if output_type == "latent":
        import torch

        latents = [sprite.latents for sprite in sprites if sprite.latents is not None]
        return torch.from_numpy(np.stack(latents))
    array = np.stack([sprite.array[..., :3] for sprite in sprites]).astype(np.float32) / 255
    if output_type == "np":
        return array
    import torch

    return torch.from_numpy(array).permute(0, 3, 1, 2)
