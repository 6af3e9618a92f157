"""Sprites on many machines: datasets with Ray Data, and a service with Ray Serve.

A dataset is a table of prompts. `draw` adds the columns `path`, `error`, `kind` and `drawn`:

    import dgx_pixels.ray

    prompts = ["a green slime", "a brass key"]
    for row in dgx_pixels.ray.draw(prompts, "/shared/sprites").iter_rows():
        print(row["path"], row["error"])

The name of a file is a hash of its request, and a file is whole or not there. The same call again
draws only what is missing, so that a run that was killed goes on where it ended.

Ray's memory monitor ends workers while a model loads on machines where CPU and GPU share their
memory, such as DGX Spark. Start Ray there with `RAY_memory_monitor_refresh_ms=0`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import math
import os
import re
import sys
import threading
import warnings
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

from . import errors
from .engine import Engine, ModelLike
from .errors import DgxPixelsError, InvalidRequestError
from .fields import SpriteFields
from .job import RequestLike, _fields, _several

try:
    import ray.data
except ImportError as error:
    message = 'Ray is not installed; install it with `pip install "dgx-pixels[ray]"`'
    raise ImportError(message) from error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from ray.serve import Application
    from starlette.requests import Request as HttpRequest
    from starlette.responses import Response
    from typing_extensions import Unpack

    from .sprite import Sprite

    Models = ModelLike | Sequence[ModelLike] | Mapping[str, ModelLike] | None

__all__ = ["Sprites", "deployment", "draw"]

#: Fields that say where the file goes, which the folder says here.
_PLACE = frozenset({"force", "output"})
#: Fields that do not change the image. They are no part of its name.
_SERVING = frozenset({"client", "deadline", "idempotency_key", "preview_every", "priority"})
_COLUMNS = (SpriteFields.__optional_keys__ - _PLACE) | {"prompt"}
#: Errors of a machine. They come at once, so that this machine would get, and fail, ever more rows.
_OF_MACHINE = (
    errors.DeviceUnavailableError,
    errors.LibtorchUnavailableError,
    errors.ShutDownError,
)
#: Fields that name images.
_IMAGES = ("init_image", "mask")
#: The most bytes that are read of a file that a field names.
_FILE_BYTES = 1 << 25


class Sprites:
    """Draws the sprites of a dataset's rows: a callable class for `Dataset.map_batches`.

    The column `prompt`, and every column that has the name of a request's field, make the request.
    `None` and NaN leave a field out. The engine draws the rows of a batch together, and writes one
    PNG file for each, with its certificate beside it. These columns are added:

    - `path`: the file; empty if there is none.
    - `error` and `kind`: the reason why there is none, and its kind; empty if there is a file.
    - `drawn`: `True` if this call drew the file for this row, `False` if it was there before.

    The name of a file is a hash of all fields and of the model's name. A row without a seed gets
    one that is derived from its other fields. Use a new folder for a new version of a model.

    An error of the machine, for example a missing device, is raised instead of failing each row.

    Args:
        folder: The folder for the files. All machines must see it under this path.
        models: The models, as in `Engine`.
        common: The fields for rows that do not set them.
        options: The options of `Engine`.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        models: Models = None,
        *,
        common: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self._folder = _shared(folder)
        self._common = _request(common or {})
        for name in _PLACE & self._common.keys():
            text = f"`common` has the field `{name}`; leave it out, `folder` says where files go"
            raise InvalidRequestError(text, name)
        self._make_engine = functools.partial(Engine, models, **options)
        self._engine: Engine | None = None
        self._lock = threading.Lock()

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Draws what is missing of a batch, and returns the batch with more columns."""
        if "prompt" not in batch:
            names = ", ".join(f"`{name}`" for name in batch)
            raise InvalidRequestError(f"there is no column `prompt`; there are {names}", "prompt")
        # Ray calls from two threads.
        with self._lock:
            if self._engine is None:
                self._engine = self._make_engine()
        # 1. files
        columns = {name: column for name, column in batch.items() if name in _COLUMNS}
        paths: list[str] = []
        missing: dict[str, dict[str, Any]] = {}
        drawn = np.zeros(len(batch["prompt"]), bool)
        for i in range(len(drawn)):
            row = _request({name: column[i] for name, column in columns.items()})
            path, fields = self._place({**self._common, **row}, self._engine.models[0])
            paths.append(path)
            if path not in missing and not os.path.exists(path):
                missing[path] = {**fields, "output": path, "force": True}
                drawn[i] = True
        # 2. images
        failed: dict[str, DgxPixelsError] = {}
        window = max(1, len(missing))
        results = self._engine.map(missing.values(), batch=window, errors="return")
        for path, result in zip(missing, results, strict=True):
            if isinstance(result, _OF_MACHINE):
                _leave(self._engine, result)
            if isinstance(result, DgxPixelsError):
                failed[path] = result
        # 3. columns
        return {
            **batch,
            "path": np.array(["" if path in failed else path for path in paths], object),
            "error": np.array([str(failed.get(path, "")) for path in paths], object),
            "kind": np.array([failed[it].kind if it in failed else "" for it in paths], object),
            "drawn": drawn & np.array([path not in failed for path in paths], bool),
        }

    def _place(self, fields: dict[str, Any], model: str) -> tuple[str, dict[str, Any]]:
        """Returns the path of a request's file, and the request with a seed."""
        content = {"model": model, **fields}
        content = {name: value for name, value in content.items() if name not in _SERVING}
        # A file is what it has, not where it lies.
        for field in ("palette", *_IMAGES):
            path = fields.get(field)
            if isinstance(path, str) and os.path.isfile(path):
                with contextlib.suppress(OSError), open(path, "rb") as file:
                    content[field] = blake2b(file.read(_FILE_BYTES)).hexdigest()
        if isinstance(fields.get("control"), list):
            content["control"] = [_by_content(control) for control in fields["control"]]
        seed = fields.get("seed", int(_hash(content, 4), 16))
        name = _hash({**content, "seed": seed}, 16)
        return os.path.join(self._folder, f"{name}.png"), {**fields, "seed": seed}


def _by_content(control: Any) -> Any:
    """Returns a control with a hash in place of the path of its image."""
    path = control.get("image") if isinstance(control, Mapping) else None
    if isinstance(path, str) and os.path.isfile(path):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            return {**control, "image": blake2b(file.read(_FILE_BYTES)).hexdigest()}
    return control


def _shared(folder: str | os.PathLike[str]) -> str:
    if "://" in os.fspath(folder):
        text = f"`folder` is `{os.fspath(folder)}`; expected a path that all machines have mounted"
        raise InvalidRequestError(text, "folder")
    return os.path.abspath(folder)


def _request(given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields that are set, as Python's own values."""
    plain = {name: _plain(value) for name, value in given.items()}
    return {name: value for name, value in plain.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, float):
        if math.isnan(value):
            return None
        # A missing value turns a column of whole numbers into one of floats.
        if value.is_integer() and abs(value) < 2**53:
            return int(value)
    return value


def _hash(content: Mapping[str, Any], size: int) -> str:
    # A value that JSON does not have is hashed too; the engine then says what is wrong with it.
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=repr)
    return blake2b(text.encode(), digest_size=size).hexdigest()


def _check_device(engine: Engine) -> None:
    """Raises an error if the engine is closed, or if one of its devices hangs."""
    hung = re.findall(r'^dgx_pixels_device_up\{device="(.*)"\} 0$', engine.metrics(), re.MULTILINE)
    if hung:
        text = f"`{', '.join(hung)}` does not answer; restarting the process may help"
        raise errors.DeviceUnavailableError(text)


def _leave(engine: Engine, error: DgxPixelsError) -> None:
    """Raises `error`, but ends the process if its device hangs: Ray starts another."""
    try:
        _check_device(engine)
    except errors.DeviceUnavailableError:
        print(f"{error}; this worker ends, and Ray starts another", file=sys.stderr, flush=True)
        os._exit(1)
    except errors.ShutDownError:
        pass
    raise error


def _most(resource: str) -> float:
    """Returns the most of a resource that a machine of the cluster has."""
    if not ray.is_initialized():
        ray.init()
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    has = [node["Resources"].get(resource, 0.0) for node in nodes if node["Alive"]]
    return float(max(has, default=0.0))


def _gpus(given: float | None) -> float:
    return float(_most("GPU") > 0) if given is None else given


def draw(
    prompts: ray.data.Dataset | Iterable[RequestLike],
    folder: str | os.PathLike[str],
    *,
    models: Models = None,
    common: Mapping[str, Any] | None = None,
    workers: int = 1,
    gpus_per_worker: float | None = None,
    batch_size: int = 32,
    max_restarts: int = 4,
    **options: Any,
) -> ray.data.Dataset:
    """Returns a dataset that draws the prompts into `folder` as it is read.

    `Sprites` describes its columns. A worker that dies is started again, on another machine if need
    be, and what it was drawing is drawn again.

    Args:
        prompts: A dataset with a column `prompt`, or prompts as in `Engine.map`.
        folder: The folder for the files. All machines must see it under this path.
        models: The models, as in `Engine`.
        common: The fields for rows that do not set them.
        workers: The number of processes that draw. On CPUs, each computes with one thread.
        gpus_per_worker: The GPUs of a worker, for example 0.5 if two share one. Default: 1 if the
            cluster has GPUs, otherwise 0.
        batch_size: The number of rows that a worker takes at once.
        max_restarts: The number of times that a worker may be started again. After that, the run
            ends with an error of Ray, and calling `draw` again goes on.
        options: The options of `Engine`.
    """
    # A wrong argument is an error here, and not one of each worker.
    Sprites(folder, models, common=common, **options)
    if not isinstance(prompts, ray.data.Dataset):
        rows = [_fields(prompt, {}) for prompt in _several(prompts)]
        names = dict.fromkeys(name for row in rows for name in row)
        # Ray takes the columns of the first row for those of all.
        rows = [{name: row.get(name) for name in names} for row in rows]
        blocks = min(-(-len(rows) // batch_size), max(200, 4 * workers))
        prompts = ray.data.from_items(rows, override_num_blocks=max(1, blocks))
    gpus = _gpus(gpus_per_worker)
    with warnings.catch_warnings():
        # Ray 2.60 warns that `max_restarts` will have another name, and does not have it yet.
        warnings.simplefilter("ignore", DeprecationWarning)
        return prompts.map_batches(
            Sprites,
            batch_size=batch_size,
            fn_constructor_args=(_shared(folder), models),
            fn_constructor_kwargs={"common": common, **options},
            # A pool of GPUs that may grow can stay at one. Two calls at once, so that the engine
            # has the next rows before the last of a batch are done.
            compute=ray.data.ActorPoolStrategy(
                size=workers, max_concurrent_calls_per_actor=2, enable_true_multi_threading=True
            ),
            num_gpus=gpus,
            # One CPU is left for tasks that read the input; they would wait forever without.
            num_cpus=0 if gpus else min(0.5, max(0, _most("CPU") - 1) / workers),
            max_restarts=max_restarts,
            # Calls to a lost machine fail again and again until Ray knows that it is lost.
            max_task_retries=-1,
        )


#: The statuses of HTTP for kinds of errors; 500 for all others.
_STATUS = {
    "deadline_exceeded": 504,
    "device_unavailable": 503,
    "empty_sprite": 422,
    "invalid_model": 400,
    "invalid_request": 400,
    "out_of_memory": 503,
    "queue_full": 429,
    "quota_exceeded": 429,
    "shut_down": 503,
    "unsure": 422,
}


class _Replica:
    """An engine behind Ray Serve. Requests share its steps."""

    def __init__(
        self, models: Models, common: Mapping[str, Any], options: Mapping[str, Any]
    ) -> None:
        self._engine = Engine(models, **options)
        self._common = common

    async def generate(self, prompt: RequestLike, **fields: Unpack[SpriteFields]) -> Sprite:
        """Draws a sprite. Cancelling the call cancels the job."""
        return await self._engine.submit(_fields(prompt, {**self._common, **fields}))

    async def __call__(self, request: HttpRequest) -> Response:
        """Answers a JSON object of fields with a PNG file, and an error with JSON."""
        from starlette.responses import JSONResponse, Response

        try:
            sprite = await self.generate(_of_body(await request.body()))
            return Response(await asyncio.to_thread(sprite.png), media_type="image/png")
        except DgxPixelsError as error:
            status = _STATUS.get(error.kind, 500)
            wait = error.retry_after or (1 if status in (429, 503) else None)
            headers = {} if wait is None else {"Retry-After": str(math.ceil(wait))}
            body = {"kind": error.kind, "message": str(error), "field": error.field}
            return JSONResponse(body, status, headers)

    def check_health(self) -> None:
        """Raises an error if the engine is closed or its device hangs: Serve then replaces it."""
        _check_device(self._engine)


def _of_body(body: bytes) -> dict[str, Any]:
    """Returns the fields in a body. Those that name files of this machine are refused."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"the body is no JSON: {error}") from error
    if not isinstance(fields, dict):
        raise InvalidRequestError("the body is no JSON object; expected one with fields")
    for name in _PLACE & fields.keys():
        raise InvalidRequestError(f"`{name}` is not for callers over HTTP; leave it out", name)
    controls = fields.get("control")
    followed = [
        ("control", one.get("image"))
        for one in (controls if isinstance(controls, list) else [])
        if isinstance(one, dict)
    ]
    for name, image in [*((name, fields.get(name)) for name in _IMAGES), *followed]:
        if isinstance(image, str) and image != "alpha" and not image.startswith(("data:", "rgba:")):
            shown = image[:80]
            expected = "its bytes, `data:image/png;base64,...`, not a file"
            raise InvalidRequestError(f"`{name}` is `{shown}`; expected {expected}", name)
    palette = fields.get("palette")
    for text in palette if isinstance(palette, list) else [palette]:
        if isinstance(text, str) and not re.fullmatch(r"[#\w ,-]*", text):
            message = f"`palette` is `{text}`; expected a well-known name or colors, not a file"
            raise InvalidRequestError(message, "palette")
    return fields


def deployment(
    models: Models = None,
    *,
    common: Mapping[str, Any] | None = None,
    replicas: int = 1,
    gpus_per_replica: float | None = None,
    max_ongoing_requests: int = 32,
    max_queued_requests: int = 128,
    serve_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Application:
    """Returns an application for `ray.serve.run`: sprites over HTTP and through a handle.

    HTTP takes a JSON object of fields and answers with a PNG file. An error is a JSON object with
    `kind`, `message` and `field`. Its status is 400 for a wrong request, 429 or 503 with
    `Retry-After` if trying again helps, and otherwise 500, among others.

    A handle has `generate.remote(prompt, **fields)`, whose result is a `Sprite`. An error of this
    package is raised as itself; its `cause` has the `field`.

    Args:
        models: The models, as in `Engine`.
        common: The fields for requests that do not set them.
        replicas: The number of engines.
        gpus_per_replica: The GPUs of an engine. Default: 1 if the cluster has GPUs, otherwise 0.
        max_ongoing_requests: The most requests that an engine has at once.
        max_queued_requests: The most requests that wait in each proxy and in each handle. Ray
            refuses more with 429 and a plain text, or raises its `BackPressureError`.
        serve_options: More options of `ray.serve.deployment`, for example `autoscaling_config`.
        options: The options of `Engine`.
    """
    from ray import serve
    from ray.serve.config import BackpressureConfig

    gpus = _gpus(gpus_per_replica)
    settings: dict[str, Any] = {
        "name": "dgx-pixels",
        "num_replicas": replicas,
        "ray_actor_options": {"num_cpus": 0 if gpus else 1, "num_gpus": gpus},
        "max_ongoing_requests": max_ongoing_requests,
        "max_queued_requests": max_queued_requests,
        "backpressure_config": BackpressureConfig(status_code=429, retry_after_s=1),
        **(serve_options or {}),
    }
    return serve.deployment(**settings)(_Replica).bind(models, dict(common or {}), options)
