"""The events of a job, in the order in which they come. The last one is an end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .errors import DgxPixelsError
from .sprite import Sprite

__all__ = [
    "Cancelled",
    "Event",
    "Failed",
    "Finished",
    "Loading",
    "Preview",
    "Queued",
    "Redraw",
    "Started",
    "Step",
]


@dataclass(frozen=True)
class Queued:
    """The job waits."""

    #: Its place in the queue; 1 is the next.
    position: int
    #: Seconds until the image is finished; `None` while nothing was measured.
    eta: float | None


@dataclass(frozen=True)
class Loading:
    """The job's model is being loaded."""

    #: The model's name.
    model: str
    #: Bytes of the weights that are read.
    bytes_done: int
    #: Bytes of the weights in all.
    bytes: int


@dataclass(frozen=True)
class Started:
    """The prompt is encoded, and the first step comes."""

    #: The device, for example `cuda:0`.
    device: str


@dataclass(frozen=True)
class Step:
    """A denoising step is done."""

    #: Steps done.
    n: int
    #: Steps in all.
    of: int
    #: Seconds that this step took, with the images that shared it.
    step_time: float
    #: Seconds until the image is finished.
    eta: float


@dataclass(frozen=True)
class Preview:
    """The image as it is after `n` steps, coarse: about one pixel for each latent."""

    #: Steps done.
    n: int
    #: The coarse image.
    sprite: Sprite


@dataclass(frozen=True)
class Redraw:
    """The sprite had no visible pixel, and is drawn again with another seed."""

    #: 1 for the second draw.
    redraw: int
    #: The seed of the draw that comes.
    seed: int


@dataclass(frozen=True)
class Finished:
    """The job is done; its file, if one was asked for, is written."""

    #: The result.
    sprite: Sprite


@dataclass(frozen=True)
class Failed:
    """The job failed."""

    #: The reason.
    error: DgxPixelsError


@dataclass(frozen=True)
class Cancelled:
    """The job was cancelled."""

    #: The exception that `Job.result` raises.
    error: DgxPixelsError


Event = Queued | Loading | Started | Step | Preview | Redraw | Finished | Failed | Cancelled

_CLASSES: dict[str, Any] = {
    kind.__name__: kind
    for kind in (Queued, Loading, Started, Step, Preview, Redraw, Finished, Failed, Cancelled)
}


def _event(name: str, values: dict[str, Any]) -> Event:
    """Returns the event that the native module reports."""
    if name in ("Preview", "Finished"):
        values["sprite"] = Sprite._of(
            values.pop("pixels"), values.pop("info", None), values.pop("latents", None)
        )
    event: Event = _CLASSES[name](**values)
    return event
