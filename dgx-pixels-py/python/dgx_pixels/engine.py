"""The engine: it draws many requests together on one device, step by step."""

from __future__ import annotations

import atexit
import functools
import os
import queue
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any, Literal, Union, overload

from . import _native
from .backend import Backend
from .errors import DgxPixelsError, InternalError, InvalidRequestError, ShutDownError, _whole
from .job import Job, Request, RequestLike, _fields, _several
from .sprite import Sprite

if TYPE_CHECKING:
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Self, Unpack

    from .fields import SpriteFields

__all__ = ["Engine", "Job", "ModelLike", "Request", "RequestLike", "default_engine", "generate"]

#: A model: its name, its folder, or a backend that is written in Python.
ModelLike = Union[str, "os.PathLike[str]", Backend]


class _Now:
    """An event loop for those who have none: it calls at once, on the thread that notifies."""

    @staticmethod
    def call_soon_threadsafe(callback: Any) -> None:
        callback()


class Engine:
    """Draws requests on one device. Jobs share steps: many together take less time than one by one.

    Use it in a `with` statement, or `close` it: leaving the block waits for all jobs, unless an
    exception ends it.

    Args:
        models: The models to serve; the first is the default. Names, folders, or `Backend` objects;
            a mapping gives them names. Default: all models of this machine.
        device: `cpu`, `cuda:N`, or `auto`: the first GPU if there is one.
        dtype: `f32`, `f16` or `bf16`. Default: `f32` on the CPU, `bf16` on a GPU.
        mode: `fast`; `exact`, which rounds where diffusers rounds; or `fp8`. On a CPU all are the
            same.
        vae_slicing: `True` to decode images one after the other: less memory, less speed.
        vae_tiling: `True` to decode large images in overlapping tiles: less memory, slight
            differences.
        prediction_type: What the models' UNets answer with, where their files do not say it:
            `epsilon`, `v_prediction`, `sample` or `flow_prediction`. Default: what the files say.
        zero_snr: `True` if the models were trained to begin in pure noise, where their files do not
            say it. Default: what the files say.
        lenient: `True` to pass over what a LoRA changes and a model does not have. Default: an
            error that names it.
        budget: The device memory that may be used: `60GiB`, `80%` of it, or `-4GiB` to leave free.
        journal: A folder that keeps jobs and results. Jobs that were not finished when the process
            ended are done by the next engine with the same journal (see `recovered`). Default:
            none.
        max_batch: The most images that share a step, 1 or more.
        queue_capacity: The most jobs that may wait, 1 or more.
        preload: `True` to load libtorch now, and not with the first job.
        own_process: `True` to let libtorch change what is global in this process: its allocator of
            CPU memory, its threads, and its switches. Faster beside other work; for programs that
            use torch through this package only. Default: the process is left as it is.

    Raises:
        InvalidRequestError: an option is wrong.
        InvalidModelError: there is no such model, or it cannot be used.
        DeviceUnavailableError: the device is not there.
        LibtorchUnavailableError: with `preload`, torch is missing or of another version.
        InternalError: another engine has the journal open.
    """

    def __init__(
        self,
        models: ModelLike | Sequence[ModelLike] | Mapping[str, ModelLike] | None = None,
        *,
        device: str = "auto",
        dtype: str | None = None,
        mode: str = "fast",
        vae_slicing: bool = False,
        vae_tiling: bool = False,
        prediction_type: str | None = None,
        zero_snr: bool | None = None,
        lenient: bool = False,
        budget: str = "90%",
        journal: str | os.PathLike[str] | None = None,
        max_batch: int = 8,
        queue_capacity: int = 10_000,
        preload: bool = False,
        own_process: bool = False,
    ) -> None:
        _refuse_fork()
        options: dict[str, Any] = {
            "device": device,
            "dtype": dtype,
            "mode": mode,
            "vae_slicing": vae_slicing,
            "vae_tiling": vae_tiling,
            "prediction_type": prediction_type,
            "zero_snr": zero_snr,
            "lenient": lenient,
            "budget": budget,
            "journal": journal,
            "max_batch": _whole("max_batch", max_batch, 1, 2**32),
            "queue_capacity": _whole("queue_capacity", queue_capacity, 1, 2**32),
            "preload": preload,
            "own_process": own_process,
        }
        self._is_closed = False
        self._native = _native.Engine(_named(models), options)
        _engines.add(self)
        global _made_in
        _made_in = os.getpid()

    @property
    def models(self) -> list[str]:
        """The names of the models, the default first."""
        return self._native.models

    @property
    def recovered(self) -> list[Job]:
        """The jobs that an earlier engine with the same journal had accepted and not finished."""
        return [Job(job, self) for job in self._native.recovered]

    def submit(self, prompt: RequestLike, **fields: Unpack[SpriteFields]) -> Job:
        """Checks a request, puts it into the queue, and returns its job at once.

        Raises `InvalidRequestError` for a field that cannot be used, `QueueFullError`, and
        `ShutDownError`.
        """
        [job] = self.submit_all([prompt], **fields)
        if isinstance(job, Exception):
            raise job
        return job

    def submit_all(
        self, prompts: Iterable[RequestLike], **fields: Unpack[SpriteFields]
    ) -> list[Job | DgxPixelsError]:
        """Submits several requests as one unit of work for the journal.

        `fields` are for requests that do not set them. The list has a job for each request, or the
        reason why it was not accepted.
        """
        given = [_fields(prompt, fields) for prompt in _several(prompts)]
        answers = [
            Job(answer, self) if isinstance(answer, _native.Job) else answer
            for answer in self._native.submit(given)
        ]
        for answer in answers:
            if not isinstance(answer, (Job, DgxPixelsError)):
                # An exception of a value's own, for example Ctrl-C while it was read.
                for job in answers:
                    if isinstance(job, Job):
                        job.cancel()
                raise answer
        return answers

    def find(self, id: str) -> Job | None:
        """Returns the job of this id; `None` if there was none, or if it is forgotten."""
        job = self._native.find(id)
        return None if job is None else Job(job, self)

    @overload
    def generate(  # type: ignore[overload-overlap, unused-ignore]
        self, prompt: RequestLike, *, count: int, **fields: Any
    ) -> list[Sprite]: ...

    @overload
    def generate(self, prompt: RequestLike, **fields: Unpack[SpriteFields]) -> Sprite: ...

    def generate(
        self, prompt: RequestLike, *, count: int | None = None, **fields: Any
    ) -> Sprite | list[Sprite]:
        """Draws a sprite and waits for it; with `count`, that many, with seeds from `seed` upwards.

        Ctrl-C cancels what is not finished. Raises the errors of `submit` and of `Job.result`.
        """
        if count is None:
            job = self.submit(prompt, **fields)
            try:
                return job.result()
            except BaseException:
                job.cancel()
                raise
        count = _whole("count", count, 1, 10_000)
        first = _fields(prompt, fields)
        for name in ("idempotency_key", "output"):
            if first.get(name) is not None and count > 1:
                text = f"`{name}` is for one sprite, and `count` is {count}; leave one of them out"
                raise InvalidRequestError(text, name)
        seed = first.get("seed")
        if seed is None:
            seed = int.from_bytes(os.urandom(4), "little")
        seed = _whole("seed", seed, 0, 2**64 - count)
        return list(self.map([{**first, "seed": seed + n} for n in range(count)]))

    def latents(self, prompt: RequestLike, **fields: Unpack[SpriteFields]) -> NDArray[np.float32]:
        """Draws an image and returns its latents `[1, channels, height, width]`, on the CPU.

        They are those that diffusers returns for `output_type="latent"`: divide them by the VAE's
        `scaling_factor` to decode them there. `torch.from_dlpack` takes the array without a copy.
        """
        asked: SpriteFields = {**fields, "latents": True, "raw": True}
        latents = self.generate(prompt, **asked).latents
        if latents is None:
            raise InternalError("the job comes from a journal, which keeps no latents")
        batch: NDArray[np.float32] = latents[None]
        return batch

    @overload
    def map(
        self,
        prompts: Iterable[RequestLike],
        *,
        batch: int | None = None,
        ordered: bool = True,
        progress: bool = False,
        errors: Literal["raise"] = "raise",
        **fields: Unpack[SpriteFields],
    ) -> Iterator[Sprite]: ...

    @overload
    def map(
        self,
        prompts: Iterable[RequestLike],
        *,
        batch: int | None = None,
        ordered: bool = True,
        progress: bool = False,
        errors: Literal["return"],
        **fields: Unpack[SpriteFields],
    ) -> Iterator[Sprite | DgxPixelsError]: ...

    def map(
        self,
        prompts: Iterable[RequestLike],
        *,
        batch: int | None = None,
        ordered: bool = True,
        progress: bool = False,
        errors: Literal["raise", "return"] = "raise",
        **fields: Any,
    ) -> Iterator[Any]:
        """Draws a sprite for each prompt, many at once, and yields them.

        Args:
            prompts: Any iterable; it is read as jobs end, so that it may be endless.
            batch: The number of jobs that are submitted at once, 1 or more. Default: 32.
            ordered: `True` to yield in the order of the prompts; `False` to yield what ends first.
            progress: `True` to show a bar; takes the package `tqdm`.
            errors: `raise` to cancel the rest and raise the first error; `return` to yield errors
                in the places of sprites.
            fields: The fields for prompts that do not set them.
        """
        if errors not in ("raise", "return"):
            raise InvalidRequestError(
                f"`errors` is {errors!r}; expected `raise` or `return`", "errors"
            )
        window = 32 if batch is None else _whole("batch", batch, 1)
        total = len(prompts) if isinstance(prompts, Sized) else None
        results = self._map(_several(prompts), window, ordered, errors == "raise", fields)
        if not progress:
            return results
        try:
            from tqdm.auto import tqdm  # type: ignore[import-untyped, unused-ignore]
        except ModuleNotFoundError as error:
            text = "`progress` takes the package `tqdm`; install `dgx-pixels[progress]`"
            raise ModuleNotFoundError(text, name=error.name) from error
        return iter(tqdm(results, total=total, unit="sprite"))

    def _map(
        self,
        prompts: Iterator[RequestLike],
        window: int,
        ordered: bool,
        raises: bool,
        fields: Mapping[str, Any],
    ) -> Iterator[Sprite | DgxPixelsError]:
        ended: queue.SimpleQueue[Job | DgxPixelsError] = queue.SimpleQueue()
        waiting: deque[Job | DgxPixelsError] = deque()
        fault: Exception | None = None

        def fill() -> None:
            nonlocal fault
            new: list[RequestLike] = []
            while fault is None and len(waiting) + len(new) < window:
                try:
                    new.append(next(prompts))
                except StopIteration:
                    break
                except Exception as error:
                    # It is raised after the sprites of the prompts before it.
                    fault = error
            for answer in self.submit_all(new, **fields) if new else []:
                waiting.append(answer)
                if not ordered:
                    if isinstance(answer, Job):
                        answer._native.on_end(_Now, functools.partial(ended.put, answer))
                    else:
                        ended.put(answer)

        try:
            fill()
            while waiting:
                answer = waiting[0] if ordered else ended.get()
                result: Sprite | DgxPixelsError
                if isinstance(answer, Job):
                    try:
                        result = answer.result()
                    except DgxPixelsError as error:
                        result = error
                else:
                    result = answer
                waiting.remove(answer)
                if raises and isinstance(result, Exception):
                    raise result
                fill()
                yield result
            if fault is not None:
                raise fault
        finally:
            for answer in waiting:
                if isinstance(answer, Job):
                    answer.cancel()

    def metrics(self) -> str:
        """Returns what is measured, in the text format of Prometheus."""
        return self._native.metrics()

    def close(self, *, drain: bool = False) -> None:
        """Ends the engine: at the next step, or after all jobs if `drain`.

        Jobs that are not finished fail as `ShutDownError`; with a journal, the next engine does
        them.
        """
        self._is_closed = True
        self._native.shutdown(drain)
        # Not before: where the wait is interrupted, the end of the interpreter ends the engine.
        _engines.discard(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(drain=error is None)

    def __reduce__(self) -> Any:
        raise TypeError(
            "an engine cannot be pickled: it owns threads and a device; make one in each process"
        )

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "open"
        return f"<Engine {', '.join(self.models)}; {state}>"


def _named(models: Any) -> list[tuple[str, Backend | None]]:
    """Returns names or folders, each with a backend of Python's or `None`."""
    if models is None:
        return []
    pairs: list[tuple[Any, Any]]
    if isinstance(models, Mapping):
        pairs = list(models.items())
    elif isinstance(models, Sequence) and not isinstance(models, (str, bytes)):
        pairs = [(None, model) for model in models]
        if not pairs:
            raise InvalidRequestError("`models` is empty; expected one model or more", "models")
    else:
        pairs = [(None, models)]
    named: list[tuple[str, Backend | None]] = []
    for name, model in pairs:
        if isinstance(model, Backend):
            model._check()
            named.append((_name(name or model.name), model))
        elif isinstance(model, (str, os.PathLike)):
            if name is not None:
                text = f"`models` gives the name `{name}` to a folder; a folder has its own name"
                raise InvalidRequestError(text, "models")
            named.append((os.fspath(model), None))
        else:
            kind = type(model).__name__
            text = (
                f"`models` has one of the type `{kind}`; expected a name, a folder or a `Backend`"
            )
            raise InvalidRequestError(text, "models")
    return named


def _name(name: Any) -> str:
    """Returns the name of a backend, checked."""
    if not isinstance(name, str) or not name or not name.isprintable():
        text = f"`name` is {name!r}; expected the name of a backend, for example `mine`"
        raise InvalidRequestError(text, "name")
    return name


#: Engines that are open, which the end of the interpreter closes.
_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
#: The process that an engine was made in; `None` before the first.
_made_in: int | None = None
_default: Engine | None = None
_default_lock = threading.Lock()


def _refuse_fork() -> None:
    if _made_in not in (None, os.getpid()):
        raise ShutDownError(
            "this process is a fork of one that has used an engine, and libtorch does not survive "
            'a fork; start processes by `multiprocessing.get_context("spawn")`, and make an engine '
            "in each"
        )


@atexit.register
def _close_all() -> None:
    for engine in list(_engines):
        engine.close()


def default_engine() -> Engine:
    """Returns the engine of `generate`: made at the first call, with all models of this machine."""
    global _default
    _refuse_fork()
    with _default_lock:
        if _default is None or _default._is_closed:
            _default = Engine()
        return _default


@overload
def generate(  # type: ignore[overload-overlap, unused-ignore]
    prompt: RequestLike, *, count: int, **fields: Any
) -> list[Sprite]: ...


@overload
def generate(prompt: RequestLike, **fields: Unpack[SpriteFields]) -> Sprite: ...


def generate(
    prompt: RequestLike, *, count: int | None = None, **fields: Any
) -> Sprite | list[Sprite]:
    """Draws a sprite with the default engine, and waits for it; with `count`, that many.

    The fields are those of `SpriteFields`. The first call loads torch and the model, which takes
    seconds.

    >>> import dgx_pixels as dp
    >>> dp.generate("a brass key", seed=7, model="sketch", size=(16, 16)).size
    (16, 16)
    """
    if count is not None:
        fields["count"] = count
    drawn: Sprite | list[Sprite] = default_engine().generate(prompt, **fields)
    return drawn
