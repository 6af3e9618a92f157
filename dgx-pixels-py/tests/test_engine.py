"""Engines and jobs, from one thread."""

from __future__ import annotations

import gc
import itertools
import pickle
import queue
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Slow

import dgx_pixels as dp
from dgx_pixels import errors

#: Steps of a job that takes 0.2 s in the engine `slow`.
LONG = 100


def test_submit_returns_at_once_and_result_waits(engine: dp.Engine) -> None:
    job = engine.submit("a slime", seed=7)
    assert (job.prompt, job.seed) == ("a slime", 7)
    assert job.result(60) is job.result() == engine.generate("a slime", seed=7)
    assert job.done() and job.exception() is None
    assert repr(job) == f"<Job {job.id} 'a slime', seed 7, finished>"


def test_a_seed_at_random_is_reported(engine: dp.Engine) -> None:
    job = engine.submit("a slime")
    sprite = job.result(60)
    assert sprite.seed == job.seed
    assert engine.generate("a slime", seed=job.seed) == sprite
    assert engine.submit("a slime").seed != job.seed


def test_a_time_limit_ends_the_wait_and_not_the_job(slow: dp.Engine) -> None:
    job = slow.submit("a slime", steps=LONG)
    for wait in (job.result, job.exception):
        with pytest.raises(TimeoutError, match="has not ended after 0 s"):
            wait(0)
    assert not job.done()
    assert job.result(float("inf")).palette == [(0, 0, 0), (255, 0, 0)]


@pytest.mark.parametrize("timeout", [-1, float("nan"), "1", object()])
def test_a_wrong_time_limit_is_refused(engine: dp.Engine, timeout: Any) -> None:
    with pytest.raises(dp.InvalidRequestError, match="expected seconds, 0 or more") as caught:
        engine.submit("a slime").result(timeout)
    assert caught.value.field == "timeout"


def test_a_cancelled_job_says_so(slow: dp.Engine) -> None:
    job = slow.submit("a slime", steps=LONG)
    job.cancel()
    with pytest.raises(errors.JobCancelledError):
        job.result(60)
    assert isinstance(job.exception(), errors.JobCancelledError)
    assert repr(job).endswith(", cancelled>")
    job.cancel()
    done = slow.submit("a slime")
    done.result(60)
    done.cancel()
    assert done.exception() is None


def test_events_come_in_order_and_end(engine: dp.Engine) -> None:
    events = list(engine.submit("a slime", steps=4, preview_every=2))
    names = [type(event).__name__ for event in events]
    assert names[-1] == "Finished"
    order = {name: n for n, name in reversed(list(enumerate(names)))}
    assert order["Step"] < order["Finished"]
    steps = [event for event in events if isinstance(event, dp.Step)]
    assert [event.n for event in steps] == sorted(event.n for event in steps)
    assert steps[-1].n == steps[-1].of == 4
    previews = [event for event in events if isinstance(event, dp.Preview)]
    assert all(event.sprite.width > 0 for event in previews)
    last = events[-1]
    assert isinstance(last, dp.Finished) and last.sprite.verdict == "grid"


def test_events_of_an_ended_job_have_its_end(slow: dp.Engine) -> None:
    job = slow.submit("a slime")
    job.result(60)
    [*_, last] = job
    assert isinstance(last, dp.Finished)
    cancelled = slow.submit("a slime", steps=LONG)
    cancelled.cancel()
    [*_, last] = cancelled
    assert isinstance(last, dp.Cancelled)
    assert isinstance(last.error, errors.JobCancelledError)
    failed = slow.submit("a slime", deadline=0)
    [*_, last] = failed
    assert isinstance(last, dp.Failed)
    assert isinstance(last.error, errors.DeadlineExceededError)


def test_leaving_a_loop_of_events_leaves_the_job(slow: dp.Engine) -> None:
    job = slow.submit("a slime", steps=LONG)
    for _ in job:
        break
    assert job.exception(60) is None


def test_an_engine_finds_its_jobs(engine: dp.Engine) -> None:
    job = engine.submit("a slime")
    found = engine.find(job.id)
    assert found is not None and found.result(60) == job.result()
    assert engine.find("0198f0b5-7a4e-7a4e-8a4e-0198f0b57a4e") is None
    with pytest.raises(dp.InvalidRequestError, match="expected an id"):
        engine.find("a slime")


def test_submit_all_has_an_answer_for_each(engine: dp.Engine) -> None:
    answers = engine.submit_all(
        ["a slime", {"prompt": "a key", "steps": 0}, dp.Request("a coin", {"seed": 2})], seed=1
    )
    first, wrong, last = answers
    assert isinstance(first, dp.Job) and first.seed == 1
    assert isinstance(wrong, dp.InvalidRequestError) and wrong.field == "steps"
    assert isinstance(last, dp.Job) and last.seed == 2
    assert engine.submit_all([]) == []


def test_an_exception_of_a_value_is_raised_and_cancels_the_others(slow: dp.Engine) -> None:
    class Colors(list[str]):
        def __iter__(self) -> Any:
            raise KeyboardInterrupt

    requests = [{"prompt": "a", "steps": 1000}] * 5 + [{"prompt": "b", "palette": Colors(["#fff"])}]
    with pytest.raises(KeyboardInterrupt):
        slow.submit_all(requests)
    assert idle(slow)


@pytest.mark.parametrize("prompts", ["a slime", {"prompt": "a slime"}, dp.Request("a"), None, 3])
def test_one_request_is_not_several(engine: dp.Engine, prompts: Any) -> None:
    for call in (engine.submit_all, engine.map):
        with pytest.raises(dp.InvalidRequestError, match="expected several prompts") as caught:
            call(prompts)
        assert caught.value.field == "prompts"


def test_one_key_is_one_job(engine: dp.Engine) -> None:
    first = engine.submit("a slime", seed=1, idempotency_key="key")
    assert engine.submit("a slime", seed=1, idempotency_key="key").id == first.id
    with pytest.raises(dp.InvalidRequestError, match="another request"):
        engine.submit("a key", seed=1, idempotency_key="key")
    # Without a seed the key decides on it.
    second = engine.submit("a slime", idempotency_key="second")
    assert engine.submit("a slime", idempotency_key="second").id == second.id
    assert engine.submit("a slime", idempotency_key="third").seed != second.seed


def test_generate_draws_several_with_seeds_in_a_row(engine: dp.Engine) -> None:
    sprites = engine.generate("a slime", seed=5, count=3)
    assert [sprite.seed for sprite in sprites] == [5, 6, 7]
    assert sprites[1] == engine.generate("a slime", seed=6)
    first, second = engine.generate("a slime", count=2)
    assert first.seed is not None and second.seed == first.seed + 1


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"count": 0}, "count"),
        ({"count": 10**9}, "count"),
        ({"count": 2.0}, "count"),
        ({"count": True}, "count"),
        ({"count": 2, "seed": "x"}, "seed"),
        ({"count": 2, "seed": 2**64 - 1}, "seed"),
        ({"count": 2, "output": "a.png"}, "output"),
        ({"count": 2, "idempotency_key": "a"}, "idempotency_key"),
    ],
)
def test_several_have_checks_of_their_own(
    engine: dp.Engine, fields: dict[str, Any], name: str
) -> None:
    with pytest.raises(dp.InvalidRequestError) as caught:
        engine.generate("a slime", **fields)
    assert caught.value.field == name


def test_map_yields_in_the_order_of_the_prompts(engine: dp.Engine) -> None:
    requests = [{"prompt": "a slime", "seed": n, "steps": 1 + 97 * n % 60} for n in range(40)]
    sprites = list(engine.map(requests, batch=16))
    assert [sprite.seed for sprite in sprites] == list(range(40))


def test_map_yields_what_ends_first(slow: dp.Engine) -> None:
    requests = [{"prompt": "a slime", "seed": 0, "steps": LONG}]
    requests += [{"prompt": "a slime", "seed": n, "steps": 1} for n in range(1, 8)]
    sprites = list(slow.map(requests, ordered=False))
    assert sorted(sprite.seed or 0 for sprite in sprites) == list(range(8))
    assert sprites[-1].seed == 0


def test_map_yields_errors_in_place(engine: dp.Engine) -> None:
    requests = [{"prompt": "a"}, {"prompt": "b", "steps": 0}, {"prompt": "c", "deadline": 0}, "d"]
    answers = list(engine.map(requests, errors="return"))
    assert [type(answer) for answer in answers] == [
        dp.Sprite,
        dp.InvalidRequestError,
        errors.DeadlineExceededError,
        dp.Sprite,
    ]
    unordered = list(engine.map(requests, errors="return", ordered=False))
    assert sorted(type(answer).__name__ for answer in unordered) == sorted(
        type(answer).__name__ for answer in answers
    )


@pytest.mark.parametrize("ordered", [True, False])
def test_map_raises_the_first_error_and_cancels_the_rest(slow: dp.Engine, ordered: bool) -> None:
    requests: list[Any] = [{"prompt": "a", "steps": 0}]
    requests += [{"prompt": "b", "steps": LONG}] * 31
    with pytest.raises(dp.InvalidRequestError):
        list(slow.map(requests, ordered=ordered))
    assert idle(slow)


def test_map_reads_an_endless_iterator_as_jobs_end(engine: dp.Engine) -> None:
    read = 0

    def prompts() -> Iterator[str]:
        nonlocal read
        for n in itertools.count():
            read = n + 1
            yield f"slime {n}"

    sprites = list(itertools.islice(engine.map(prompts(), batch=4), 20))
    assert len(sprites) == 20
    assert read <= 24


def test_map_that_is_closed_early_cancels_its_jobs(slow: dp.Engine) -> None:
    requests: list[Any] = [{"prompt": "a slime", "steps": 1}]
    requests += [{"prompt": "a slime", "steps": LONG}] * 31
    sprites = slow.map(requests)
    next(sprites)
    del sprites
    assert idle(slow)


def test_map_raises_an_iterators_error_after_the_sprites_before_it(engine: dp.Engine) -> None:
    def prompts() -> Iterator[str]:
        yield "a slime"
        yield "a key"
        raise OSError("the list ends here")

    for ordered in (True, False):
        seen = []
        with pytest.raises(OSError, match="the list ends here"):
            for sprite in engine.map(prompts(), ordered=ordered):
                seen.append(sprite)
        assert len(seen) == 2


def test_map_is_stopped_by_a_keyboard_interrupt_of_its_iterator(slow: dp.Engine) -> None:
    def prompts() -> Iterator[Any]:
        yield {"prompt": "a slime", "steps": 1000}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(slow.map(prompts(), batch=2))
    assert idle(slow)


@pytest.mark.parametrize("fields", [{"batch": 0}, {"batch": 2.5}, {"batch": "2"}, {"errors": "x"}])
def test_map_has_checks_of_its_own(engine: dp.Engine, fields: dict[str, Any]) -> None:
    with pytest.raises(dp.InvalidRequestError):
        engine.map(["a slime"], **fields)


def test_map_shows_a_bar(engine: dp.Engine, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    assert len(list(engine.map(["a slime"] * 5, progress=True))) == 5
    assert "5/5" in capsys.readouterr().err


def test_map_says_which_package_draws_the_bar(
    engine: dp.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match=r"install `dgx-pixels\[progress\]`"):
        engine.map(["a slime"], progress=True)


def test_leaving_the_block_waits_for_all_jobs() -> None:
    with dp.Engine(Slow()) as engine:
        jobs = [engine.submit("a slime", steps=20) for _ in range(10)]
    assert all(job.exception() is None for job in jobs)


def test_an_exception_in_the_block_ends_the_engine_at_once() -> None:
    with pytest.raises(ZeroDivisionError), dp.Engine(Slow(), max_batch=1) as engine:
        jobs = [engine.submit("a slime", steps=LONG) for _ in range(50)]
        raise ZeroDivisionError
    assert isinstance(jobs[-1].exception(60), errors.ShutDownError)


def test_a_closed_engine_says_so() -> None:
    engine = dp.Engine("sketch")
    job = engine.submit("a slime")
    job.result(60)
    engine.close()
    engine.close(drain=True)
    assert repr(engine) == "<Engine sketch; closed>"
    for call in (
        lambda: engine.submit("a slime"),
        lambda: engine.generate("a slime"),
        lambda: engine.generate("a slime", count=2),
        lambda: list(engine.map(["a slime"])),
        lambda: engine.find(job.id),
        engine.metrics,
    ):
        with pytest.raises(errors.ShutDownError, match="the engine is closed"):
            call()
    assert job.result().size == (32, 32)
    assert engine.models == ["sketch"] and engine.recovered == []


def test_closing_ends_the_wait_of_another_thread() -> None:
    engine = dp.Engine(Slow(), max_batch=1)
    jobs = [engine.submit("a slime", steps=LONG) for _ in range(50)]
    seen: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threads = [
        threading.Thread(target=lambda: seen.put(jobs[-1].exception())),
        threading.Thread(target=lambda: seen.put(list(jobs[-1])[-1])),
    ]
    for thread in threads:
        thread.start()
    engine.close()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert {type(seen.get()) for _ in threads} == {errors.ShutDownError, dp.Failed}


def test_a_job_keeps_its_engine() -> None:
    job = dp.Engine(Slow()).submit("a slime", steps=LONG)
    gc.collect()
    assert job.exception(60) is None


def test_an_engine_that_is_dropped_ends() -> None:
    engine = dp.Engine(Slow())
    jobs = [engine.submit("a slime", steps=LONG) for _ in range(20)]
    gone = weakref.ref(engine)
    del engine, jobs
    gc.collect()
    assert gone() is None


def test_a_cycle_of_engine_and_job_is_collected() -> None:
    class Game:
        pass

    game: Any = Game()
    game.engine = dp.Engine("sketch")
    game.job = game.engine.submit("a slime")
    game.job.game = game
    game.job.result(60)
    gone = weakref.ref(game)
    del game
    gc.collect()
    assert gone() is None


def test_two_engines_are_apart() -> None:
    with dp.Engine("sketch") as one, dp.Engine("sketch") as two:
        job = one.submit("a slime", seed=7)
        assert two.find(job.id) is None
        assert two.generate("a slime", seed=7) == job.result(60)


def test_an_engine_cannot_be_pickled(engine: dp.Engine) -> None:
    with pytest.raises(TypeError, match="make one in each process"):
        pickle.dumps(engine)
    with pytest.raises(TypeError):
        pickle.dumps(engine.submit("a slime"))


def test_metrics_count_jobs(engine: dp.Engine) -> None:
    before = engine.metrics()
    engine.generate("a slime")
    after = engine.metrics()
    assert after.startswith("# HELP")
    assert before != after


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"device": "gpu"}, "device"),
        ({"dtype": "f8"}, "dtype"),
        ({"mode": "slow"}, "mode"),
        ({"budget": "200%"}, "budget"),
        ({"budget": "much"}, "budget"),
        ({"max_batch": 0}, "max_batch"),
        ({"max_batch": 2.5}, "max_batch"),
        ({"queue_capacity": 0}, "queue_capacity"),
        ({"queue_capacity": "2"}, "queue_capacity"),
        ({"preload": 3}, "preload"),
        ({"vae_tiling": "yes"}, "vae_tiling"),
        ({"journal": 3}, "journal"),
        ({"models": []}, "models"),
        ({"models": [3]}, "models"),
        ({"models": 3}, "models"),
        ({"models": {"mine": "sketch"}}, "models"),
        ({"models": ["sketch", "sketch"]}, "models"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], field: str) -> None:
    with pytest.raises(dp.InvalidRequestError) as caught:
        dp.Engine(**{"models": "sketch", **options})
    assert caught.value.field == field


def test_an_unknown_model_is_named(engine: dp.Engine) -> None:
    with pytest.raises(errors.InvalidModelError, match="`model` is `nothing`; there are `sketch`"):
        engine.submit("a slime", model="nothing")


def test_the_models_of_the_machine_are_listed() -> None:
    for model in dp.models():
        assert model.name and Path(model.path).is_dir()
        assert (model.error is None) is (model.size is not None)


def test_the_default_engine_is_made_once_and_again_after_a_close() -> None:
    first = dp.generate("a brass key", seed=7, model="sketch", size=(32, 32))
    engine = dp.default_engine()
    assert engine is dp.default_engine()
    engine.close()
    again = dp.generate("a brass key", seed=7, model="sketch", size=(32, 32))
    assert again == first
    assert len(dp.generate("a brass key", model="sketch", count=2)) == 2
    dp.default_engine().close()


def test_a_journal_keeps_results(tmp_path: Path) -> None:
    with dp.Engine("sketch", journal=tmp_path / "jobs") as engine:
        job = engine.submit("a slime", seed=7)
        sprite = job.result(60)
    with dp.Engine("sketch", journal=tmp_path / "jobs") as engine:
        assert engine.recovered == []
        found = engine.find(job.id)
        assert found is not None
        assert found.result(60) == sprite
        assert (found.prompt, found.seed) == ("a slime", 7)


def test_a_journal_goes_on_with_what_was_not_finished(tmp_path: Path) -> None:
    engine = dp.Engine(Slow(), journal=tmp_path / "jobs", max_batch=1)
    jobs = [engine.submit("a slime", seed=n, steps=20) for n in range(20)]
    engine.close()
    assert isinstance(jobs[-1].exception(60), errors.ShutDownError)
    unfinished = {job.id for job in jobs if job.exception(60) is not None}
    assert len(unfinished) > 1
    with dp.Engine(Slow(), journal=tmp_path / "jobs") as engine:
        recovered = engine.recovered
        assert {job.id for job in recovered} == unfinished
        assert all(job.result(60).seed == job.seed for job in recovered)


def test_one_journal_is_one_engines(tmp_path: Path) -> None:
    with (
        dp.Engine("sketch", journal=tmp_path / "jobs"),
        pytest.raises(errors.InternalError, match="journal"),
    ):
        dp.Engine("sketch", journal=tmp_path / "jobs")
    dp.Engine("sketch", journal=tmp_path / "jobs").close()


def idle(engine: dp.Engine) -> bool:
    """`True` once the engine has no job any more, within a few seconds."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        counts = [
            float(line.split()[-1])
            for line in engine.metrics().splitlines()
            if line.startswith(("dgx_pixels_queue_jobs", "dgx_pixels_running_jobs"))
        ]
        assert counts, "the names of the metrics are others now"
        if not any(counts):
            return True
        time.sleep(0.01)
    return False
