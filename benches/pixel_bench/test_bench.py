"""The bench judges itself: `python -m pytest test_bench.py`, some ten seconds."""

from pathlib import Path

import numpy as np
import pytest
from bench import Result, same, score
from damage import CATEGORIES, LONG_SIDE, Damaged, spoil
from PIL import Image
from sources import DATA, Source, load

STRAIGHT = {"edges_x": None, "edges_y": None}
# Damages that move colours about and leave the middle of each cell alone.
HARMLESS = ["nearest_nonsquare", "nearest_fractional_cropped", "area_cropped", "edge_jitter", "grid_drift",
            "grid_uneven", "warp_light", "warp_strong", "tilt", "grid_lines"]  # fmt: skip


@pytest.fixture(scope="module")
def sources() -> list[Source]:
    return load(DATA / "tune")[::16]


def colour_at_middles(damaged: Damaged) -> np.ndarray:
    height, width = damaged.picture.shape[:2]
    x = damaged.centres[..., 0].astype(int).clip(0, width - 1)
    y = damaged.centres[..., 1].astype(int).clip(0, height - 1)
    return np.array(Image.fromarray(damaged.picture).convert("RGBA"))[y, x]


@pytest.mark.parametrize("category", HARMLESS)
def test_middles_show_the_truth(sources: list[Source], category: str) -> None:
    for source in sources:
        damaged = spoil(source, category, seed=5)
        assert same(colour_at_middles(damaged), damaged.truth), source.name


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_damage_is_the_same_twice_and_in_bounds(sources: list[Source], category: str) -> None:
    first, second = (spoil(sources[-1], category, seed=2) for _ in range(2))
    assert (first.picture == second.picture).all()
    assert max(first.picture.shape) <= 1.06 * LONG_SIDE
    assert abs(first.phase_x) <= first.step_x / 2 and abs(first.phase_y) <= first.step_y / 2
    assert first.centres.shape[:2] == first.truth.shape[:2]


def test_the_truth_scores_full_marks(sources: list[Source]) -> None:
    damaged = spoil(sources[0], "nearest_fractional", seed=1)
    result = score(damaged, STRAIGHT, damaged.truth, rgb_only=False)
    assert result["exact"] and result["alignment"] == 1.0 and result["oklab"] == 0 and result["invented"] == 0


def test_too_fine_and_too_coarse_grids_lose_alignment(sources: list[Source]) -> None:
    damaged = spoil(sources[0], "nearest_integer", seed=1)

    def at(factor: float) -> Result:
        size = [round(side * factor) for side in damaged.truth.shape[1::-1]]
        return score(damaged, STRAIGHT, np.array(Image.fromarray(damaged.truth).resize(size)), rgb_only=False)

    assert at(2)["alignment"] == 0.25
    assert at(0.5)["alignment"] == 0
    assert not at(0.5)["within_1"]


def test_the_two_sets_share_no_picture() -> None:
    tune, report = ({path.read_bytes() for path in Path(DATA / name).glob("*.png")} for name in ("tune", "report"))
    assert len(tune) >= 60 and len(report) >= 100 and not tune & report
