"""What Python costs beside the engine: sprites from Python, and from the program.

Usage:
    python benches/overhead.py [ROUNDS] [--few N] [--many N]

In turns, `Engine.map` and `dgx-pixels batch` draw a few sprites and many, each in a new process and
with a journal.
The difference is the time of the sprites alone, without starts and the model's load.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SUBJECTS = ["a green slime", "a red potion", "a brass key", "an oak tree"]

MAP = """
import sys
from pathlib import Path
import dgx_pixels as dp
prompts = Path(sys.argv[1]).read_text().splitlines()
with dp.Engine(journal=Path(sys.argv[2]).with_name("jobs")) as engine:
    for place, sprite in enumerate(engine.map(prompts, seed=7)):
        sprite.save(Path(sys.argv[2]) / f"{place}.png")
"""


def seconds(door: str, count: int) -> float:
    """Returns the time in which a new process draws `count` sprites into files."""
    with tempfile.TemporaryDirectory() as folder:
        prompts = Path(folder, "prompts.txt")
        prompts.write_text("".join(f"{SUBJECTS[i % len(SUBJECTS)]}\n" for i in range(count)))
        made = Path(folder, "made")
        if door == "python":
            made.mkdir()
            command = [sys.executable, "-c", MAP, str(prompts), str(made)]
        else:
            command = [
                sys.executable,
                "-m",
                "dgx_pixels",
                "batch",
                str(prompts),
                "--output",
                str(made),
            ]
            command += ["--seed", "7"]
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        took = time.perf_counter() - began
        found = len(list(made.glob("*.png")))
        if found != count:
            raise RuntimeError(f"{door} made {found} of {count} sprites")
        return took


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("rounds", nargs="?", type=int, default=5)
    parser.add_argument("--few", type=int, default=8, metavar="N")
    parser.add_argument("--many", type=int, default=72, metavar="N")
    args = parser.parse_args()
    ratios = []
    for number in range(args.rounds):
        each = {}
        # Which is first changes, as the machine is not the same from minute to minute.
        for door in ("python", "program")[:: 1 if number % 2 == 0 else -1]:
            few, many = seconds(door, args.few), seconds(door, args.many)
            each[door] = (many - few) / (args.many - args.few)
        ratios.append(each["python"] / each["program"])
        print(
            f"round {number + 1}: Python {each['python'] * 1e3:.1f} ms a sprite, "
            f"the program {each['program'] * 1e3:.1f} ms, ratio {ratios[-1]:.3f}",
            flush=True,
        )
    print(
        f"median ratio {statistics.median(ratios):.3f}, from {min(ratios):.3f} to {max(ratios):.3f}"
    )


if __name__ == "__main__":
    main()
