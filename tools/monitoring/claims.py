"""The claims of the checks: how one is registered, and how its proof fails."""

import subprocess

import stack

CHECKS = []


class Missing(Exception):
    """A program is not installed."""


class Wrong(Exception):
    """A claim does not hold."""


def check(claim, live=False):
    """Registers a function as the proof of a claim. It returns what a line says of it, or fails."""

    def register(function):
        CHECKS.append((claim, live, function))
        return function

    return register


def need(holds, found):
    if not holds:
        raise Wrong(found)


def need_none(faults):
    faults = list(faults)
    need(not faults, "; ".join(map(str, faults[:12])) + (f"; and {len(faults) - 12} more" if len(faults) > 12 else ""))


def tool(name, *arguments, **more):
    """Runs a program and returns what it did."""
    path = stack.program(name)
    if not path:
        raise Missing(f"{name} is not installed")
    return subprocess.run([path, *map(str, arguments)], capture_output=True, text=True, check=False, **more)


def said(done):
    return (done.stdout + done.stderr).strip()
