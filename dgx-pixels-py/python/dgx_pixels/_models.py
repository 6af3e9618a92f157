"""The models of this machine."""

from __future__ import annotations

import json
from dataclasses import dataclass

from . import _native

__all__ = ["Model", "models"]


@dataclass(frozen=True)
class Model:
    """A model folder that was found."""

    #: The name that a request asks for it by.
    name: str
    #: Its folder.
    path: str
    #: The width and height of its images in pixels; `None` if it is broken.
    size: tuple[int, int] | None
    #: Its denoising steps where a request names none.
    steps: int | None
    #: Its guidance scale where a request names none.
    guidance_scale: float | None
    #: Its noise schedule where a request names none.
    scheduler: str | None
    #: The reason why it cannot be used; `None` if it can.
    error: str | None


def models() -> list[Model]:
    """Returns every model that is found on this machine, broken ones too."""
    found = json.loads(_native.models())
    for model in found:
        model["size"] = None if model["size"] is None else tuple(model["size"])
    return [Model(**model) for model in found]
