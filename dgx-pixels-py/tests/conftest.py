"""Fixtures. Everything but the tests that ask for `sprite_xl` or `torch` runs without torch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dgx_pixels as dp

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = Path(dp.__file__).absolute().parent.parent

Run = Callable[..., "subprocess.CompletedProcess[str]"]

# A shell makes its background jobs ignore Ctrl-C, and their children inherit that. The programs
# under test must not.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def environment(**variables: str) -> dict[str, str]:
    """Returns the environment of a process that imports the package of this one."""
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    paths = [str(PACKAGES), *map(os.path.abspath, others)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **variables}


@pytest.fixture
def engine() -> Iterator[dp.Engine]:
    """An engine that paints figures from the seed at once."""
    with dp.Engine("sketch") as engine:
        yield engine


class Slow(dp.Backend):
    """Draws a red square, one step in 2 ms."""

    name = "slow"
    size = (64, 64)

    def step(self, states: list[Any], steps_done: list[int]) -> None:
        time.sleep(0.002)

    def draw(self, request: dict[str, Any]) -> Any:
        import numpy as np

        image = np.zeros((request["size"]["height"], request["size"]["width"], 3), np.uint8)
        image[16:48, 16:48] = (255, 0, 0)
        return image


@pytest.fixture
def slow() -> Iterator[dp.Engine]:
    """An engine that is busy for a while: 2 ms a step, one job at a time."""
    engine = dp.Engine(Slow(), max_batch=1)
    yield engine
    engine.close()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs code in a process of its own, in an empty folder, and returns how it ended."""

    def run(
        code: str, *arguments: str, timeout: float = 60, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path,
            env=environment(**variables),
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


@pytest.fixture(scope="session")
def program() -> str:
    """The program `dgx-pixels`."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    places = [Path(sysconfig.get_path("scripts")), target / "release"]
    for place in places:
        if os.access(place / "dgx-pixels", os.X_OK):
            return str(place / "dgx-pixels")
    pytest.skip("the program `dgx-pixels` is not built; run `make torch python`")


@pytest.fixture(scope="session")
def with_torch() -> None:
    """Skips a test where torch cannot be used."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    version = torch.__version__.split("+")[0]
    if not version.startswith("2.11."):
        pytest.skip(f"torch is {version}; expected 2.11")
    found = {model.name: model for model in dp.models()}
    if "sprite-xl" not in found or found["sprite-xl"].error:
        pytest.skip("the embedded model `sprite-xl` is not found; set `DGX_PIXELS_MODELS`")


@pytest.fixture(scope="session")
def sprite_xl(with_torch: None) -> Iterator[dp.Engine]:
    """An engine with the embedded model, one for all tests."""
    with dp.Engine("sprite-xl") as engine:
        yield engine
