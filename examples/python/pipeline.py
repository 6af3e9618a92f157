"""A pipeline: a thousand prompts, a bar, a journal, and a run that goes on where it ended.

Each sprite becomes a file that is named by its prompt and seed. A prompt whose file is there is not
drawn again, and jobs that a killed run had accepted are finished from the journal.

python examples/python/pipeline.py --count 1000 --output sprites
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import dgx_pixels as dp

COLORS = ("red", "green", "blue", "golden", "purple", "white", "black", "orange", "pink", "teal")
THINGS = ("slime", "potion", "key", "chest", "sword", "shield", "gem", "coin", "mushroom", "ghost")


def requests(count: int, folder: Path) -> Iterator[dp.Request]:
    """Yields the requests whose files are not there: ten seeds for each of a hundred subjects."""
    subjects = itertools.product(range(10), COLORS, THINGS)
    for seed, color, thing in itertools.islice(subjects, count):
        path = folder / f"{color}_{thing}_{seed}.png"
        if not path.exists():
            # The engine writes the file, whole or not at all, before it reports the job as done.
            # `force`: the certificate beside it may be there already.
            fields = {"seed": seed, "output": path, "force": True}
            yield dp.Request(f"a {color} {thing}", fields)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw many sprites into a folder.")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--model")
    parser.add_argument("--output", type=Path, default=Path("sprites"))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)

    journal = arguments.output / "journal"
    failed = 0
    with dp.Engine(arguments.model, journal=journal) as engine:
        # 1. what a run before has left
        for job in engine.recovered:
            failed += job.exception() is not None
        # 2. what is not drawn yet; an error costs its own sprite alone
        todo = list(requests(arguments.count, arguments.output))
        for answer in engine.map(todo, progress=True, ordered=False, errors="return"):
            if isinstance(answer, dp.DgxPixelsError):
                print(f"{answer.kind}: {answer}")
                failed += 1
    files = len(list(arguments.output.glob("*.png")))
    print(f"{len(todo)} drawn now, {files} files in {arguments.output}, {failed} failed")


if __name__ == "__main__":
    main()
