"""The instructions of the benches in benches/counts, compared with the committed baseline.

counts.py check            counts, and fails if a bench differs by more than LIMIT_PERCENT
counts.py record           counts, and writes the baseline

Callgrind counts the instructions, so other programs on the machine do not change them. The compiler
does, so the baseline names it, and counts of another compiler are not compared.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
CRATE = ROOT / "benches/counts"
BASELINE = CRATE / "baseline.json"
# Two runs differ by less than 0.1 %: the standard library's hash maps begin with random keys.
LIMIT_PERCENT = 2.0
# What must be the same for counts to be comparable. The others may differ a little.
COMPARED = ("rustc", "target")


def output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def tools() -> dict[str, str]:
    """The programs that the counts depend on. Ends the program if one is missing."""
    runner = re.search(r'^gungraun = "=(.*)"$', (CRATE / "Cargo.toml").read_text(), re.MULTILINE)
    for name, fix in (("valgrind", "sudo apt install valgrind"), ("gungraun-runner", "make setup-counts")):
        if shutil.which(name) is None:
            sys.exit(f"counts: found no `{name}`, so nothing was counted; install it: {fix}")
    rustc = dict(line.split(": ", 1) for line in output("rustc", "-vV").splitlines() if ": " in line)
    return {
        "rustc": f"{rustc['release']} ({rustc['commit-hash'][:9]})",
        "target": rustc["host"],
        "gungraun": runner[1] if runner else "",
        "valgrind": output("valgrind", "--version").removeprefix("valgrind-"),
        "libc": " ".join(os.confstr("CS_GNU_LIBC_VERSION").split()),
    }


def counted() -> dict[str, int]:
    """Runs the benches. The instructions of each by its name."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", "target"), "counts").absolute()
    command = ["cargo", "bench", "--locked", "--target-dir", target, "--bench", "counts", "--"]
    arguments = ["--output-format=json", "--nosummary", f"--home={target / 'gungraun'}"]
    ran = subprocess.run([*command, *arguments], cwd=CRATE, stdout=subprocess.PIPE, text=True)
    if ran.returncode:
        sys.exit(f"counts: the benches ended with {ran.returncode}")
    counts = {}
    for summary in map(json.loads, ran.stdout.splitlines()):
        name = "/".join(filter(None, (summary["function_name"], summary.get("id"))))
        [profile] = summary["profiles"]
        counts[name] = profile["data"]["total"]["metrics"]["Ir"]["values"]["new"]
    return counts


def compared(old: dict[str, int], new: dict[str, int]) -> tuple[list[str], list[str]]:
    """The lines of a Markdown table, and what is wrong."""
    lines, faults = ["| bench | baseline | now | change |", "|---|---|---|---|"], []
    for name in sorted(old.keys() | new.keys()):
        if name not in old or name not in new:
            faults.append(f"`{name}` is in {'the baseline' if name in old else 'the benches'} alone")
            continue
        change = (new[name] / old[name] - 1) * 100
        lines.append(f"| {name} | {old[name]:,} | {new[name]:,} | {change:+.2f} % |")
        if abs(change) > LIMIT_PERCENT:
            faults.append(f"`{name}` takes {change:+.2f} % instructions; expected at most {LIMIT_PERCENT} % of change")
    return lines, faults


def check() -> list[str]:
    if not BASELINE.is_file():
        return [f"found no `{BASELINE.relative_to(ROOT)}`; write it: make record-counts"]
    old, now = json.loads(BASELINE.read_text()), tools()
    others = [f"`{name}` is {now[name]}, and was {old['tools'][name]}" for name in now if now[name] != old["tools"][name]]
    if any(now[name] != old["tools"][name] for name in COMPARED):
        return [f"the baseline is of other tools, so nothing was counted: {'; '.join(others)}", "record it: make record-counts"]
    lines, faults = compared(old["instructions"], counted())
    lines.extend(["", *(f"Another tool than the baseline's: {other}." for other in others)])
    print("\n".join(lines))
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with open(summary, "a") as file:
            print("\n".join([*lines, *(f"- {fault}" for fault in faults)]), file=file)
    if faults:
        faults.append("if that is intended, record it and say why in the commit: make record-counts")
    return faults


def record() -> list[str]:
    baseline = {"tools": tools(), "instructions": counted()}
    BASELINE.write_text(json.dumps(baseline, indent=2) + "\n")
    print(f"{BASELINE.relative_to(ROOT)}: {len(baseline['instructions'])} benches")
    return []


def main() -> None:
    os.chdir(ROOT)
    work = {"check": check, "record": record}.get(" ".join(sys.argv[1:]))
    if work is None:
        sys.exit(__doc__)
    faults = work()
    for fault in faults:
        print(f"counts: {fault}", file=sys.stderr)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
