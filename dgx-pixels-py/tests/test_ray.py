"""Ray Data and Ray Serve on two simulated machines, which lose workers and are lost."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import numpy as np
import pytest

pytest.importorskip("ray")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Workers are as urgent as this process, so that a busy machine does not keep them from starting.
os.environ.setdefault("RAY_worker_niceness", "0")

with warnings.catch_warnings():
    # Ray's own, of the libraries that it uses.
    warnings.simplefilter("ignore")
    import ray.data
    from ray import serve
    from ray.cluster_utils import Cluster

import conftest
from conftest import Run, Slow

import dgx_pixels as dp
import dgx_pixels.ray as dr

PROMPTS = [f"prompt {i}" for i in range(60)]
#: Arguments of `draw` that take seconds: 0.1 s for each image.
SLOW: dict[str, Any] = {"models": Slow(), "common": {"steps": 50}, "max_batch": 1}


class Machines:
    """A cluster of two machines: the driver's, and another that can be lost."""

    def __init__(self) -> None:
        base = {"num_cpus": 2, "object_store_memory": 80 * 2**20, "include_dashboard": False}
        # A lost machine is found to be lost in seconds instead of a quarter of a minute.
        health = {"health_check_period_ms": 1000, "health_check_failure_threshold": 3}
        head = {**base, "_system_config": health}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        ray.init(address=self.cluster.address, logging_level="error", log_to_driver=False)
        self.nodes = [self.cluster.head_node, self.cluster.add_node(**base)]

    def processes(self, name: str, nodes: list[Any]) -> list[int]:
        """Returns the processes of Ray whose names begin with `name`, on these machines."""
        raylets = {node.all_processes["raylet"][0].process.pid for node in nodes}
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words, stat = (folder / "cmdline").read_bytes(), (folder / "stat").read_text()
            except OSError:
                continue
            parent = int(stat.rpartition(")")[2].split()[1])
            if words.startswith(f"ray::{name}".encode()) and parent in raylets:
                found.append(int(folder.name))
        return found

    def workers(self, node: Any = None) -> list[int]:
        """Returns the processes that draw, on one machine or on all."""
        return self.processes("MapWorker(", self.nodes if node is None else [node])


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    # The backend `Slow` travels with the job, because other processes cannot import it.
    ray.cloudpickle.register_pickle_by_value(conftest)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", conftest.environment()["PYTHONPATH"])
        machines = Machines()
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield machines
        serve.shutdown()
        ray.shutdown()
        machines.cluster.shutdown()
    ray.cloudpickle.unregister_pickle_by_value(conftest)


def read(dataset: ray.data.Dataset, seconds: float = 120) -> list[dict[str, Any]]:
    """Returns the rows, and fails instead of hanging."""
    rows: list[dict[str, Any]] = []
    reader = threading.Thread(target=lambda: rows.extend(dataset.take_all()), daemon=True)
    reader.start()
    reader.join(seconds)
    assert not reader.is_alive(), f"the run has not ended after {seconds} s"
    return rows


def check(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Checks that each prompt has one row and one file of its own, and nothing else is there."""
    assert sorted(row["prompt"] for row in rows) == sorted(PROMPTS)
    assert {row["error"] for row in rows} == {""}
    files = list(folder.glob("*.png"))
    assert {row["path"] for row in rows} == {str(file) for file in files}
    shown = [(dp.Sprite.open(file).provenance or {})["request"]["prompt"] for file in files]
    assert sorted(shown) == sorted(PROMPTS)
    beside = {file.with_suffix(".json") for file in files}
    # A killed process may leave a file that begins with a dot. None has a name that counts.
    seen = {file for file in folder.iterdir() if not file.name.startswith(".")}
    assert seen == beside | set(files)


def table(**columns: list[Any]) -> dict[str, Any]:
    return {name: np.array(column, object) for name, column in columns.items()}


def test_a_row_that_fails_is_a_value(tmp_path: Path) -> None:
    sprites = dr.Sprites(tmp_path, ["sketch"], common={"size": "16x16"})
    rows = table(
        prompt=["a key", None, "a key", "a key", "a key"],
        seed=[1.0, 1.0, -1.0, float("nan"), 1],
        size=[None, None, None, np.array([24, 24]), None],
        model=[None, None, None, None, "absent"],
        note=["kept", 1, 2, 3, 4],
    )
    made = sprites(rows)
    assert list(made["kind"]) == ["", "invalid_request", "invalid_request", "", "invalid_model"]
    assert made["error"][2] == "`seed` is -1; expected a whole number, 0 or more"
    assert list(made["drawn"]) == [True, False, False, True, False]
    assert [bool(path) for path in made["path"]] == [True, False, False, True, False]
    assert list(made["note"]) == ["kept", 1, 2, 3, 4]
    assert dp.Sprite.open(made["path"][0]).size == (16, 16)
    assert dp.Sprite.open(made["path"][3]).size == (24, 24)


def test_a_name_is_a_hash_of_the_request(tmp_path: Path) -> None:
    def paths(folder: Path, **columns: list[Any]) -> list[str]:
        made = dr.Sprites(folder, ["sketch"])(table(**columns))
        return [Path(path).name for path in made["path"]]

    [plain] = paths(tmp_path / "a", prompt=["a key"])
    assert paths(tmp_path / "b", prompt=["a key"]) == [plain]
    first, second = (dp.Sprite.open(tmp_path / folder / plain) for folder in "ab")
    assert first == second and first.seed == second.seed
    assert paths(tmp_path, prompt=["a key"], priority=["high"], steps=[None]) == [plain]
    different = paths(
        tmp_path,
        prompt=["a key"] * 4,
        seed=[first.seed, 3, None, None],
        steps=[None, None, 5, None],
        negative_prompt=[None, None, None, "rust"],
    )
    assert different[0] == plain and len(set(different)) == 4

    colors = tmp_path / "two.hex"
    names = []
    for text in ("ff0000\n00ff00\n", "ff0000\n0000ff\n"):
        colors.write_text(text)
        names += paths(tmp_path, prompt=["a key"], palette=[str(colors)])
    assert names[0] != names[1], "the name is of the palette's colors, not of its file's name"


def test_equal_rows_and_racing_workers_share_a_file(tmp_path: Path) -> None:
    rows = table(prompt=[f"prompt {i % 10}" for i in range(20)])
    racers = [dr.Sprites(tmp_path, ["sketch"]) for _ in range(4)]
    with ThreadPoolExecutor(len(racers)) as pool:
        made = list(pool.map(lambda racer: racer(rows), racers))
    assert {error for answer in made for error in answer["error"]} == {""}
    assert all(answer["drawn"].sum() <= 10 for answer in made)
    assert len(list(tmp_path.glob("*.png"))) == len(list(tmp_path.glob("*.json"))) == 10


def test_what_a_killed_process_leaves_does_not_count(tmp_path: Path) -> None:
    sprites = dr.Sprites(tmp_path, ["sketch"])
    [path] = sprites(table(prompt=["a key"]))["path"]
    whole = Path(path).read_bytes()
    # It was killed between the certificate and the image, or while it wrote.
    Path(path).rename(tmp_path / ".dgx-pixels-half")
    again = sprites(table(prompt=["a key"]))
    assert list(again["drawn"]) == [True] and Path(path).read_bytes() == whole


def test_wrong_arguments_are_errors_at_once(tmp_path: Path) -> None:
    with pytest.raises(dp.InvalidRequestError, match="`common` has the field `output`"):
        dr.draw(["a key"], tmp_path, common={"output": "key.png"})
    with pytest.raises(dp.InvalidRequestError, match="expected several prompts"):
        dr.draw("a key", tmp_path)
    with pytest.raises(dp.InvalidRequestError, match="expected a path"):
        dr.draw(["a key"], "s3://bucket/sprites")
    with pytest.raises(dp.InvalidRequestError, match="no column `prompt`; there are `text`"):
        dr.Sprites(tmp_path, ["sketch"])(table(text=["a key"]))


@pytest.mark.parametrize(("state", "code"), [("hangs", 1), ("absent", 7)])
def test_a_worker_whose_device_hangs_ends(run: Run, state: str, code: int) -> None:
    program = """
import sys
import numpy as np
import dgx_pixels as dp, dgx_pixels.ray as dr
error = dp.errors.DeviceUnavailableError("the device `cuda:0` does not answer")
dp.Engine.map = lambda self, requests, **options: iter([error])
if sys.argv[1] == "hangs":
    dp.Engine.metrics = lambda self: 'dgx_pixels_device_up{device="cuda:0"} 0\\n'
try:
    dr.Sprites("sprites", ["sketch"])({"prompt": np.array(["a key"])})
except dp.errors.DeviceUnavailableError:
    sys.exit(7)
"""
    ended = run(program, state)
    assert ended.returncode == code, ended.stderr


def test_a_second_run_draws_nothing(machines: Machines, tmp_path: Path) -> None:
    def run() -> list[dict[str, Any]]:
        drawing = dr.draw(PROMPTS, tmp_path, models=["sketch"], workers=2, batch_size=5)
        return read(drawing)

    first = run()
    check(tmp_path, first)
    assert all(row["drawn"] for row in first)
    times = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    second = run()
    check(tmp_path, second)
    assert not any(row["drawn"] for row in second)
    assert times == {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}


def test_rows_of_any_source_keep_their_columns(machines: Machines, tmp_path: Path) -> None:
    # Tasks that read and map need CPUs beside the workers.
    rows = ray.data.range(20, override_num_blocks=4).map(
        lambda row: {"prompt": f"prompt {row['id']}", "steps": -1 if row["id"] == 3 else 2}
    )
    made = read(dr.draw(rows, tmp_path, models=["sketch"], workers=2, batch_size=4))
    assert {row["prompt"]: row["kind"] for row in made if row["kind"]} == {
        "prompt 3": "invalid_request"
    }
    assert len(made) == 20 and len(list(tmp_path.glob("*.png"))) == 19


def test_a_killed_worker_loses_and_doubles_nothing(machines: Machines, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill() -> None:
        while len(list(tmp_path.glob("*.png"))) < 10:
            time.sleep(0.01)
        killed.append(random.choice(machines.workers()))
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    drawing = dr.draw(PROMPTS, tmp_path, workers=2, batch_size=5, **SLOW)
    check(tmp_path, read(drawing))
    assert killed and killed[0] not in machines.workers()


def test_a_lost_machine_loses_and_doubles_nothing(machines: Machines, tmp_path: Path) -> None:
    victim = machines.nodes[1]
    moment = random.randrange(5, 45)
    workers: list[int] = []

    def kill() -> None:
        while len(list(tmp_path.glob("*.png"))) < moment:
            time.sleep(0.01)
        workers.extend(machines.workers(victim))
        machines.cluster.remove_node(victim, allow_graceful=False)
        machines.nodes.remove(victim)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    drawing = dr.draw(PROMPTS, tmp_path, workers=2, batch_size=5, **SLOW)
    check(tmp_path, read(drawing))
    killer.join(20)
    assert len(workers) == 1, f"the lost machine had {workers} after {moment} files"
    for _ in range(100):
        if not any(Path(f"/proc/{worker}").exists() for worker in workers):
            return
        time.sleep(0.1)
    raise AssertionError("a worker of the lost machine still runs after 10 s")


@pytest.fixture(scope="module")
def url(machines: Machines) -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    return f"http://127.0.0.1:{port}"


def post(url: str, body: bytes) -> tuple[int, Any, Any]:
    """Returns status, headers and body of the answer."""
    for _ in range(3):
        try:
            with urlopen(url, body, timeout=30) as answer:
                return answer.status, answer.headers, answer.read()
        except HTTPError as error:
            return error.code, error.headers, error.read()
        except URLError:
            # Ray's proxy takes so many connections at once only when it gets the processor.
            time.sleep(0.5)
    raise TimeoutError(f"{url} takes no connection")


def test_serve_answers_handles_and_http(machines: Machines, url: str) -> None:
    app = dr.deployment(
        ["sketch"],
        common={"size": "16x16"},
        max_ongoing_requests=20,
        serve_options={"health_check_period_s": 1},
    )
    handle = serve.run(app)
    # 1. through the handle
    calls = [handle.generate.remote(f"prompt {i}", seed=i) for i in range(20)]
    sprites = [call.result(timeout_s=30) for call in calls]
    with dp.Engine("sketch") as engine:
        alone = engine.generate("prompt 3", seed=3, size="16x16")
    assert [sprite.seed for sprite in sprites] == list(range(20)) and sprites[3] == alone
    with pytest.raises(dp.InvalidRequestError, match="`seed` is -1") as wrong:
        handle.generate.remote("a key", seed=-1).result(timeout_s=30)
    assert wrong.value.cause.field == "seed"  # type: ignore[attr-defined]
    # 2. over HTTP
    status, headers, png = post(url, b'{"prompt": "prompt 3", "seed": 3}')
    assert (status, headers["content-type"]) == (200, "image/png")
    assert dp.Sprite.open(png) == alone
    for fields, kind, field in [
        ({"prompt": "a key", "seed": -1}, "invalid_request", "seed"),
        ({"prompt": "a key", "output": "/tmp/key.png"}, "invalid_request", "output"),
        ({"prompt": "a key", "palette": "/etc/passwd"}, "invalid_request", "palette"),
        ({"prompt": "a key", "palette": ["/etc/passwd"]}, "invalid_request", "palette"),
        ({"prompt": "a key", "model": "absent"}, "invalid_model", "model"),
        ({}, "invalid_request", "prompt"),
    ]:
        status, _, body = post(url, json.dumps(fields).encode())
        error = json.loads(body)
        assert (status, error["kind"], error["field"]) == (400, kind, field)
    assert post(url, b"[1]")[0] == post(url, b"\xff")[0] == 400
    # 3. after a replica is killed
    deployment = serve.status().applications["default"].deployments["dgx-pixels"]
    assert deployment.status == "HEALTHY"
    [replica] = machines.processes("ServeReplica:default:dgx-pixels", machines.nodes)
    os.kill(replica, signal.SIGKILL)
    until = time.monotonic() + 60
    while post(url, b'{"prompt": "prompt 3", "seed": 3}')[0] != 200:
        assert time.monotonic() < until, "the replica is not replaced after 60 s"
        time.sleep(0.2)


def test_serve_refuses_more_than_has_room(url: str) -> None:
    app = dr.deployment(
        SLOW["models"],
        common={"steps": 100},
        max_batch=1,
        queue_capacity=2,
        max_ongoing_requests=6,
        max_queued_requests=4,
    )
    serve.run(app, name="slow", route_prefix="/slow")
    with ThreadPoolExecutor(30) as callers:
        ask = b'{"prompt": "a key"}'
        answers = list(callers.map(lambda _: post(f"{url}/slow", ask), range(30)))
    refused = [(headers, body) for status, headers, body in answers if status != 200]
    assert {status for status, _, _ in answers} == {200, 429}
    assert all(int(headers["retry-after"]) >= 1 for headers, _ in refused)
    by_engine = [body for _, body in refused if body.startswith(b"{")]
    by_ray = [body for _, body in refused if b"backpressure" in body]
    assert by_engine and by_ray and len(by_engine) + len(by_ray) == len(refused)
    assert {json.loads(body)["kind"] for body in by_engine} == {"queue_full"}


def test_a_replica_is_ill_when_its_engine_is_closed_or_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replica = dr._Replica(["sketch"], {}, {})
    replica.check_health()
    hung = 'dgx_pixels_device_up{device="cuda:1"} 0\n'
    with monkeypatch.context() as patched:
        patched.setattr(dp.Engine, "metrics", lambda self: hung)
        with pytest.raises(dp.errors.DeviceUnavailableError, match="`cuda:1` does not answer"):
            replica.check_health()
    replica._engine.close()
    with pytest.raises(dp.errors.ShutDownError):
        replica.check_health()


def test_without_ray_the_error_says_what_to_install(run: Run) -> None:
    ended = run("import sys; sys.modules['ray'] = None; import dgx_pixels.ray")
    assert 'pip install "dgx-pixels[ray]"' in ended.stderr
