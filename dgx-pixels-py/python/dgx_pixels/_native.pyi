"""The native module. It is private: use the package `dgx_pixels`, which is made of it.

Values cross as plain Python: fields as a `dict`, pixels as bytes, everything else as JSON. Errors
are exceptions of `dgx_pixels.errors`.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, final, type_check_only

from .backend import Backend
from .errors import DgxPixelsError

__all__ = [
    "Engine",
    "Events",
    "Job",
    "deploy",
    "encode_png",
    "field_schema",
    "kinds",
    "models",
    "pixelize",
    "read_image",
    "read_sprite",
    "save_sprite",
    "sheet",
    "validate",
]

# Width, height, and four bytes for each pixel, row by row.
_Pixels: TypeAlias = tuple[int, int, bytearray]
# The name of an event's class, and its values.
_Event: TypeAlias = tuple[str, dict[str, Any]]
_Path: TypeAlias = str | os.PathLike[str]

@type_check_only
class _EventLoop(Protocol):
    def call_soon_threadsafe(self, callback: Callable[[], object], /) -> object: ...

@final
class Engine:
    """An engine. Python's `Engine` holds one."""

    def __new__(
        cls, models: Sequence[tuple[str, Backend | None]], options: dict[str, Any]
    ) -> Engine:
        """Starts an engine. `models` are names or folders, each with a backend in Python or `None`.

        Without any, all models of this machine are served.
        """

    @property
    def models(self) -> list[str]:
        """The names of the models, the default first."""

    @property
    def recovered(self) -> list[Job]:
        """The jobs that an earlier engine had accepted and not finished."""

    def submit(self, given: Sequence[dict[str, Any]]) -> list[Job | DgxPixelsError]:
        """Submits several jobs as one unit of work for the journal.

        Returns a job for each, or the exception that says why it was not accepted.
        """

    def find(self, id: str) -> Job | None:
        """Returns the job of this id, or `None`."""

    def metrics(self) -> str:
        """Returns what is measured, in the text format of Prometheus."""

    def shutdown(self, drain: bool) -> None:
        """Ends the engine: after all jobs if `drain`, else at the next step.

        Does nothing the second time, or in a fork.
        """

@final
class Job:
    """A job. Python's `Job` holds one."""

    @property
    def id(self) -> str:
        """The id."""

    @property
    def submitted(self) -> tuple[str, int, str | None]:
        """The prompt, seed and model as they were submitted."""

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the job has ended, at most `timeout` seconds; `True` if it has."""

    def result(self) -> tuple[_Pixels, str, tuple[list[int], bytearray] | None]:
        """Returns the pixels and JSON of all else, or raises the job's error.

        The job must have ended.
        """

    def error(self) -> DgxPixelsError | None:
        """Returns the exception of an ended job; `None` if it finished, or has not ended."""

    def done(self) -> bool:
        """`True` if the job has ended."""

    def cancel(self) -> None:
        """Asks the job to stop before its next step."""

    def on_end(self, event_loop: _EventLoop, callback: Callable[[], object]) -> None:
        """Has `event_loop` call `callback` once the job has ended."""

    def events(self) -> Events:
        """Returns what is reported from now on."""

@final
class Events:
    """The events of a job."""

    def next(self) -> _Event | None:
        """Waits for the next event; `None` after the end."""

    def poll(self) -> tuple[bool, _Event | None]:
        """Returns the next event if there is one: `(True, event)`.

        Returns `(True, None)` after the end, and `(False, None)` while there is no new event.
        """

    def on_event(self, event_loop: _EventLoop, callback: Callable[[], object]) -> None:
        """Has `event_loop` call `callback` once there is an event that was not seen."""

def field_schema() -> str:
    """Returns JSON of every field's schema, in three parts: `request`, `pixel` and `serving`."""

def kinds() -> list[str]:
    """Returns the words of all kinds of errors."""

def models() -> str:
    """Returns JSON of every model that is found, broken ones too."""

def read_image(path: _Path) -> tuple[_Pixels, list[str]]:
    """Reads an image file: its pixels upright and in sRGB, and warnings."""

def pixelize(
    width: int, height: int, bytes: bytes | bytearray, fields: dict[str, Any]
) -> tuple[_Pixels, str]:
    """Makes a sprite of an image: its pixels, and JSON of how it was found."""

def encode_png(
    width: int, height: int, bytes: bytes | bytearray, made: str | None, raw: bool
) -> bytes:
    """Encodes a sprite, or with `raw` a model's image, with the record of how it was made."""

def save_sprite(path: _Path, png: bytes, certificate: str | None, force: bool) -> None:
    """Writes a sprite and its certificate beside it, or a model's image alone.

    Each file is whole or not there.
    """

def read_sprite(bytes: bytes) -> tuple[_Pixels, str | None, bool, str]:
    """Reads a PNG file of ours.

    Returns its pixels, JSON of how it was made, whether it is a model's image, and JSON of its
    certificate.
    """

def sheet(
    path: _Path, frames: Sequence[tuple[str, int, int, bytes]], options: Mapping[str, Any]
) -> str:
    """Writes a sheet of frames and its index beside it; returns JSON of where each frame is."""

def validate(path: _Path) -> str:
    """Checks PNG files, manifests and folders as a game would use them.

    Returns JSON of the report.
    """

def deploy(
    project: _Path,
    sprites: Sequence[tuple[str, bytes]],
    dry_run: bool,
    reload: bool,
    port: int | None,
    wait: float,
) -> str:
    """Deploys sprites into a game's project, and asks the running game to show them.

    Returns JSON of what was done.
    """
