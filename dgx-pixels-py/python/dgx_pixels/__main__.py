"""The program `dgx-pixels`: `python -m dgx_pixels generate "a potion"`."""

from __future__ import annotations

import os
import sys
import sysconfig
from typing import NoReturn


def _program() -> str:
    """Returns the path of the program that was installed with this package."""
    for scheme in (sysconfig.get_default_scheme(), sysconfig.get_preferred_scheme("user")):
        path = os.path.join(sysconfig.get_path("scripts", scheme), "dgx-pixels")
        if os.access(path, os.X_OK):
            return path
    # `pip install --target` puts programs beside packages.
    beside = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "bin")
    return os.path.join(beside, "dgx-pixels")


def main() -> NoReturn:
    """Becomes the program."""
    program = _program()
    try:
        os.execv(program, [program, *sys.argv[1:]])
    except OSError as error:
        print(f"error: `{program}` cannot be started: {error.strerror}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
