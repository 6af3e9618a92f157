"""Jobs in tasks of asyncio. The package has no event loop of its own."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest
from conftest import Slow

import dgx_pixels as dp
from dgx_pixels import errors

#: Steps of a job that takes 0.2 s in the engine `slow`.
LONG = 100


def test_a_job_is_awaited(engine: dp.Engine) -> None:
    async def main() -> None:
        job = engine.submit("a slime", seed=7)
        sprite = await job
        assert sprite == engine.generate("a slime", seed=7)
        # One that has ended, and one that many wait for.
        assert await job is sprite
        assert await asyncio.gather(job, job) == [sprite, sprite]

    asyncio.run(main())


def test_events_come_in_order_and_end(engine: dp.Engine) -> None:
    async def main() -> list[dp.Event]:
        return [event async for event in engine.submit("a slime", steps=4, preview_every=2)]

    events = asyncio.run(main())
    steps = [event.n for event in events if isinstance(event, dp.Step)]
    assert steps == sorted(steps) and steps[-1] == 4
    assert isinstance(events[-1], dp.Finished)


def test_the_loop_goes_on_while_a_job_is_awaited(slow: dp.Engine) -> None:
    async def main() -> int:
        ticks = 0
        job = asyncio.ensure_future(slow.submit("a slime", steps=LONG))
        while not job.done():
            await asyncio.sleep(0.01)
            ticks += 1
        return ticks

    assert asyncio.run(main()) >= 5


def test_errors_are_raised_where_the_job_is_awaited(slow: dp.Engine) -> None:
    async def main() -> None:
        with pytest.raises(errors.DeadlineExceededError):
            await slow.submit("a slime", deadline=0)
        job = slow.submit("a slime", steps=1000)
        asyncio.get_running_loop().call_later(0.01, job.cancel)
        with pytest.raises(errors.JobCancelledError):
            await job

    asyncio.run(main())


def test_cancelling_the_task_cancels_the_job(slow: dp.Engine) -> None:
    async def main() -> None:
        job = slow.submit("a slime", steps=1000)

        async def wait() -> dp.Sprite:
            return await job

        task = asyncio.create_task(wait())
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert isinstance(job.exception(5), errors.JobCancelledError)

    asyncio.run(main())


def test_cancelling_a_loop_over_events_cancels_the_job(slow: dp.Engine) -> None:
    async def main() -> None:
        job = slow.submit("a slime", steps=1000)

        async def watch() -> None:
            async for _ in job:
                pass

        task = asyncio.create_task(watch())
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert isinstance(job.exception(5), errors.JobCancelledError)

    asyncio.run(main())


def test_leaving_a_loop_over_events_leaves_the_job(slow: dp.Engine) -> None:
    async def main() -> None:
        job = slow.submit("a slime", steps=LONG)
        async for _ in job:
            break
        gc.collect()
        with pytest.raises(ZeroDivisionError):
            async for _ in job:
                raise ZeroDivisionError
        assert (await job).width == 8

    asyncio.run(main())


def test_wait_for_cancels_and_a_shield_does_not(slow: dp.Engine) -> None:
    async def main() -> None:
        job = slow.submit("a slime", steps=1000)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(job, 0.02)
        assert isinstance(job.exception(5), errors.JobCancelledError)
        job = slow.submit("a slime", steps=LONG)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(job), 0.02)
        assert (await job).width == 8

    asyncio.run(main())


def test_a_thousand_jobs_with_cancels_lose_nothing(engine: dp.Engine) -> None:
    async def main() -> None:
        jobs = [engine.submit("a slime", seed=n) for n in range(1000)]
        tasks = [asyncio.ensure_future(job) for job in jobs]
        for n, job in enumerate(jobs):
            if n % 7 == 0:
                job.cancel()
            elif n % 7 == 1:
                tasks[n].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        drawn = 0
        for n, result in enumerate(results):
            if isinstance(result, dp.Sprite):
                assert result.seed == n
                drawn += 1
            elif n % 7 == 0:
                assert isinstance(result, errors.JobCancelledError)
            else:
                assert n % 7 == 1 and isinstance(result, asyncio.CancelledError)
        assert drawn >= 714
        assert all(job.done() for job in jobs)

    asyncio.run(asyncio.wait_for(main(), 60))


def test_one_job_is_awaited_by_loops_of_several_threads(slow: dp.Engine) -> None:
    job = slow.submit("a slime", steps=LONG)
    seen: list[dp.Sprite] = []

    async def wait() -> None:
        seen.append(await job)

    threads = [threading.Thread(target=lambda: asyncio.run(wait())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(seen) == 4


def test_a_loop_that_is_closed_is_no_fault(
    slow: dp.Engine, capfd: pytest.CaptureFixture[str]
) -> None:
    loop = asyncio.new_event_loop()
    job = slow.submit("a slime", steps=LONG)

    async def wait() -> dp.Sprite:
        return await asyncio.shield(job)

    with pytest.raises(asyncio.TimeoutError):
        loop.run_until_complete(asyncio.wait_for(wait(), 0.02))
    for task in asyncio.all_tasks(loop):
        # Left as they are: the loop is gone before the job ends.
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    assert job.result(10).width == 8
    # The thread that notifies has gone on.
    assert asyncio.run(asyncio.wait_for(_one(slow), 10)).width == 8
    assert capfd.readouterr().err == ""


async def _one(engine: dp.Engine) -> dp.Sprite:
    return await engine.submit("a slime")


def test_a_loop_after_another_works(engine: dp.Engine) -> None:
    for _ in range(3):
        assert asyncio.run(_one(engine)).width == 32


def test_a_loop_inside_a_loop_works(engine: dp.Engine) -> None:
    async def main() -> None:
        # A thread of its own, as libraries do that are called in a running loop.
        sprite: Any = await asyncio.to_thread(lambda: asyncio.run(_one(engine)))
        assert sprite.width == 32
        assert (await _one(engine)).width == 32

    asyncio.run(main())


def test_closing_the_engine_ends_the_wait() -> None:
    async def main() -> None:
        engine = dp.Engine(Slow(), max_batch=1)
        jobs = [engine.submit("a slime", steps=LONG) for _ in range(20)]
        tasks = [asyncio.ensure_future(job) for job in jobs]
        await asyncio.sleep(0.02)
        await asyncio.to_thread(engine.close)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[-1], errors.ShutDownError)

    asyncio.run(asyncio.wait_for(main(), 10))
