"""Backends in Python: code of your own draws, and the engine queues, batches and makes sprites.

>>> import numpy as np
>>> import dgx_pixels as dp
>>> class Red(dp.Backend):
...     size = (64, 64)
...     def draw(self, request):
...         image = np.zeros((request["size"]["height"], request["size"]["width"], 3), np.uint8)
...         image[16:48, 16:48] = (255, 0, 0)
...         return image
>>> with dp.Engine(Red()) as engine:
...     engine.generate("a red square", grid=(8, 8), transparent="off").palette
[(0, 0, 0), (255, 0, 0)]
"""

from __future__ import annotations

import json
import math
from typing import Any

from .errors import InvalidRequestError, _whole

__all__ = ["Backend"]


class Backend:
    """Draws images for an engine, on the engine's thread.

    Subclass it, and define `draw`, or `begin`, `step` and `finish`.

    An exception fails the jobs of the call. `MemoryError` makes the engine try again with half of
    them. A request is a mapping with every field filled in: `prompt`, `negative_prompt`, `seed`,
    `steps`, `guidance_scale`, `size` (`width` and `height` in pixels) and the others of a PNG
    file's record.
    """

    #: The name that a request asks for it by.
    name: str = "python"
    #: Width and height of its images in pixels where a request names none.
    size: tuple[int, int] = (512, 512)
    #: Its steps where a request names none.
    steps: int = 1
    #: Its guidance scale where a request names none.
    guidance_scale: float = 5.0

    def draw(self, request: dict[str, Any]) -> Any:
        """Returns the image: Pillow's, or an array `[height, width, 3]` of `uint8`."""
        raise NotImplementedError(f"`{type(self).__name__}` defines neither `draw` nor `finish`")

    def begin(self, request: dict[str, Any]) -> Any:
        """Returns the state of an image before its first step: any object. Default: the request."""
        return request

    def step(self, states: list[Any], steps_done: list[int]) -> None:
        """Advances each state by one step. `steps_done` has the steps that each has behind it."""

    def finish(self, states: list[Any]) -> list[Any]:
        """Returns the image of each state. Default: `draw` of each."""
        return [self.draw(state) for state in states]

    def preview(self, state: Any) -> Any:
        """Returns a coarse image of a state that is not finished. Default: one gray pixel."""
        import numpy as np

        return np.full((1, 1, 3), 128, np.uint8)

    def _check(self) -> None:
        """Raises `InvalidRequestError` for an attribute that an engine cannot use."""
        try:
            width, height = self.size
        except (TypeError, ValueError):
            text = f"`size` is {self.size!r}; expected width and height in pixels"
            raise InvalidRequestError(text, "size") from None
        self.size = (_whole("size", width, 64, 2048), _whole("size", height, 64, 2048))
        self.steps = _whole("steps", self.steps, 1, 1000)
        try:
            self.guidance_scale = float(self.guidance_scale)
        except (TypeError, ValueError):
            self.guidance_scale = math.nan
        if not 0 <= self.guidance_scale <= 100:
            text = f"`guidance_scale` is {self.guidance_scale}; expected 0 to 100"
            raise InvalidRequestError(text, "guidance_scale")

    def _begin(self, requests: str) -> list[Any]:
        return [self.begin(request) for request in json.loads(requests)]

    def _step(self, states: list[Any], steps_done: list[int]) -> None:
        self.step(states, steps_done)

    def _finish(self, states: list[Any]) -> list[tuple[int, int, bytes]]:
        return [_rgb(image) for image in self.finish(states)]

    def _preview(self, state: Any) -> tuple[int, int, bytes]:
        return _rgb(self.preview(state))


def _rgb(image: Any) -> tuple[int, int, bytes]:
    import numpy as np

    if hasattr(image, "convert"):
        image = image.convert("RGB")
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        found = f"an array of {array.dtype} of the shape {list(array.shape)}"
        raise ValueError(f"the image is {found}; expected uint8, [height, width, 3]")
    return array.shape[1], array.shape[0], array.tobytes()
