"""Runs of Ray Data in which a machine dies: in the end each prompt has exactly one file.

Usage:
    python benches/ray_kills.py [ROUNDS] [--prompts N] [--gpus]
    python benches/ray_kills.py --throughput [--prompts N]

A round draws 500 prompts on two simulated machines, and kills all processes of one of them when a
random number of files is there. With `--gpus`, each machine has one simulated GPU, so that a lost
worker has no place until the other one ends. The exit status is 0 if all rounds are right.

`--throughput` compares one worker on one core with two workers, each on a core of its own. All draw
with the embedded model.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Workers are as urgent as this process, so that a busy machine does not keep them from starting.
os.environ.setdefault("RAY_worker_niceness", "0")

import ray
from ray.cluster_utils import Cluster

import dgx_pixels as dp
import dgx_pixels.ray as dr

#: With this many steps, 500 sketches take seconds.
STEPS = 300
MEMORY = 80 * 2**20


def drawing_processes() -> dict[int, int]:
    """Returns the processes that draw on this machine, each with its parent."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes().startswith(b"ray::MapWorker("):
                # The parent is the second field after the name, which is in parentheses.
                parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
                found[int(folder.name)] = int(parent)
        except OSError:
            continue
    return found


def kill_later(cluster: Cluster, victim: Any, folder: Path, moment: int, seen: list[int]) -> None:
    """Kills a machine when `moment` files are there; `seen` gets the files and its workers."""
    while (files := len(list(folder.glob("*.png")))) < moment:
        time.sleep(0.01)
    raylet = victim.all_processes["raylet"][0].process.pid
    workers = list(drawing_processes().values()).count(raylet)
    cluster.remove_node(victim, allow_graceful=False)
    seen += [files, workers]


def kills(rounds: int, count: int, gpus: int) -> bool:
    """Runs the rounds and prints a table; `True` if all are right."""
    base = {"object_store_memory": MEMORY, "include_dashboard": False}
    # A lost machine is found to be lost in seconds instead of a quarter of a minute.
    health = {"health_check_period_ms": 1000, "health_check_failure_threshold": 3}
    head = {**base, "num_cpus": 0, "_system_config": health}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    # The driver is connected before the others are there, so that its machine is not killed.
    ray.init(address=cluster.address, logging_level="error", log_to_driver=False)
    nodes = [cluster.add_node(**base, num_cpus=2, num_gpus=gpus) for _ in range(2)]
    ray.data.DataContext.get_current().enable_progress_bars = False
    prompts = [f"prompt {i}" for i in range(count)]
    right = 0
    table = ["round  killed at  workers lost  rows  files  temporary  seconds  right"]
    try:
        for number in range(1, rounds + 1):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                victim = nodes.pop(random.randrange(2))
                seen: list[int] = []
                moment = random.randrange(count)
                arguments = (cluster, victim, folder, moment, seen)
                killer = threading.Thread(target=kill_later, args=arguments, daemon=True)
                killer.start()
                started = time.monotonic()
                rows = dr.draw(
                    prompts,
                    folder,
                    models=["sketch"],
                    common={"steps": STEPS, "size": "16x16"},
                    workers=2,
                    batch_size=10,
                ).take_all()
                seconds = time.monotonic() - started
                killer.join()
                is_right = check(folder, prompts, rows)
                right += is_right
                files = len(list(folder.glob("*.png")))
                temporary = len(list(folder.glob(".*")))
                table.append(
                    f"{number:5}  {seen[0]:9}  {seen[1]:12}  {len(rows):4}  {files:5}"
                    f"  {temporary:9}  {seconds:7.1f}  {'yes' if is_right else 'NO'}"
                )
                print(table[-1], flush=True)
            nodes.append(cluster.add_node(**base, num_cpus=2, num_gpus=gpus))
    finally:
        ray.shutdown()
        cluster.shutdown()
    # Once more, because Ray's own lines are between them.
    print(*table, f"{right} of {rounds} rounds are right", sep="\n")
    return right == rounds


def check(folder: Path, prompts: list[str], rows: list[dict[str, Any]]) -> bool:
    """`True` if each prompt has one row and one file that shows it, with its certificate."""
    files = {str(file): dp.Sprite.open(file) for file in folder.glob("*.png")}
    shown = [(sprite.provenance or {})["request"]["prompt"] for sprite in files.values()]
    return (
        sorted(shown) == sorted(prompts) == sorted(row["prompt"] for row in rows)
        and {row["path"] for row in rows} == files.keys()
        and all(Path(file).with_suffix(".json").exists() for file in files)
    )


def pin(stop: threading.Event) -> None:
    """Keeps each process that draws on a core of its own."""
    cores: dict[int, int] = {}
    while not stop.wait(0.2):
        for process in drawing_processes():
            core = cores.setdefault(process, len(cores))
            for thread in os.listdir(f"/proc/{process}/task"):
                os.sched_setaffinity(int(thread), {core})


def rate(workers: int, count: int) -> float:
    """Returns images a second while all workers draw: without their start and their end."""
    ray.init(
        num_cpus=2,
        object_store_memory=MEMORY,
        include_dashboard=False,
        logging_level="error",
        log_to_driver=False,
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    stop = threading.Event()
    pinner = threading.Thread(target=pin, args=(stop,), daemon=True)
    pinner.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            prompts = [f"a slime, number {i}" for i in range(count * workers)]
            sprites = dr.draw(
                prompts, folder, models=["sprite-xl"], workers=workers, batch_size=8, max_batch=4
            )
            rows = sprites.take_all()
            assert not any(row["error"] for row in rows)
            times = sorted(file.stat().st_mtime for file in Path(folder).glob("*.png"))
            # Both workers have started after a third, and neither has ended before the last fifth.
            first, last = len(times) // 3, len(times) * 4 // 5
            return (last - first) / (times[last] - times[first])
    finally:
        stop.set()
        pinner.join()
        ray.shutdown()


def throughput(count: int) -> None:
    """Prints the images a second of one worker and of two, and their ratio."""
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores", flush=True)
    one = rate(1, count)
    print(f"1 worker:  {one:.3f} images/s", flush=True)
    two = rate(2, count)
    print(f"2 workers: {two:.3f} images/s, {two / one:.2f} times as many")
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rounds", nargs="?", type=int, default=20)
    parser.add_argument("--prompts", type=int)
    parser.add_argument("--gpus", action="store_true")
    parser.add_argument("--throughput", action="store_true")
    given = parser.parse_args()
    if given.throughput:
        throughput(given.prompts or 48)
    else:
        raise SystemExit(not kills(given.rounds, given.prompts or 500, int(given.gpus)))
