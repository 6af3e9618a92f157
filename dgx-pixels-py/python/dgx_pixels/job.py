"""A request, and the job that an engine makes of it."""

from __future__ import annotations

import base64
import functools
import os
import threading
import zlib
from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .errors import DgxPixelsError, InvalidRequestError
from .events import Event, _event
from .sprite import Sprite, _rgba, _short

if TYPE_CHECKING:
    import asyncio

    from . import _native

__all__ = ["Job", "Request", "RequestLike"]


@dataclass(frozen=True)
class Request:
    """A prompt and its fields, to be submitted later or elsewhere. It can be pickled."""

    #: The subject, in English.
    prompt: str
    #: The fields of `SpriteFields`.
    fields: Mapping[str, Any] = field(default_factory=dict)


#: A request: a prompt, a `Request`, or a mapping with `prompt` and fields.
RequestLike = str | Request | Mapping[str, Any]


def _fields(request: RequestLike, common: Mapping[str, Any]) -> dict[str, Any]:
    """Returns all fields of a request; its own come before the common ones."""
    if isinstance(request, str):
        fields = {**common, "prompt": request}
    elif isinstance(request, Request):
        fields = {**common, **request.fields, "prompt": request.prompt}
    elif isinstance(request, Mapping):
        fields = {**common, **request}
    else:
        kind = type(request).__name__
        text = f"`prompt` is of the type `{kind}`; expected a text, a `Request`, or a mapping"
        raise InvalidRequestError(f"{text} of fields", "prompt")
    key = fields.get("idempotency_key")
    if key is not None and fields.get("seed") is None:
        # One key is one request, and a seed at random would make it another.
        fields["seed"] = zlib.crc32(str(key).encode(errors="replace"))
    for name in ("init_image", "mask"):
        if name in fields:
            fields[name] = _image(name, fields[name])
    controls = fields.get("control")
    if isinstance(controls, Iterable) and not isinstance(controls, (str, bytes, Mapping)):
        fields["control"] = [_control(control) for control in controls]
    return fields


def _control(control: Any) -> Any:
    """Returns a control with its image as the engine reads it."""
    if not isinstance(control, Mapping) or "image" not in control:
        return control
    image = _image("control", control["image"])
    return {**control, "image": os.fspath(image) if isinstance(image, os.PathLike) else image}


def _image(name: str, image: Any) -> Any:
    """Returns an image as the engine reads it: a path, or a text with its bytes or pixels."""
    if image is None or isinstance(image, (str, os.PathLike)):
        return image
    if isinstance(image, (bytes, bytearray, memoryview)):
        return f"data:;base64,{base64.b64encode(image).decode()}"
    try:
        width, height, pixels = _rgba(image)
    except InvalidRequestError as error:
        raise InvalidRequestError(str(error).replace("`image`", f"`{name}`", 1), name) from error
    return f"rgba:{width}x{height}:{base64.b64encode(pixels).decode()}"


def _several(prompts: Iterable[RequestLike]) -> Iterator[RequestLike]:
    """Returns an iterator over several requests, and refuses one request in their place."""
    if isinstance(prompts, (str, Request, Mapping)) or not isinstance(prompts, Iterable):
        kind = type(prompts).__name__
        text = f"`prompts` is of the type `{kind}`; expected several prompts, for example a list"
        raise InvalidRequestError(text, "prompts")
    return iter(prompts)


class Job:
    """A job that an engine has accepted.

    Wait for it (`result`), await it, or iterate over its events, with `for` or `async for`.
    Dropping a job does not cancel it; cancelling the task that awaits it does.
    """

    def __init__(self, native: _native.Job, engine: object) -> None:
        self._native = native
        # The engine runs for as long as somebody may wait for this job.
        self._engine = engine
        self._sprite: Sprite | None = None
        self._lock = threading.Lock()

    @property
    def id(self) -> str:
        """The id, by which the engine finds the job again."""
        return self._native.id

    @property
    def prompt(self) -> str:
        """The prompt."""
        return self._native.submitted[0]

    @property
    def seed(self) -> int:
        """The seed; the engine chose it if the request names none."""
        return self._native.submitted[1]

    def done(self) -> bool:
        """`True` if the job has ended: finished, failed or cancelled."""
        return self._native.done()

    def result(self, timeout: float | None = None) -> Sprite:
        """Waits for the sprite, at most `timeout` seconds, and returns it.

        Raises `TimeoutError` if the job has not ended by then; the job goes on. Raises the job's
        own error if it failed, and `JobCancelledError` if it was cancelled.
        """
        seconds = _seconds(timeout)
        if self._sprite is None and not self._native.wait(seconds):
            raise TimeoutError(f"the job {self.id} has not ended after {timeout} s")
        with self._lock:
            if self._sprite is None:
                self._sprite = Sprite._of(*self._native.result())
            return self._sprite

    def exception(self, timeout: float | None = None) -> DgxPixelsError | None:
        """Waits for the end, and returns the job's error; `None` if it finished.

        Raises `TimeoutError` if the job has not ended by then.
        """
        if not self._native.wait(_seconds(timeout)):
            raise TimeoutError(f"the job {self.id} has not ended after {timeout} s")
        return self._native.error()

    def cancel(self) -> None:
        """Asks the job to stop before its next step. A job that has ended stays as it is."""
        self._native.cancel()

    def __iter__(self) -> Iterator[Event]:
        events = self._native.events()
        while (event := events.next()) is not None:
            yield _event(*event)

    async def __aiter__(self) -> AsyncIterator[Event]:
        import asyncio

        events = self._native.events()
        loop = asyncio.get_running_loop()
        while True:
            is_there, event = events.poll()
            if not is_there:
                news = loop.create_future()
                events.on_event(loop, functools.partial(_set, news))
                await self._wait(news)
            elif event is None:
                return
            else:
                yield _event(*event)

    def __await__(self) -> Generator[Any, None, Sprite]:
        return self._result().__await__()

    async def _result(self) -> Sprite:
        if not self._native.done():
            # Imported here: it takes longer than all of this package.
            import asyncio

            loop = asyncio.get_running_loop()
            ended = loop.create_future()
            self._native.on_end(loop, functools.partial(_set, ended))
            await self._wait(ended)
        return self.result()

    async def _wait(self, future: asyncio.Future[None]) -> None:
        try:
            await future
        except BaseException:
            # The task is cancelled.
            self.cancel()
            raise

    def __repr__(self) -> str:
        if not self.done():
            state = "running"
        else:
            error = self._native.error()
            state = "finished" if error is None else error.kind
        return f"<Job {self.id} {_short(self.prompt)}, seed {self.seed}, {state}>"


def _seconds(timeout: float | None) -> float | None:
    try:
        if timeout is None or timeout >= 0:
            return timeout
    except TypeError:
        pass
    raise InvalidRequestError(f"`timeout` is {timeout!r}; expected seconds, 0 or more", "timeout")


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
