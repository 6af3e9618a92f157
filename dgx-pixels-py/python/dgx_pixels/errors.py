"""The exceptions of this package: one for each kind of error.

Every exception has the `kind` that the program, the MCP server and the metrics use for the same
error.
"""

from __future__ import annotations

import operator
from typing import Any

__all__ = [
    "DeadlineExceededError",
    "DeviceUnavailableError",
    "DgxPixelsError",
    "EmptySpriteError",
    "ForbiddenPathError",
    "GameUnavailableError",
    "InternalError",
    "InvalidModelError",
    "InvalidRequestError",
    "JobCancelledError",
    "LibraryFullError",
    "LibtorchUnavailableError",
    "NotFiniteError",
    "NotFoundError",
    "OutOfMemoryError",
    "OutputError",
    "ProcessDiedError",
    "QueueFullError",
    "QuotaExceededError",
    "ShutDownError",
    "UnsureError",
]


class DgxPixelsError(Exception):
    """An error of this package."""

    #: The word for errors of this class.
    kind: str = "internal"
    #: The name of the field at fault; `None` if the error is about none.
    field: str | None = None
    #: Seconds after which the same call is likely to succeed; `None` where waiting does not help.
    retry_after: float | None = None

    def __init__(
        self, message: str, field: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.field = field
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (str(self), self.field, self.retry_after))

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class InternalError(DgxPixelsError, RuntimeError):
    """A fault of this package or its installation."""

    kind = "internal"


class InvalidRequestError(DgxPixelsError, ValueError):
    """A field or its value is wrong. `field` has its name."""

    kind = "invalid_request"


class InvalidModelError(DgxPixelsError, ValueError):
    """There is no such model, or its files are not what they should be."""

    kind = "invalid_model"


class DeviceUnavailableError(DgxPixelsError, RuntimeError):
    """The device that was asked for is not there."""

    kind = "device_unavailable"


class OutOfMemoryError(DgxPixelsError, MemoryError):
    """The device has too little memory."""

    kind = "out_of_memory"


class NotFiniteError(DgxPixelsError, ArithmeticError):
    """The arithmetic left the number range; there is no image."""

    kind = "not_finite"


class OutputError(DgxPixelsError, OSError):
    """A file cannot be written."""

    kind = "output"


class QueueFullError(DgxPixelsError, RuntimeError):
    """The engine's queue is full. Nothing is lost by trying again after `retry_after` seconds."""

    kind = "queue_full"


class DeadlineExceededError(DgxPixelsError, TimeoutError):
    """The job took longer than its `deadline`."""

    kind = "deadline_exceeded"


class ShutDownError(DgxPixelsError, RuntimeError):
    """The engine is closed, or was closed before the job was done."""

    kind = "shut_down"


class NotFoundError(DgxPixelsError, FileNotFoundError):
    """A file is not there, or cannot be read as what it should be."""

    kind = "not_found"


class ForbiddenPathError(DgxPixelsError, PermissionError):
    """A path leads where it may not."""

    kind = "forbidden_path"


class LibraryFullError(DgxPixelsError, OSError):
    """A library holds as much as it may."""

    kind = "library_full"


class ProcessDiedError(DgxPixelsError, RuntimeError):
    """The process died each time that the job ran, so that it is not run again."""

    kind = "process_died"


class EmptySpriteError(DgxPixelsError, ValueError):
    """No draw gave a sprite with a visible pixel."""

    kind = "empty_sprite"


class UnsureError(DgxPixelsError, ValueError):
    """The grid of an image is not sure, and `unsure` is `fail`. Giving `grid` decides it."""

    kind = "unsure"


class QuotaExceededError(DgxPixelsError, RuntimeError):
    """One `client` has as many jobs waiting as it may."""

    kind = "quota_exceeded"


class GameUnavailableError(DgxPixelsError, ConnectionError):
    """No game answers."""

    kind = "game_unavailable"


class LibtorchUnavailableError(DgxPixelsError, ImportError):
    """libtorch is missing, damaged, or of another version than this package needs."""

    kind = "libtorch_unavailable"


class JobCancelledError(DgxPixelsError):
    """The job was cancelled."""

    kind = "cancelled"


_KINDS: dict[str, type[DgxPixelsError]] = {
    error.kind: error for error in DgxPixelsError.__subclasses__()
}


def _of_kind(
    kind: str, message: str, field: str | None, retry_after: float | None
) -> DgxPixelsError:
    """Returns the exception of this kind; the native module calls this."""
    return _KINDS.get(kind, InternalError)(message, field, retry_after)


def _whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    """Returns a whole number in this range, which may be one of NumPy's."""
    expected = f"a whole number, {least} or more" if most is None else f"{least} to {most}"
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if isinstance(value, bool) or number < least or (most is not None and number > most):
        raise InvalidRequestError(f"`{name}` is {value!r}; expected {expected}", name)
    return number
