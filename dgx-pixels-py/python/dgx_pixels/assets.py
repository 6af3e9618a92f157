"""Sprites on their way into a game: sheets, checks and deploys."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from . import _native
from .errors import InvalidRequestError, _whole
from .sprite import ImageLike, Sprite, _rgba

__all__ = [
    "Deployed",
    "DeployedSprite",
    "Finding",
    "Report",
    "Sheet",
    "deploy",
    "sheet",
    "validate",
]


@dataclass(frozen=True)
class Sheet:
    """A sheet that was written."""

    #: Its PNG file.
    path: str
    #: The index beside it, `NAME.json`: frames with their rectangles, and tags.
    index: dict[str, Any]


def sheet(
    path: str | os.PathLike[str],
    frames: Mapping[str, ImageLike] | Iterable[ImageLike],
    *,
    layout: Literal["grid", "packed"] = "grid",
    columns: int | None = None,
    gutter: int = 0,
    extrude: int = 0,
    duration_ms: int | None = None,
    force: bool = False,
) -> Sheet:
    """Puts frames into one PNG file, and writes its index beside it as `NAME.json`.

    Args:
        path: A file that ends in `.png`.
        frames: Sprites or images; a mapping gives them names. Default names: `frame_0`, `frame_1`,
            …
        layout: `grid`, for frames of one size, or `packed`.
        columns: The frames in a row of a grid. Default: as many as make it nearly square.
        gutter: Empty pixels between frames.
        extrude: The number of times that a frame's edge is repeated around it.
        duration_ms: The time that each frame is shown, 1 or more. Default: 100.
        force: `True` to replace files that exist.

    Raises `InvalidRequestError` and `OutputError`.
    """
    if layout not in ("grid", "packed"):
        raise InvalidRequestError(f"`layout` is {layout!r}; expected `grid` or `packed`", "layout")
    named: Iterable[tuple[str, ImageLike]]
    if isinstance(frames, Mapping):
        named = cast("Mapping[str, ImageLike]", frames).items()
    elif isinstance(frames, (str, os.PathLike)) or not isinstance(frames, Iterable):
        text = f"`frames` is of the type `{type(frames).__name__}`; expected several images"
        raise InvalidRequestError(text, "frames")
    else:
        named = ((f"frame_{n}", frame) for n, frame in enumerate(frames))
    most = 2**32 - 1
    options = {
        "columns": None if columns is None else _whole("columns", columns, 1, most),
        "packed": layout == "packed",
        "gutter": _whole("gutter", gutter, 0, most),
        "extrude": _whole("extrude", extrude, 0, most),
        "duration_ms": None if duration_ms is None else _whole("duration_ms", duration_ms, 1, most),
        "force": force,
    }
    given = [(name, *_rgba(frame)) for name, frame in named]
    return Sheet(os.fspath(path), json.loads(_native.sheet(path, given, options)))


@dataclass(frozen=True)
class Finding:
    """A fault that `validate` found."""

    #: The file.
    path: str
    #: `error` or `warning`.
    severity: str
    #: The name of the check.
    check: str
    #: The fault.
    reason: str
    #: The way to fix it.
    fix: str


@dataclass(frozen=True)
class Report:
    """The answer of `validate`."""

    #: The number of files that were checked.
    files: int
    #: The number of errors among the findings.
    errors: int
    #: The number of warnings among the findings.
    warnings: int
    #: All that is wrong.
    findings: list[Finding]


def validate(path: str | os.PathLike[str]) -> Report:
    """Checks a PNG file, a manifest or a folder of them as a game would use them.

    Raises `NotFoundError` for a path that leads to nothing that can be checked.
    """
    report = json.loads(_native.validate(path))
    findings = [
        Finding(
            path=found["path"],
            severity=found["severity"],
            check=found["check"],
            reason=found["reason"],
            fix=found["mend"],
        )
        for found in report["findings"]
    ]
    return Report(report["files"], report["errors"], report["warnings"], findings)


@dataclass(frozen=True)
class DeployedSprite:
    """One sprite of a deploy."""

    #: The name in the game.
    name: str
    #: Its PNG file in the game's folder.
    path: str
    #: `added`, `replaced` or `unchanged`.
    change: str


@dataclass(frozen=True)
class Deployed:
    """The answer of `deploy`."""

    #: The manifest's file.
    manifest: str
    #: `True` if the manifest is another than before.
    changed: bool
    #: The sprites, in the order in which they were given.
    sprites: list[DeployedSprite]
    #: `True` if a running game has confirmed that it shows them; `None` if none was asked.
    live: bool | None
    #: The reason why no game has confirmed it; `None` if one has, or none was asked.
    reason: str | None


def deploy(
    project: str | os.PathLike[str],
    sprites: Mapping[str, Sprite],
    *,
    dry_run: bool = False,
    reload: bool = True,
    port: int | None = None,
    wait: float = 5.0,
) -> Deployed:
    """Brings sprites into the project of a Bevy game, and into the game while it runs.

    Args:
        project: The folder with the game's `Cargo.toml`.
        sprites: The sprites by their names in the game, for example `enemy_slime`.
        dry_run: `True` to return what would be done, and do nothing.
        reload: `True` to ask the running game to show them.
        port: The game's port on this machine. Default: the plugin's own.
        wait: Seconds to wait until the game shows them, 0 to 600.

    Raises `InvalidRequestError` for a name or a project that cannot be used, and `OutputError`.
    """
    for name, sprite in sprites.items():
        if not isinstance(sprite, Sprite):
            kind = type(sprite).__name__
            text = f"`sprites` has `{name}` of the type `{kind}`; expected a `Sprite`"
            raise InvalidRequestError(text, "sprites")
    given = [(name, sprite.png()) for name, sprite in sprites.items()]
    port = None if port is None else _whole("port", port, 1, 65_535)
    done = json.loads(_native.deploy(project, given, dry_run, reload, port, wait))
    live = done["live"]
    return Deployed(
        manifest=done["manifest"],
        changed=done["changed"],
        sprites=[
            DeployedSprite(one["name"], one["path"], one["change"]) for one in done["sprites"]
        ],
        live=None if live is None else live["live"],
        reason=None if live is None else live["reason"],
    )
