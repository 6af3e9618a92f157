"""Processes: Ctrl-C in every wait, exits with work under way, forks and spawns."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from conftest import Run, environment

#: Seconds from Ctrl-C to the exception.
PROMPT = 1.0

PRELUDE = """
import signal, sys, threading, time
import dgx_pixels as dp

signal.signal(signal.SIGINT, signal.default_int_handler)


class Slow(dp.Backend):
    size = (64, 64)

    def step(self, states, steps_done):
        time.sleep(0.05)

    def draw(self, request):
        import numpy as np

        return np.zeros((64, 64, 3), np.uint8)


def ready():
    print("ready", flush=True)
"""


def interrupt(code: str, folder: Path) -> float:
    """Sends Ctrl-C to code that has called `ready`; returns the seconds until its exception."""
    code = textwrap.dedent(code).strip()
    whole = f"""{PRELUDE}
try:
{textwrap.indent(code, "    ")}
except KeyboardInterrupt:
    print(time.monotonic(), flush=True)
else:
    print("nothing was raised", flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", whole],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        assert line == "ready\n", process.stderr.read()
        time.sleep(0.3)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0, f"it ended with {process.returncode}: {errors}"
    assert errors == ""
    return float(output) - sent


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("job = engine.submit('a', steps=1000); ready(); job.result()", id="result"),
        pytest.param("job = engine.submit('a', steps=1000); ready(); job.result(60)", id="timeout"),
        pytest.param("job = engine.submit('a', steps=1000); ready(); list(job)", id="events"),
        pytest.param("ready(); engine.generate('a', steps=1000)", id="generate"),
        pytest.param("ready(); engine.generate('a', steps=1000, count=3)", id="count"),
        pytest.param("ready(); list(engine.map(['a'] * 99, steps=1000))", id="map"),
        pytest.param("ready(); list(engine.map(['a'] * 99, ordered=False))", id="unordered"),
    ],
)
def test_ctrl_c_ends_a_wait_for_jobs(code: str, tmp_path: Path) -> None:
    assert interrupt(f"engine = dp.Engine(Slow())\n{code}", tmp_path) < PROMPT


def test_ctrl_c_ends_a_close_that_drains(tmp_path: Path) -> None:
    code = """
    engine = dp.Engine("sketch")
    engine.submit_all(["a slime"] * 3000)
    ready()
    engine.close(drain=True)
    """
    assert interrupt(code, tmp_path) < PROMPT


@pytest.mark.parametrize("end", ["engine.close(drain=True)", "engine.__exit__(None, None, None)"])
def test_ctrl_c_ends_a_close_while_python_draws(end: str, tmp_path: Path) -> None:
    code = f"""
    engine = dp.Engine(Slow())
    engine.submit_all(["a slime"] * 100, steps=1000)
    ready()
    {end}
    """
    assert interrupt(code, tmp_path) < PROMPT


def test_ctrl_c_ends_pixelize(tmp_path: Path) -> None:
    code = """
    import numpy as np

    image = np.random.default_rng(0).integers(0, 256, (2048, 2048, 4), np.uint8)
    ready()
    while True:
        dp.pixelize(image)
    """
    assert interrupt(code, tmp_path) < PROMPT


def test_ctrl_c_ends_asyncio_and_cancels_the_job(tmp_path: Path) -> None:
    code = """
    import asyncio

    async def main():
        job = engine.submit("a slime", steps=1000)
        try:
            ready()
            await job
        finally:
            await asyncio.sleep(0)
            assert isinstance(job.exception(5), dp.errors.JobCancelledError)

    engine = dp.Engine(Slow())
    asyncio.run(main())
    """
    assert interrupt(code, tmp_path) < PROMPT


def test_another_handlers_exception_comes_through(run: Run) -> None:
    code = f"""{PRELUDE}
import numpy as np


class Alarm(Exception):
    pass


def on_alarm(*_):
    raise Alarm


signal.signal(signal.SIGALRM, on_alarm)
engine = dp.Engine(Slow())
image = np.random.default_rng(0).integers(0, 256, (4096, 4096, 4), np.uint8)
for wait in (
    lambda: engine.submit("a", steps=1000).result(),
    lambda: list(engine.submit("a", steps=1000)),
    lambda: list(engine.map(["a"] * 9, steps=1000)),
    lambda: dp.pixelize(image),
):
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        wait()
    except Alarm:
        print("alarm")
"""
    done = run(code)
    assert (done.stdout.split(), done.stderr) == (["alarm"] * 4, "")


EXITS = {
    "running jobs": """
        engine = dp.Engine(Slow())
        jobs = engine.submit_all(["a slime"] * 50, steps=1000)
        next(iter(jobs[0]))
    """,
    "many waiting": """
        engine = dp.Engine("sketch")
        engine.submit_all(["a slime"] * 3000)
    """,
    "no name": """
        dp.Engine(Slow()).submit("a slime", steps=1000)
    """,
    "default engine": """
        dp.default_engine().submit_all(["a slime"] * 500, model="sketch")
    """,
    "sys.exit": """
        engine = dp.Engine(Slow())
        engine.submit("a slime", steps=1000)
        sys.exit(0)
    """,
    "a thread in exception": """
        job = dp.Engine(Slow()).submit("a slime", steps=1000)
        threading.Thread(target=job.exception, daemon=True).start()
        time.sleep(0.1)
    """,
    "a thread in events": """
        job = dp.Engine(Slow()).submit("a slime", steps=1000)
        threading.Thread(target=list, args=(job,), daemon=True).start()
        time.sleep(0.1)
    """,
    "a thread that is no daemon": """
        job = dp.Engine(Slow()).submit("a slime", steps=10)
        threading.Thread(target=job.result).start()
    """,
    "asyncio": """
        import asyncio

        async def main():
            engine = dp.Engine(Slow())
            tasks = [asyncio.ensure_future(engine.submit("a", steps=1000)) for _ in range(3)]
            await asyncio.sleep(0.1)

        asyncio.run(main())
    """,
    "an iterator that was left": """
        engine = dp.Engine(Slow())
        sprites = engine.map(["a slime"] * 50)
        next(sprites)
    """,
    "a cycle": """
        class Game:
            pass

        game = Game()
        game.engine, game.game = dp.Engine(Slow()), game
        game.job = game.engine.submit("a slime", steps=1000)
    """,
    "an engine in a backend": """
        class Own(Slow):
            pass

        own = Own()
        own.engine = dp.Engine(own)
        own.engine.submit("a slime", steps=1000)
        time.sleep(0.1)
    """,
}


@pytest.mark.parametrize("name", EXITS)
def test_the_interpreter_exits_with_work_under_way(name: str, run: Run) -> None:
    code = textwrap.dedent(EXITS[name]).replace("sys.exit", "leave(); sys.exit")
    leave = "def leave():\n    print(time.monotonic(), flush=True)\n"
    done = run(f"{PRELUDE}\n{leave}\n{code}\nleave()", timeout=20)
    ended = time.monotonic()
    assert (done.returncode, done.stderr) == (0, "")
    assert ended - float(done.stdout) < 5


def test_a_draw_that_takes_long_ends_before_the_interpreter(run: Run) -> None:
    code = f"""{PRELUDE}
begun = threading.Event()


class Long(Slow):
    def draw(self, request):
        begun.set()
        time.sleep(1.5)
        print("drawn", flush=True)
        return super().draw(request)


job = dp.Engine(Long()).submit("a slime")
begun.wait()
"""
    done = run(code, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (0, "drawn\n", "")


def test_a_fork_of_a_used_engine_is_refused(run: Run) -> None:
    code = f"""{PRELUDE}
import os

engine = dp.Engine("sketch")
job = engine.submit("a slime", seed=7)
running = engine.submit("a slime")
sprite = job.result(10)
child = os.fork()
if child == 0:
    calls = [
        lambda: engine.submit("a slime"),
        lambda: engine.generate("a slime"),
        lambda: list(engine.map(["a slime"])),
        lambda: engine.find(job.id),
        engine.metrics,
        lambda: running.result(5),
        lambda: list(running),
        running.cancel,
        lambda: dp.Engine("sketch"),
        lambda: dp.generate("a slime"),
        dp.default_engine,
    ]
    for n, call in enumerate(calls):
        try:
            call()
        except dp.errors.ShutDownError as error:
            assert "spawn" in str(error), (n, error)
        else:
            sys.exit(f"call {{n}} was not refused")
    # What needs no engine works.
    assert job.result() == sprite
    assert dp.pixelize(sprite).width > 0
    repr(engine), repr(job), repr(running)
    engine.close()
    print("the child is done", flush=True)
    sys.exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
assert engine.generate("a slime", seed=7) == sprite
print("the parent is done")
"""
    done = run(code, timeout=20, PYTHONWARNINGS="ignore")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "the child is done\nthe parent is done\n"


def test_a_fork_before_the_first_engine_is_none(run: Run) -> None:
    code = f"""{PRELUDE}
import os

import numpy as np

image = np.full((64, 64, 4), 255, np.uint8)
dp.pixelize(image)
child = os.fork()
assert dp.pixelize(image).width > 0
with dp.Engine("sketch") as engine:
    engine.generate("a slime")
if child:
    _, status = os.waitpid(child, 0)
    assert status == 0, status
"""
    done = run(code, timeout=20, PYTHONWARNINGS="ignore")
    assert (done.returncode, done.stderr) == (0, "")


def test_pools_fork_with_an_error_and_spawn_without(tmp_path: Path) -> None:
    script = tmp_path / "pool.py"
    script.write_text(
        """
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

import dgx_pixels as dp


def draw(request):
    return dp.generate(request, model="sketch")


if __name__ == "__main__":
    requests = [dp.Request("a slime", {"seed": seed}) for seed in range(4)]
    expected = [draw(request) for request in requests]
    context = multiprocessing.get_context(sys.argv[1])
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        assert list(pool.map(draw, requests)) == expected
"""
    )

    def run(method: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(script), method],
            env=environment(PYTHONWARNINGS="ignore"),
            capture_output=True,
            text=True,
            timeout=60,
        )

    spawned = run("spawn")
    assert (spawned.returncode, spawned.stderr) == (0, "")
    forked = run("fork")
    assert forked.returncode == 1
    assert 'start processes by `multiprocessing.get_context("spawn")`' in forked.stderr


def test_the_package_imports_neither_torch_nor_numpy_nor_asyncio(run: Run) -> None:
    code = """
import sys

import dgx_pixels as dp

assert not {"torch", "numpy", "PIL", "asyncio", "tqdm", "ray"} & set(sys.modules)
dp.models()
with dp.Engine("sketch") as engine:
    engine.submit("a slime")
assert not {"torch", "PIL", "asyncio"} & set(sys.modules)
with open("/proc/self/maps") as file:
    assert "libtorch" not in file.read()
"""
    done = run(code)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("value", ["nested", "mapping", "path"])
def test_a_value_without_an_end_is_an_error(value: str, run: Run) -> None:
    code = """
import sys

import dgx_pixels as dp


class Path:
    def __fspath__(self):
        return self


nested, mapping, path = [], {}, Path()
nested.append(nested)
mapping["a"] = mapping
image = dp.Engine("sketch").generate("a slime", raw=True)
calls = (
    lambda: dp.Engine("sketch").submit("a", palette=VALUE),
    lambda: dp.pixelize(image, palette=VALUE),
)
for call in calls:
    try:
        call()
    except (dp.InvalidRequestError, TypeError):
        pass
    else:
        sys.exit("no error")
"""
    done = run(code.replace("VALUE", value))
    assert (done.returncode, done.stderr) == (0, "")


def test_the_module_runs_the_program(run: Run, tmp_path: Path) -> None:
    program = tmp_path / "scripts" / "dgx-pixels"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$0" "$@"; exit 3\n')
    program.chmod(0o755)
    code = """
import runpy
import sys
import sysconfig

folder = sys.argv.pop(1)
sysconfig.get_path = lambda *_: folder
runpy.run_module("dgx_pixels", run_name="__main__")
"""
    done = run(code, str(program.parent), "generate", "a potion")
    assert (done.returncode, done.stdout) == (3, f"{program} generate a potion\n")
    program.unlink()
    done = run(code, str(program.parent), "generate", "a potion")
    assert done.returncode == 1
    assert done.stderr.startswith("error: `") and "cannot be started" in done.stderr
