"""Compares the seams of drawn tiles with those of tiles that artists made.

python tools/evaluate_sprite_xl/seams.py --program target/release/dgx-pixels --real FOLDER

It draws ten tiles for each of five prompts, and prints the quartiles of both. FOLDER has PNG files
of real tiles.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
from pathlib import Path

PROMPTS = ["a stone wall", "a brick wall", "a crystal wall", "a stone floor", "a sand floor"]
TILES = ["--tile-x", "--tile-y", "--quiet"]
VISIBLE = 2.0


def measured(folder: Path) -> list[float]:
    """Returns the seams that the certificates of a folder name."""
    files = sorted(folder.glob("*.json"))
    return [json.loads(file.read_text())["seam"] for file in files]


def report(name: str, seams: list[float]) -> None:
    """Prints a line of the table."""
    low, middle, high = statistics.quantiles(seams, n=4)
    hidden = sum(seam < VISIBLE for seam in seams)
    print(f"{name}: {len(seams)} tiles, {hidden} below {VISIBLE}, ", end="")
    print(f"quartiles {low:.2f} {middle:.2f} {high:.2f}, most {max(seams):.2f}")


def main() -> None:
    """Draws, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", type=Path, default=Path("target/release/dgx-pixels"))
    parser.add_argument("--real", type=Path, required=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as room:
        drawn, real = Path(room) / "drawn", Path(room) / "real"
        for prompt in PROMPTS:
            series = ["--seed", "1", "--count", "10", "--output", drawn]
            subprocess.run([args.program, "generate", prompt, *series, *TILES], check=True, stdout=-3)
        flags = ["--transparent", "off", "--grid", "1", "--output", f"{real}/"]
        subprocess.run([args.program, "pixelize", args.real, *flags, *TILES], check=True, stdout=-3)
        report("drawn", measured(drawn))
        report("real", measured(real))


if __name__ == "__main__":
    main()
