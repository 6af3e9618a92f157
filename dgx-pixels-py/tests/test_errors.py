"""Exceptions: one class for each kind, in one small tree."""

from __future__ import annotations

import pickle

import pytest

import dgx_pixels as dp
from dgx_pixels import _native, errors

CLASSES = [getattr(errors, name) for name in errors.__all__ if name != "DgxPixelsError"]


def test_each_kind_has_one_class() -> None:
    assert sorted(error.kind for error in CLASSES) == sorted(_native.kinds())
    assert all(issubclass(error, errors.DgxPixelsError) for error in CLASSES)


@pytest.mark.parametrize("kind", _native.kinds())
def test_the_library_raises_the_class_of_its_kind(kind: str) -> None:
    error = errors._of_kind(kind, "the text", "steps", 2.5)
    assert (error.kind, str(error), error.field, error.retry_after) == (
        kind,
        "the text",
        "steps",
        2.5,
    )
    with pytest.raises(errors.DgxPixelsError, match="the text"):
        raise error


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.kind)
def test_exceptions_survive_pickle(error: type[errors.DgxPixelsError]) -> None:
    again = pickle.loads(pickle.dumps(error("the text", "steps", 2.5)))
    assert type(again) is error
    assert (str(again), again.field, again.retry_after) == ("the text", "steps", 2.5)
    assert str(error("the text")) == "the text"
    assert error("the text").field is None


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        ("invalid_request", ValueError),
        ("invalid_model", ValueError),
        ("empty_sprite", ValueError),
        ("unsure", ValueError),
        ("out_of_memory", MemoryError),
        ("libtorch_unavailable", ImportError),
        ("not_found", FileNotFoundError),
        ("output", OSError),
        ("library_full", OSError),
        ("forbidden_path", PermissionError),
        ("deadline_exceeded", TimeoutError),
        ("game_unavailable", ConnectionError),
        ("not_finite", ArithmeticError),
        ("queue_full", RuntimeError),
        ("internal", RuntimeError),
    ],
)
def test_an_error_is_also_pythons_own(kind: str, base: type[Exception]) -> None:
    assert isinstance(errors._of_kind(kind, "the text", None, None), base)


def test_the_most_wanted_are_names_of_the_package() -> None:
    assert dp.InvalidRequestError is errors.InvalidRequestError
    assert dp.OutOfMemoryError is errors.OutOfMemoryError
    assert dp.DgxPixelsError is errors.DgxPixelsError


def test_a_full_queue_says_when_to_come_back() -> None:
    with dp.Engine("sketch", queue_capacity=1) as engine:
        answers = engine.submit_all(["a slime"] * 50, steps=1000)
        refused = [answer for answer in answers if isinstance(answer, Exception)]
        assert refused
        assert all(isinstance(error, errors.QueueFullError) for error in refused)
        assert all(error.retry_after is not None for error in refused)
        for job in answers:
            if isinstance(job, dp.Job):
                job.cancel()


def test_a_model_that_does_not_load_is_an_error_of_its_own(tmp_path) -> None:
    with pytest.raises(errors.InvalidModelError, match="no model or folder is called `nothing`"):
        dp.Engine("nothing")
    with pytest.raises(errors.InvalidModelError, match="cannot load the model"):
        dp.Engine(tmp_path)
