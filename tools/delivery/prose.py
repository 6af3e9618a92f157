"""The doc comments of the crates, and the width of prose.

prose.py check          fails if a rule below is broken, and prints each place
prose.py table          prints doc lines, code lines and their ratio for each crate and folder
prose.py wrap [FILE..]  wraps comments of Rust that are too wide; without files, all of them

The rules:

- Over the crates of `PUBLISHED`, there are at least `LEAST` lines of doc comments per line of code.
- The doc comment of a module or a public item begins with a noun or a verb: not with a word of
  `FRAGMENTS`, and with a capital letter, a digit or code. In the programs, where comments of private
  fields are help texts, this holds for all doc comments.
- A line of prose, in Markdown and in comments of Rust, has at most `WIDTH` characters. Tables,
  links, commands and blocks of code may be wider.

Tests are not counted: files below `tests`, files named `tests.rs` or `*_tests.rs`, and modules
behind `#[cfg(test)]`, in a file of their own or not.
"""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
# The crates that other crates can depend on.
PUBLISHED = ("dgx-pixels-core", "dgx-pixels-manifest", "dgx-pixels-bevy")
LEAST = 0.3
WIDTH = 100
FRAGMENTS = (
    "What Whether How Where When Why Which Who Whose Of As At By In On From With Without To Than Also And Or But If "
    "So Then That These Those Told Like Only Beside Beneath Among Between Until Unless"
).split()
FRAGMENT = re.compile(rf"(?:{'|'.join(FRAGMENTS)})\b")
BEGINNING = re.compile(r"[A-Z0-9`\[<(*#|!\"'-]")
TEST_FILE = re.compile(r"(?:^|/)(?:tests|benches|examples|fuzz)/|(?:^|/)(?:\w+_)?tests\.rs$")
TEST_MODULE = re.compile(
    r"^#\[cfg\((?:test|all\(test, shuttle\))\)\]\nmod (\w+);$", re.MULTILINE
)
# The crates whose doc comments of private fields are help texts.
PROGRAMS = ("src/", "dgx-pixels-mcp/src/")
MODULE = "//!"
# A public item, a variant, or a module.
PUBLIC = re.compile(rf"pub\b(?!\()|[A-Z]|{MODULE}")
COMMENT = re.compile(r"\s*(///|//!|//)(?!/)\s?(.*)")


class Comment(NamedTuple):
    """A doc comment: where it begins, its text without the slashes, and the line of its item."""

    line: int
    text: list[str]
    item: list[str]


class Source(NamedTuple):
    """A Rust file, as far as it is counted."""

    doc_lines: int
    code_lines: int
    comments: list[Comment]


def files(*patterns: str) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [name for name in listed if (ROOT / name).is_file()]


def without_tests(text: str) -> Iterator[tuple[int, str]]:
    """The numbered lines of a file, without the modules behind `#[cfg(test)]`.

    rustfmt ends a module with a brace in the column in which `mod` begins.
    """
    lines = enumerate(text.splitlines(), 1)
    for number, line in lines:
        if line.strip() != "#[cfg(test)]":
            yield number, line
            continue
        indent = line[: len(line) - len(line.lstrip())]
        _, item = next(lines)
        while item.lstrip().startswith("#["):
            _, item = next(lines)
        if item.rstrip().endswith("{"):
            while next(lines)[1] != f"{indent}}}":
                pass


def source(text: str) -> Source:
    doc_lines = code_lines = 0
    comments: list[Comment] = []
    last = -1
    for number, line in without_tests(text):
        found = COMMENT.match(line)
        if found is None:
            code_lines += line.strip() != ""
            if comments and not comments[-1].item and not line.lstrip().startswith(("#[", "]", ")")):
                comments[-1].item.append(line.strip())
        elif found[1] != "//":
            doc_lines += 1
            if last != number - 1:
                comments.append(Comment(number, [], [MODULE] if found[1] == "//!" else []))
            comments[-1].text.append(found[2])
            last = number
    return Source(doc_lines, code_lines, comments)


def rust(*below: str) -> dict[str, Source]:
    patterns = [f"{folder}/src/*.rs" if folder else "src/*.rs" for folder in below]
    texts = {name: (ROOT / name).read_text() for name in files(*patterns) if not TEST_FILE.search(name)}
    tests = set()
    for name, text in texts.items():
        path = Path(name)
        folder = path.parent if path.stem in ("mod", "lib", "main") else path.with_suffix("")
        tests.update(str(folder / f"{module}.rs") for module in TEST_MODULE.findall(text))
    return {name: source(text) for name, text in texts.items() if name not in tests}


def density() -> tuple[float, list[str]]:
    """The ratio over the published crates, and a row for each crate and folder."""
    rows: dict[str, list[int]] = {}
    for name, one in rust(*PUBLISHED).items():
        parts = Path(name).parts
        folder = "/".join(parts[:3]) if len(parts) > 3 else parts[0] + "/src"
        for key in (parts[0], folder, "all"):
            row = rows.setdefault(key, [0, 0])
            row[0] += one.doc_lines
            row[1] += one.code_lines
    lines = [f"{'doc':>6} {'code':>6} {'ratio':>6}"]
    lines += [f"{doc:6} {code:6} {doc / code:6.2f}  {key}" for key, (doc, code) in sorted(rows.items())]
    doc, code = rows["all"]
    return doc / code, lines


def sentences() -> list[str]:
    """The doc comments that begin with a fragment."""
    crates = [Path(name).parent.as_posix() for name in files("Cargo.toml", "*/Cargo.toml")]
    faults = []
    for name, one in rust(*("" if crate == "." else crate for crate in crates)).items():
        for comment in one.comments:
            first = comment.text[0]
            if not name.startswith(PROGRAMS) and not PUBLIC.match("".join(comment.item)):
                continue
            if FRAGMENT.match(first) or not BEGINNING.match(first):
                faults.append(f"{name}:{comment.line}: begins with a fragment: {first}")
    return faults


def wide() -> list[str]:
    faults = []
    for name in files("*.md"):
        inside = False
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1):
            inside ^= line.lstrip().startswith("```")
            prose = not inside and not line.lstrip().startswith(("|", "<!--")) and " " in line.strip()
            if prose and len(line) > WIDTH and not re.search(r"\]\(|https?://|<[a-z]+ ", line):
                faults.append(f"{name}:{number}: {len(line)} characters")
    for name in files("*.rs"):
        inside = False
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1):
            found = COMMENT.match(line)
            if found is None:
                continue
            inside ^= found[2].lstrip().startswith("```")
            alone = re.fullmatch(r"`[^`]+`\.?", found[2])
            if not inside and not alone and len(line) > WIDTH and "://" not in line and "](" not in line:
                faults.append(f"{name}:{number}: {len(line)} characters")
    return faults


def fill(lines: list[str]) -> list[str]:
    """One paragraph of a comment, wrapped. A code span stays on one line, as far as it fits."""
    lead, slashes = re.match(r"(\s*)(///|//!|//)", lines[0]).groups()
    text = [line.strip()[len(slashes) :].rstrip() for line in lines]
    item = re.match(r"\s*(?:[-*]|\d+\.)?\s*", text[0])[0]
    words = re.sub(r"`[^`]*`", lambda span: span[0].replace(" ", "\0"), " ".join(line.strip() for line in text))
    wrapped = textwrap.wrap(
        words.removeprefix(item.strip()).strip(),
        WIDTH - len(lead) - len(slashes),
        initial_indent=item,
        subsequent_indent=" " * len(item),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [f"{lead}{slashes}{line}".replace("\0", " ") for line in wrapped]


def wrap(text: str) -> str:
    """The text of a Rust file, with each paragraph wrapped that has a line which is too wide."""
    paragraphs: list[list[str]] = []
    fenced = False
    before = ""
    for line in text.splitlines():
        found = COMMENT.match(line)
        begins = found is None or fenced or re.match(r"\s*(?:$|```|[-*|#>]\s|\d+\. |\|)", found[2])
        if found and found[2].lstrip().startswith("```"):
            fenced = not fenced
        margin = line.partition("//")[0] + (found[1] if found else "")
        if begins or margin != before or not paragraphs:
            paragraphs.append([])
        paragraphs[-1].append(line)
        # What follows a line of code, an empty line, or the end of a block begins a paragraph.
        before = "" if found is None or fenced or not found[2] or found[2].startswith(("```", "|", "#")) else margin
    done = []
    inside = False
    for lines in paragraphs:
        found = COMMENT.match(lines[0])
        inside ^= found is not None and found[2].lstrip().startswith("```")
        judged = found is not None and not inside and not found[2].startswith(("|", "#"))
        done += fill(lines) if judged and any(len(line) > WIDTH for line in lines) else lines
    return "\n".join(done) + "\n"


def main() -> None:
    task, *names = sys.argv[1:] or [""]
    if task == "wrap":
        for name in names or files("*.rs"):
            path = ROOT / name
            path.write_text(wrap(path.read_text()))
        return
    ratio, rows = density()
    if task == "table":
        print("\n".join(rows))
    elif task == "check":
        faults = sentences() + wide()
        if ratio < LEAST:
            faults.append(f"the published crates have {ratio:.3f} doc lines per code line; expected {LEAST}")
        print("\n".join(faults))
        sys.exit(1 if faults else 0)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
