"""Fits the confidence of dgx-pixels: boosted trees over what speaks for a grid and against it.

    python damage.py write --set tune --group report --sources 8 --seed 21 --output /tmp/fit/report
    python damage.py write --set tune --group wild --sources 14 --seed 21 --output /tmp/fit/wild
    python damage.py write --set tune --group held-out --sources 14 --seed 21 --output /tmp/fit/held
    python damage.py write --set tune --group chains --sources 9 --seed 22 --output /tmp/fit/chains
    python damage.py write --set tune --group textures --sources 14 --seed 21 --output /tmp/fit/textures
    python fit.py flat --count 160 --seed 21 --output /tmp/fit/flat
    DGX_PIXELS_TEST_PICTURES=/tmp/fit/report cargo test --release --package dgx-pixels-core --lib \\
        evidence_of_a_folder -- --ignored --nocapture | grep '^{' > /tmp/fit/report/evidence.jsonl     # of each folder
    python fit.py trees /tmp/fit/* --output ../../dgx-pixels-core/src/pixel/grid

`trees` writes `all.forest`, which judges all candidates of a picture, `first.forest`, which judges
the one that is looked at first, and two that judge whether the picture has a grid at all:
`any.forest` by the likeliest candidate, `none.forest` by the one that is looked at first.

The figures that it prints are of kinds left out in turn: each kind is judged by trees that were
grown on pictures of other kinds, so they say what a new kind may expect. The same left-out answers
calibrate the sums of the trees.
"""

import argparse
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from drawings import drawings
from numpy.typing import NDArray
from PIL import Image
from sklearn.ensemble import HistGradientBoostingClassifier
from sources import DATA, load, native, no_grid, rng_of

Numbers = NDArray[np.float64]

FOLDS = 8
SURE = 0.8
# `grid/mod.rs` ends its search at this confidence that there is any grid.
NONE_AT_ONCE = 0.03
# Values of one grid alone; the others compare it with the other candidates.
ALONE = 53


@dataclass
class Rows:
    """One row a candidate, the one that is looked at first before the others of its picture."""

    values: Numbers
    right: Numbers
    picture: NDArray[np.int64]
    first: NDArray[np.bool_]
    any: Numbers
    """1 if the picture has a grid, whichever it is."""
    kinds: NDArray[np.str_]


def is_right(truth: dict[str, Any], found: dict[str, Any]) -> bool:
    """The right size; of a sheet whose parts lie apart, the right step."""
    judge = truth.get("judge", "size")
    if judge == "size":
        return bool(found["cells"] == [truth["cols"], truth["rows"]])
    steps = (truth["step_x"], truth["step_y"]) if judge == "step" else (0.0, 0.0)
    return all(true > 0 and abs(step / true - 1) < 0.01 for step, true in zip(found["step"], steps, strict=True))


def read(folders: list[Path]) -> Rows:
    values, right, picture, first, has_any, kinds = [], [], [], [], [], []
    names: dict[tuple[Path, str], int] = {}
    for folder in folders:
        truths = {row["file"]: row for row in json.loads((folder / "truth.json").read_text())}
        for line in (folder / "evidence.jsonl").read_text().splitlines():
            found = json.loads(line)
            truth = truths[found["file"]]
            # Boards are cleared before a grid is looked for, which this evidence does not know.
            if truth["category"].startswith("checkerboard") or truth["category"] == "gray_board":
                continue
            first.append((folder, found["file"]) not in names)
            picture.append(names.setdefault((folder, found["file"]), len(names)))
            values.append(found["values"])
            right.append(is_right(truth, found))
            has_any.append(truth["judge"] != "none")
            kinds.append(truth["category"])
    return Rows(np.array(values), np.array(right, float), np.array(picture), np.array(first), np.array(has_any, float), np.array(kinds))


def grown(values: Numbers, right: Numbers, weight: Numbers, trees: int) -> HistGradientBoostingClassifier:
    model = HistGradientBoostingClassifier(
        max_iter=trees, learning_rate=0.08, max_leaf_nodes=8, min_samples_leaf=25, l2_regularization=3, max_bins=64,
        early_stopping=False, random_state=1,
    )  # fmt: skip
    return model.fit(values, right, sample_weight=weight)


def left_out(values: Numbers, right: Numbers, weight: Numbers, kinds: NDArray[np.str_], trees: int) -> Numbers:
    """The sums of trees that have not seen the kind."""
    names = sorted(set(kinds))
    fold = dict(zip(names, rng_of("folds").permutation(len(names)) % FOLDS, strict=True))
    folds = np.array([fold[kind] for kind in kinds])
    sums = np.zeros(len(right))
    for i in range(FOLDS):
        own = folds == i
        sums[own] = grown(values[~own], right[~own], weight[~own], trees).decision_function(values[own])
    return sums


def calibrated(sums: Numbers, right: Numbers) -> tuple[float, float]:
    """Slope and shift of a logistic curve (Platt 1999)."""
    columns, found = np.c_[sums, np.ones(len(sums))], np.array([1.0, 0.0])
    for _ in range(50):
        share = 1 / (1 + np.exp(-columns @ found))
        slope = columns.T @ (columns * (share * (1 - share) + 1e-9)[:, None]) + 1e-3 * np.eye(2)
        found = found + np.linalg.solve(slope, columns.T @ (right - share))
    return float(found[0]), float(found[1])


def told(name: str, share: Numbers, right: Numbers, kinds: NDArray[np.str_]) -> None:
    error = 0.0
    for i in range(10):
        such = (share >= i / 10) & (share < (i + 1) / 10 + (i == 9))
        if such.any():
            error += abs(share[such].mean() - right[such].mean()) * such.mean()
    sure, doubt = share >= SURE, (share < SURE) & (share >= 1 - SURE)
    print(f"{name}: {len(share)} pictures of {len(set(kinds))} kinds, each left out in turn")
    print(f"  right {right.mean():.3f}, of sure {right[sure].mean():.3f}, sure {sure.mean():.3f}, in doubt {doubt.mean():.3f}")
    print(f"  wrong and sure {(sure & (right == 0)).mean():.4f}, calibration error {error:.3f}")
    wrong: dict[str, int] = defaultdict(int)
    for kind in kinds[sure & (right == 0)]:
        wrong[str(kind)] += 1
    print("  of these", ", ".join(f"{kind} {count}" for kind, count in sorted(wrong.items())))


def text(model: HistGradientBoostingClassifier, slope: float, shift: float) -> str:
    """The trees as `grid/forest.rs` reads them."""

    def branch(nodes: Any, at: int) -> list[str]:
        node = nodes[at]
        if node["is_leaf"]:
            return [f"{node['value']:.4g}"]
        left, right = branch(nodes, int(node["left"])), branch(nodes, int(node["right"]))
        return [f"{node['feature_idx']}<{node['num_threshold']:.6g}", *left, *right]

    lines = [f"{float(model._baseline_prediction.ravel()[0]):.5g} {slope:.4g} {shift:.4g}"]
    lines += [" ".join(branch(predictor[0].nodes, 0)) for predictor in model._predictors]
    return "\n".join(lines) + "\n"


def trees(folders: list[Path], output: Path) -> None:
    rows = read(folders)
    # A picture of many candidates counts little more than one of few.
    weight = 1 / np.sqrt(np.bincount(rows.picture)[rows.picture])
    sums = left_out(rows.values, rows.right, weight, rows.kinds, 120)
    best = np.lexsort((-sums, rows.picture))
    best = best[np.unique(rows.picture[best], return_index=True)[1]]
    slope, shift = calibrated(sums[best], rows.right[best])
    told("all", 1 / (1 + np.exp(-(slope * sums[best] + shift))), rows.right[best], rows.kinds[best])
    (output / "all.forest").write_text(text(grown(rows.values, rows.right, weight, 120), slope, shift))

    shares = 1 / (1 + np.exp(-(slope * sums + shift)))
    second = np.array([np.sort(np.r_[0.0, shares[rows.picture == rows.picture[i]]])[-2] for i in best])
    # Dithering is removed before it is asked whether there is a grid beneath.
    told_by = ~np.char.startswith(rows.kinds[best], "dither_")
    best, second = best[told_by], second[told_by]
    values, has_any, ones = np.c_[rows.values[best], shares[best], second], rows.any[best], np.ones(len(best))
    sums = left_out(values, has_any, ones, rows.kinds[best], 60)
    slope, shift = calibrated(sums, has_any)
    told("any", 1 / (1 + np.exp(-(slope * sums + shift))), has_any, rows.kinds[best])
    none = np.array([kind for kind in rows.kinds[best][(sums * slope + shift < -1.386) & (has_any == 1)]])
    print("  no grid is sure, and there is one:", ", ".join(sorted(set(none))), len(none))
    (output / "any.forest").write_text(text(grown(values, has_any, ones, 60), slope, shift))

    alone = rows.values[:, :ALONE]
    sums = left_out(alone, rows.right, weight, rows.kinds, 100)[rows.first]
    slope, shift = calibrated(sums, rows.right[rows.first])
    told("first", 1 / (1 + np.exp(-(slope * sums + shift))), rows.right[rows.first], rows.kinds[rows.first])
    (output / "first.forest").write_text(text(grown(alone, rows.right, weight, 100), slope, shift))

    told_by = rows.first & ~np.char.startswith(rows.kinds, "dither_")
    alone, has_any, kinds = alone[told_by], rows.any[told_by], rows.kinds[told_by]
    sums = left_out(alone, has_any, np.ones(len(alone)), kinds, 60)
    slope, shift = calibrated(sums, has_any)
    share = 1 / (1 + np.exp(-(slope * sums + shift)))
    told("none", share, has_any, kinds)
    ends = share <= NONE_AT_ONCE
    print(f"  the search ends at once for {ends[has_any == 0].mean():.3f} of those without, {ends[has_any == 1].mean():.4f} of the others")
    (output / "none.forest").write_text(text(grown(alone, has_any, np.ones(len(alone)), 60), slope, shift))


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
    growing = commands.add_parser("trees")
    growing.add_argument("folders", type=Path, nargs="+")
    growing.add_argument("--output", type=Path, required=True)
    making = commands.add_parser("flat")
    making.add_argument("--count", type=int, default=220)
    making.add_argument("--seed", type=int, default=11)
    making.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    if args.command == "trees":
        trees(args.folders, args.output)
    else:
        flat(args.count, args.seed, args.output)


if __name__ == "__main__":
    main()
