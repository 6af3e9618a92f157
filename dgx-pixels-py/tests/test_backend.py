"""Backends that are written in Python."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Slow
from PIL import Image

import dgx_pixels as dp
from dgx_pixels import errors


class Red(dp.Backend):
    size = (64, 64)

    def draw(self, request: dict[str, Any]) -> Any:
        image = np.zeros((request["size"]["height"], request["size"]["width"], 3), np.uint8)
        image[16:48, 16:48] = (255, request["seed"] % 256, 0)
        return image


class Drawn(dp.Backend):
    """Draws by a function."""

    size = (64, 64)

    def __init__(self, draw: Callable[[dict[str, Any]], Any]) -> None:
        self.draw = draw  # type: ignore[method-assign]


def test_ten_lines_draw() -> None:
    with dp.Engine(Red()) as engine:
        assert engine.models == ["python"]
        sprite = engine.generate("a red square", seed=7, transparent="off")
        assert sprite.palette == [(0, 0, 0), (255, 7, 0)]
        assert sprite.provenance is not None and sprite.provenance["model"] == "python"


def test_it_works_with_map_asyncio_and_a_journal(tmp_path: Path) -> None:
    with dp.Engine(Red(), journal=tmp_path / "jobs") as engine:
        requests = [{"prompt": "a square", "seed": seed} for seed in range(20)]
        sprites = list(engine.map(requests, transparent="off"))
        assert [sprite.palette[1] for sprite in sprites] == [(255, n, 0) for n in range(20)]

        async def main() -> dp.Sprite:
            return await engine.submit("a square", seed=3, transparent="off")

        assert asyncio.run(main()) == sprites[3]
        job = engine.submit("a square", seed=4, transparent="off")
        job.result(10)
    with dp.Engine(Red(), journal=tmp_path / "jobs") as engine:
        found = engine.find(job.id)
        assert found is not None and found.result(10) == sprites[4]


def test_a_request_has_every_field() -> None:
    seen: list[dict[str, Any]] = []

    def draw(request: dict[str, Any]) -> Any:
        seen.append(request)
        return np.zeros((request["size"]["height"], request["size"]["width"], 3), np.uint8)

    with dp.Engine(Drawn(draw)) as engine:
        engine.generate("a key", negative_prompt="text", seed=7, raw=True, width=100, height=72)
    [request] = seen
    assert (request["prompt"], request["negative_prompt"]) == ("a key", "text")
    assert (request["seed"], request["steps"], request["guidance_scale"]) == (7, 1, 5.0)
    assert request["size"] == {"width": 100, "height": 72}


def test_states_step_together() -> None:
    class Stepped(Red):
        steps = 4

        def __init__(self) -> None:
            self.most = 0

        def begin(self, request: dict[str, Any]) -> Any:
            return {"request": request, "done": []}

        def step(self, states: list[Any], steps_done: list[int]) -> None:
            self.most = max(self.most, len(states))
            for state, done in zip(states, steps_done, strict=True):
                state["done"].append(done)

        def finish(self, states: list[Any]) -> list[Any]:
            assert all(state["done"] == [0, 1, 2, 3] for state in states)
            return [self.draw(state["request"]) for state in states]

        def preview(self, state: Any) -> Any:
            return Image.new("RGB", (8, 8), (9, 9, 9))

    backend = Stepped()
    with dp.Engine(backend) as engine:
        assert len(engine.generate("a square", count=16)) == 16
        events = list(engine.submit("a square", preview_every=1))
    assert backend.most > 1
    previews = [event for event in events if isinstance(event, dp.Preview)]
    assert previews and previews[0].sprite.palette == [(9, 9, 9)]


def test_images_of_any_kind_are_taken() -> None:
    array = Red().draw({"size": {"width": 64, "height": 64}, "seed": 0})
    for image in (array, np.asfortranarray(array), array[::-1], Image.fromarray(array)):
        with dp.Engine(Drawn(lambda _, image=image: image)) as engine:
            assert engine.generate("a square", transparent="off").size == (8, 8)


def raises(error: BaseException) -> Callable[[Any], Any]:
    def draw(request: Any) -> Any:
        raise error

    return draw


@pytest.mark.parametrize(
    ("draw", "text"),
    [
        (raises(ZeroDivisionError("by zero")), "`python` raised ZeroDivisionError: by zero"),
        (raises(ValueError("one\ntwo")), "raised ValueError: one two"),
        (raises(KeyboardInterrupt()), "raised KeyboardInterrupt"),
        (raises(SystemExit(3)), "raised SystemExit"),
        (lambda _: None, "expected uint8"),
        (lambda _: "an image", "expected uint8"),
        (lambda _: np.zeros((64, 64, 3)), "an array of float64 of the shape [64, 64, 3]"),
        (lambda _: np.zeros((64, 64, 4), np.uint8), "the shape [64, 64, 4]; expected"),
        (lambda _: np.zeros((64, 64), np.uint8), "the shape [64, 64]; expected"),
        (
            lambda _: np.zeros((32, 64, 3), np.uint8),
            "it drew an image of 64x32; the request asks for 64x64",
        ),
    ],
)
def test_a_fault_fails_the_job_with_its_reason(draw: Any, text: str) -> None:
    with dp.Engine(Drawn(draw)) as engine:
        job = engine.submit("a square")
        with pytest.raises(errors.InternalError) as caught:
            job.result(10)
        assert text in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_fault_is_its_jobs_alone() -> None:
    def draw(request: dict[str, Any]) -> Any:
        if request["seed"] % 2:
            raise ValueError("odd")
        return Red().draw(request)

    requests = [{"prompt": "a square", "seed": seed} for seed in range(6)]
    with dp.Engine(Drawn(draw), max_batch=1) as engine:
        answers = list(engine.map(requests, errors="return"))
    assert [isinstance(answer, dp.Sprite) for answer in answers] == [True, False] * 3


def test_a_backend_without_a_method_says_so() -> None:
    with (
        dp.Engine(dp.Backend()) as engine,
        pytest.raises(errors.InternalError, match="defines neither `draw` nor `finish`"),
    ):
        engine.generate("a square")


def test_a_memory_error_is_tried_with_half_of_the_jobs() -> None:
    class Small(Red):
        def step(self, states: list[Any], steps_done: list[int]) -> None:
            if len(states) > 2:
                raise MemoryError

    with dp.Engine(Small()) as engine:
        assert len(engine.generate("a square", count=8, steps=3)) == 8
    with (
        dp.Engine(Drawn(raises(MemoryError()))) as engine,
        pytest.raises(dp.OutOfMemoryError),
    ):
        engine.generate("a square")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", 64),
        ("size", (64,)),
        ("size", (0, 64)),
        ("size", (64.5, 64)),
        ("steps", 0),
        ("steps", "3"),
        ("guidance_scale", float("nan")),
        ("guidance_scale", "much"),
        ("name", 3),
        ("name", "a\ud800"),
    ],
)
def test_a_wrong_attribute_is_named(name: str, value: Any) -> None:
    backend = Red()
    setattr(backend, name, value)
    with pytest.raises(dp.InvalidRequestError) as caught:
        dp.Engine(backend)
    assert caught.value.field == name


def test_numpy_numbers_are_attributes() -> None:
    backend = Red()
    backend.size = (np.int64(64), np.int32(64))  # type: ignore[assignment]
    backend.guidance_scale = np.float32(2)  # type: ignore[assignment]
    with dp.Engine(backend) as engine:
        assert engine.generate("a square").width > 0


def test_several_models_share_an_engine() -> None:
    with dp.Engine({"red": Red(), "slow": Slow()}) as engine:
        assert engine.models == ["red", "slow"]
        assert engine.generate("a square", model="slow").width > 0
    with dp.Engine([Red(), "sketch"]) as engine:
        assert engine.models == ["python", "sketch"]
        assert engine.generate("a slime", model="sketch").size == (32, 32)
    with pytest.raises(dp.InvalidRequestError, match="names `python` twice"):
        dp.Engine([Red(), Red()])
    with pytest.raises(dp.InvalidRequestError, match="of the type `type`"):
        dp.Engine(Red)  # type: ignore[arg-type]


def test_a_draw_may_submit_another_job() -> None:
    jobs = []

    def draw(request: dict[str, Any]) -> Any:
        if request["prompt"] == "outer":
            jobs.append(engine.submit("inner"))
        return Red().draw(request)

    with dp.Engine(Drawn(draw)) as engine:
        engine.generate("outer")
        assert jobs[0].result(10).width > 0


def test_a_draw_may_close_its_engine() -> None:
    def draw(request: dict[str, Any]) -> Any:
        engine.close()
        return Red().draw(request)

    engine = dp.Engine(Drawn(draw))
    job = engine.submit("a square")
    job.exception(10)


def test_a_draw_may_drop_its_engine() -> None:
    dropped = threading.Event()
    holder: dict[str, dp.Engine] = {}

    def draw(request: dict[str, Any]) -> Any:
        holder.clear()
        gc.collect()
        dropped.set()
        return Red().draw(request)

    holder["engine"] = dp.Engine(Drawn(draw))
    holder["engine"].submit_all(["a square"] * 3)
    assert dropped.wait(5)
