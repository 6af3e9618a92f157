"""Fits the confidence of dgx-pixels: a logistic regression over what speaks for a grid and against it.

    python damage.py write --set tune --group report --sources 9 --seed 11 --output /tmp/fit/report
    python damage.py write --set tune --group wild --sources 18 --seed 11 --output /tmp/fit/wild
    python fit.py flat --count 220 --seed 11 --output /tmp/fit/flat
    DGX_PIXELS_TEST_PICTURES=/tmp/fit/report cargo test --release --package dgx-pixels-core --lib \\
        evidence_of_a_folder -- --ignored --nocapture | grep '^{' > /tmp/fit/report/evidence.jsonl     # of each folder
    python fit.py weights /tmp/fit/report /tmp/fit/wild /tmp/fit/flat

`weights` prints the numbers for `grid/evidence.rs`. The figures beside them are of kinds left out
in turn: each kind is judged by weights that were fitted to the pictures of all other kinds, so they
say what a new kind may expect.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from drawings import drawings
from numpy.typing import NDArray
from PIL import Image
from sources import DATA, load, native, no_grid

Numbers = NDArray[np.float64]

# A ridge, so that kinds of few pictures don't make weights of their own.
RIDGE = 3.0
SURE, LIMIT = 0.8, 0.6
# What `grid/evidence.rs` lets strange and noisy pictures have at most.
STRANGE, NEARLY_SURE = 0.55, 0.75


@dataclass
class Rows:
    """One row a picture."""

    values: Numbers
    right: Numbers
    most: Numbers
    kinds: list[str]


def is_right(truth: dict[str, Any], found: dict[str, Any]) -> bool:
    """The right size; of a sheet whose parts lie apart, the right step."""
    judge = truth.get("judge", "size")
    if judge == "size":
        return bool(found["cells"] == [truth["cols"], truth["rows"]])
    steps = (truth["step_x"], truth["step_y"]) if judge == "step" else (0.0, 0.0)
    return all(true > 0 and abs(step / true - 1) < 0.01 for step, true in zip(found["step"], steps, strict=True))


def read(folders: list[Path]) -> Rows:
    values, right, most, kinds = [], [], [], []
    for folder in folders:
        truths = {row["file"]: row for row in json.loads((folder / "truth.json").read_text())}
        for line in (folder / "evidence.jsonl").read_text().splitlines():
            found = json.loads(line)
            truth = truths[found["file"]]
            # Boards are cleared before a grid is looked for, which this evidence does not know.
            if truth["category"].startswith("checkerboard"):
                continue
            values.append(found["values"])
            right.append(is_right(truth, found))
            most.append(STRANGE if found["strange"] else NEARLY_SURE if found["noisy"] else 1.0)
            kinds.append(truth["category"])
    return Rows(np.array(values), np.array(right, float), np.array(most), kinds)


def fitted(values: Numbers, right: Numbers) -> Numbers:
    """Weights of values of unit spread, the last one of no value."""
    columns = np.c_[values, np.ones(len(values))]
    weights = np.zeros(columns.shape[1])
    ridge = np.eye(len(weights)) * RIDGE
    ridge[-1, -1] = 1e-6
    for _ in range(60):
        share = 1 / (1 + np.exp(-columns @ weights))
        slope = columns.T @ (columns * (share * (1 - share) + 1e-9)[:, None]) + ridge
        weights = weights + np.linalg.solve(slope, columns.T @ (right - share) - ridge @ weights)
    return weights


def shares(values: Numbers, weights: Numbers) -> Numbers:
    result: Numbers = 1 / (1 + np.exp(-(np.c_[values, np.ones(len(values))] @ weights)))
    return result


def weights(folders: list[Path]) -> None:
    rows = read(folders)
    mean, spread = rows.values.mean(axis=0), rows.values.std(axis=0) + 1e-9
    unit = (rows.values - mean) / spread
    kinds = np.array(rows.kinds)
    left_out = np.zeros(len(kinds))
    for kind in sorted(set(rows.kinds)):
        own = kinds == kind
        left_out[own] = shares(unit[own], fitted(unit[~own], rows.right[~own]))
    left_out = np.minimum(left_out, rows.most)
    error = 0.0
    for i in range(10):
        such = (left_out >= i / 10) & (left_out < (i + 1) / 10 + (i == 9))
        if such.any():
            error += abs(left_out[such].mean() - rows.right[such].mean()) * such.mean()
    answered, sure = left_out >= LIMIT, left_out >= SURE
    print(f"{len(kinds)} pictures of {len(set(rows.kinds))} kinds, each left out in turn:")
    print(f"  right {rows.right.mean():.3f}, of answered {rows.right[answered].mean():.3f}")
    print(f"  wrong and sure {(sure & (rows.right == 0)).mean():.4f}, calibration error {error:.3f}")
    found = fitted(unit, rows.right)
    print("weights:", ", ".join(f"{value:.3f}" for value in found[:-1] / spread))
    print(f"bias: {found[-1] - (found[:-1] * mean / spread).sum():.3f}")


def flat(count: int, seed: int, output: Path) -> None:
    """Photographs, gradients, drawings, and art at its own size, on which any grid is wrong."""
    output.mkdir(parents=True, exist_ok=True)
    rows = []
    sets = [
        ("no-grid", no_grid(count, seed)),
        ("drawing", drawings(count, seed)),
        ("native", native(count // 2, seed)),
        ("small", load(DATA / "tune")),
    ]
    for set_name, pictures in sets:
        for source in pictures:
            file = f"{set_name}_{source.name}.png"
            Image.fromarray(source.pixels).save(output / file, compress_level=1)
            rows.append({"file": file, "category": f"{set_name}_{source.name.split('_')[1]}", "judge": "none"})
    (output / "truth.json").write_text(json.dumps(rows, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    weighing = commands.add_parser("weights")
    weighing.add_argument("folders", type=Path, nargs="+")
    making = commands.add_parser("flat")
    making.add_argument("--count", type=int, default=220)
    making.add_argument("--seed", type=int, default=11)
    making.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    if args.command == "weights":
        weights(args.folders)
    else:
        flat(args.count, args.seed, args.output)


if __name__ == "__main__":
    main()
