"""Builds the wheel: the program and the object for libtorch by `make`, the rest by maturin.

pip calls this (PEP 517). It needs the whole checkout, Rust and a C++ compiler.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import maturin
from maturin import get_requires_for_build_wheel

__all__ = ["build_wheel", "get_requires_for_build_wheel", "prepare_metadata_for_build_wheel"]

HERE = Path(__file__).resolve().parent.parent
ROOT = HERE.parent
PACKAGE = HERE / "python" / "dgx_pixels"
DATA = HERE / "wheel.data"


@contextlib.contextmanager
def _staged() -> Iterator[None]:
    """Puts what the wheel takes along beside the Python files, for the time of the build."""
    subprocess.run(["make", "-C", str(ROOT), "python-parts"], check=True)
    programs = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
    models = PACKAGE / "models"
    library = PACKAGE / "libdgx_pixels_torch.so"
    try:
        (DATA / "scripts").mkdir(parents=True, exist_ok=True)
        for name, place, kept in (
            ("dgx-pixels", DATA / "scripts" / "dgx-pixels", "--strip-all"),
            ("libdgx_pixels_torch.so", library, "--strip-unneeded"),
        ):
            shutil.copy2(programs / name, place)
            subprocess.run(["strip", kept, str(place)], check=True)
        shutil.copytree(ROOT / "models" / "sprite-xl", models / "sprite-xl", dirs_exist_ok=True)
        yield
    finally:
        shutil.rmtree(DATA, ignore_errors=True)
        shutil.rmtree(models, ignore_errors=True)
        library.unlink(missing_ok=True)


def prepare_metadata_for_build_wheel(
    metadata_directory: str, config_settings: dict[str, object] | None = None
) -> str:
    """Returns the name of the folder that is written into `metadata_directory`."""
    # maturin expects the folder, although what is in it is no metadata.
    DATA.mkdir(exist_ok=True)
    try:
        return str(maturin.prepare_metadata_for_build_wheel(metadata_directory, config_settings))
    finally:
        DATA.rmdir()


def build_wheel(
    wheel_directory: str,
    config_settings: dict[str, object] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """Returns the name of the wheel that is written into `wheel_directory`."""
    with _staged():
        return str(maturin.build_wheel(wheel_directory, config_settings, metadata_directory))
