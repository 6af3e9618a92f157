"""A preprocessor of mdBook that makes the pages of this repository a book.

A page outside of `docs/`, such as `DESIGN.md`, becomes a page of the book's top folder. A link to a
file that is no page, such as a script, becomes a link to that file on GitHub. All pages stay plain
Markdown whose links also work on GitHub. `docs/book.toml` names this program.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
GITHUB = "https://github.com/dgx-pixels/dgx-pixels"
# A code block or code span, which has no links; or the target of a link or an image.
PART = re.compile(
    r"^(?P<fence>`{3,}).*?^(?P=fence)`*$|(?P<span>`+)(?!`).*?(?<!`)(?P=span)(?!`)|(?<=\]\()(?P<target>[^)\s]+)(?=\))",
    re.MULTILINE | re.DOTALL,
)


def all_chapters(items: list[Any]) -> list[dict[str, Any]]:
    """The chapters of a book that have a file, without parts and separators."""
    found = []
    for item in items:
        if isinstance(item, dict) and "Chapter" in item:
            chapter = item["Chapter"]
            found += [chapter] if chapter["source_path"] else []
            found += all_chapters(chapter["sub_items"])
    return found


def place(source: Path) -> str:
    """Where the page `source` of the repository is in the book."""
    if source.parts[0] == "docs":
        return str(source.relative_to("docs"))
    return "index.md" if str(source) == "README.md" else source.name


def link(target: str, source: Path, pages: dict[Path, str]) -> str:
    """The link that the book has in place of the link `target` of the page `source`."""
    path, hash_mark, anchor = target.partition("#")
    if not path or re.match(r"[a-z]+:", target):
        return target
    named = Path(os.path.normpath(source.parent / path))
    if not (ROOT / named).exists():
        sys.exit(f"{source}: the link `{target}` leads to no file of this repository")
    if named in pages:
        new = os.path.relpath(pages[named], Path(pages[source]).parent)
    elif named.parts[0] == "docs" and (ROOT / named).is_file():
        new = os.path.relpath(named.relative_to("docs"), Path(pages[source]).parent)
    else:
        kind = "tree" if (ROOT / named).is_dir() else "blob"
        new = f"{GITHUB}/{kind}/main/{named}"
    return new + hash_mark + anchor


def main() -> None:
    if sys.argv[1:2] == ["supports"]:
        return
    _, book = json.load(sys.stdin)
    chapters = all_chapters(book["items"])
    sources = [Path(os.path.normpath(Path("docs") / chapter["source_path"])) for chapter in chapters]
    pages = {source: place(source) for source in sources}
    for chapter, source in zip(chapters, sources):
        chapter["path"] = pages[source]
        chapter["content"] = PART.sub(
            lambda part, source=source: link(part["target"], source, pages) if part["target"] else part[0],
            chapter["content"],
        )
    json.dump(book, sys.stdout)


if __name__ == "__main__":
    main()
