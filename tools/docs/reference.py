"""The reference pages of the book, which are made from the programs and the code.

reference.py --write     writes the made parts of docs/cli.md and docs/manifest.md
reference.py --check     fails if they differ, or if the book lacks a metric, an alert, a flag, an
                         exit code, a page or an environment variable

`--programs DIR` is the folder of the built programs. Default: `target/release`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PROGRAMS = ("dgx-pixels", "dgx-pixels-mcp")
MARK = "<!-- What follows is made by the programs and the code: tools/docs/reference.py --write -->\n"
EXIT_CODES = re.compile(r"\n\nExit codes:\n(.*)\Z", re.DOTALL)
COMMAND = re.compile(r"^  ([a-z][a-z-]*)(?:  |$)", re.MULTILINE)

# Variables whose whole name is text in the code.
LITERAL = re.compile(r'"((?:DGX_PIXELS|XDG|LIBTORCH|OTEL|BRP|HF|VIRTUAL|CONDA|OMP)(?:_[A-Z0-9]+)*)"')
READ = re.compile(r'\b(?:var|var_os|environ\.get)\(\s*"([A-Z][A-Z0-9_]*)"')
# Those with `TEST` are for a test that starts itself.
FOR_TESTS = re.compile(r'"(DGX_PIXELS_(?!TEST_)[A-Z0-9_]+|UPDATE_[A-Z]+)"')
COMPOSE = re.compile(r"\$\{([A-Z][A-Z0-9_]*)")
# The first column of a table.
ROW = re.compile(r"^\| `([A-Z][A-Z0-9_]*)` \|", re.MULTILINE)

METRIC = re.compile(
    r'^    (counter|gauge|histogram)\(\s*"(\w+)",\s*"([^"]+)",\s*&\[([^\]]*)\],\s*"((?:[^"\\]|\\.)*)",?\s*\)',
    re.MULTILINE,
)


def read(path: str) -> str:
    return (ROOT / path).read_text()


def help_of(programs: Path, *command: str) -> str:
    """What `command --help` prints on a terminal of 100 columns, for a user without settings."""
    environment = {"PATH": os.environ["PATH"], "HOME": "/home/me", "COLUMNS": "100"}
    ran = subprocess.run(
        [programs / command[0], *command[1:], "--help"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if ran.returncode != 0:
        sys.exit(f"`{' '.join(command)} --help` ends with {ran.returncode}: {ran.stderr}")
    return "\n".join(line.rstrip() for line in ran.stdout.rstrip().splitlines())


def exit_codes(text: str) -> tuple[list[tuple[str, str]], str]:
    """The codes with their meanings, and what stands after them."""
    codes: list[tuple[str, str]] = []
    lines, _, rest = text.partition("\n\n")
    for line in lines.splitlines():
        code = re.fullmatch(r"  (\d+) +(.*)", line)
        if code:
            codes.append((code[1], code[2]))
        else:
            codes[-1] = (codes[-1][0], f"{codes[-1][1]} {line.strip()}")
    return codes, rest


def command_line(programs: Path) -> str:
    helps: dict[tuple[str, ...], str] = {}
    for program in PROGRAMS:
        helps[(program,)] = text = help_of(programs, program)
        commands = text.partition("\nCommands:\n")[2].partition("\n\n")[0]
        for name in COMMAND.findall(commands):
            if name != "help":
                helps[(program, name)] = help_of(programs, program, name)
    ends = {found[1] for text in helps.values() if (found := EXIT_CODES.search(text))}
    if len(ends) != 1:
        sys.exit(f"the commands have {len(ends)} different lists of exit codes; expected one")
    codes, rest = exit_codes(ends.pop())

    text = "\n## Exit codes\n\n| code | kind | meaning |\n|---|---|---|\n"
    for code, meaning in codes:
        kind, colon, words = meaning.partition(": ")
        text += f"| {code} | `{kind}` | {words} |\n" if colon else f"| {code} | | {meaning} |\n"
    text += "\n" + re.sub(r"--[a-z-]+|\{.*\}", r"`\g<0>`", rest) + "\n"
    for command, help in helps.items():
        heading = "##" if len(command) == 1 else "###"
        text += f"\n{heading} `{' '.join(command)}`\n\n```text\n{EXIT_CODES.sub('', help)}\n```\n"
    return text


def schema_type(schema: dict[str, Any]) -> str:
    """The type of a field in words, for example `list of texts`."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return schema_type(next(branch for branch in schema["anyOf"] if branch.get("type") != "null"))
    kind = schema["type"]
    kind = next(name for name in kind if name != "null") if isinstance(kind, list) else kind
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {schema_type(schema['additionalProperties'])} by name"
    if kind == "array":
        count = schema.get("minItems") if schema.get("minItems") == schema.get("maxItems") else None
        items = schema_type(schema["items"])
        plural = f"values, {items}" if "`" in items and "[" not in items else items if "[" in items else f"{items}s"
        return f"list of {count} {plural}" if count else f"list of {plural}"
    return {"integer": "whole number", "boolean": "`true` or `false`", "string": "text"}.get(kind, kind)


def without_links(text: str) -> str:
    """The words of a Rust comment; its links to other items lead nowhere here."""
    return re.sub(r"\[(`[^`]+`)\](?:\([^)]*\))?", r"\1", text)


def manifest() -> str:
    schema = json.loads(read("docs/manifest.schema.json"))
    types = {schema["title"]: schema, **schema["$defs"]}
    text = ""
    for name, described in types.items():
        text += f"\n## {name}\n\n{without_links(described['description'].partition(chr(10) * 2)[0])}\n"
        if "properties" not in described:
            text += f"\nIt is a {schema_type(described)}.\n"
            continue
        text += "\n| field | type | |\n|---|---|---|\n"
        for field, of_field in described["properties"].items():
            needed = "**required.** " if field in described.get("required", []) else ""
            about = without_links(of_field.get("description", "")).replace("\n", " ")
            text += f"| `{field}` | {schema_type(of_field)} | {needed}{about} |\n"
    return text


def variables() -> dict[str, str]:
    """The environment variables that the code reads, each with a file that reads it."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found: dict[str, str] = {}
    for name in listed.splitlines():
        path = Path(name)
        if not (ROOT / path).is_file():
            continue
        if path.suffix == ".rs" and ({"tests", "benches"} & set(path.parts) or path.stem == "tests"):
            names = FOR_TESTS.findall(read(name))
        elif path.suffix == ".rs" and "src" in path.parts and path.parts[0] != "fuzz":
            text = read(name).partition("#[cfg(test)]\nmod ")[0]
            names = LITERAL.findall(text) + READ.findall(text)
        elif path.suffix == ".py" and path.parts[0] == "dgx-pixels-py" and "tests" not in path.parts:
            names = LITERAL.findall(read(name)) + READ.findall(read(name))
        elif name.startswith(("compose", "deploy/")) and path.suffix in (".yml", ".yaml"):
            names = COMPOSE.findall(read(name))
        else:
            continue
        for variable in names:
            found.setdefault(variable, name)
    return found


def check_variables() -> list[str]:
    rows = set(ROW.findall(read("docs/configuration.md")))
    found = variables()
    faults = [
        f"docs/configuration.md: has no row for `{name}`, which {file} reads"
        for name, file in sorted(found.items())
        if name not in rows
    ]
    # A library that we use reads some of them, and a comment of ours names these.
    ours = subprocess.run(
        ["git", "grep", "-hoE", r"\b[A-Z][A-Z0-9]*(_[A-Z0-9]+)+\b", "--", "*.rs"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    for name in sorted(rows - set(found) - set(ours)):
        faults.append(f"docs/configuration.md: has a row for `{name}`, which nothing reads")
    return faults


def check_metrics() -> list[str]:
    code = read("dgx-pixels-core/src/metrics.rs").partition("pub const METRICS")[2].partition("\n];")[0]
    metrics = METRIC.findall(code)
    if len(metrics) != len(re.findall(r"^    \w+\($|^    \w+\(\"", code, re.MULTILINE)):
        sys.exit("dgx-pixels-core/src/metrics.rs: an entry of METRICS has another form than expected")
    page = read("docs/observability.md")
    faults = []
    for kind, name, unit, labels, about in metrics:
        labels = ",".join(re.findall(r'"(\w+)"', labels))
        name = f"dgx_pixels_{name}" + (f"{{{labels}}}" if labels else "")
        row = f"| `{name}` | {kind} | {unit} | {about} |"
        if row not in page:
            faults.append(f"docs/observability.md: lacks the row `{row}`")
    known = {name for _, name, *_ in metrics}
    for name in re.findall(r"^\| `dgx_pixels_(\w+)[`{]", page, re.MULTILINE):
        if name not in known:
            faults.append(f"docs/observability.md: has a row for `dgx_pixels_{name}`, which is no metric")
    return faults


def check_alerts() -> list[str]:
    alerts = re.findall(r"^ +- alert: (\w+)$", read("deploy/prometheus/rules/alerts.yml"), re.MULTILINE)
    headings = set(re.findall(r"^### (\w+)$", read("docs/runbook.md"), re.MULTILINE))
    if not alerts:
        sys.exit("deploy/prometheus/rules/alerts.yml: has no alert")
    return [f"docs/runbook.md: has no heading `### {name}`" for name in alerts if name not in headings] + [
        f"docs/runbook.md: has a heading `### {name}`, which is no alert" for name in sorted(headings - set(alerts))
    ]


def check_kinds() -> list[str]:
    page = read("docs/cli.md")
    kinds = re.findall(r'^    \w+: "(\w+)", (\d+),', read("dgx-pixels-core/src/error/kind.rs"), re.MULTILINE)
    if not kinds:
        sys.exit("dgx-pixels-core/src/error/kind.rs: has no kinds in the expected form")
    return [
        f"docs/cli.md: has no row for `{kind}` with the exit code {code}"
        for kind, code in kinds
        if f"| {code} | `{kind}` | " not in page
    ]


def check_pages() -> list[str]:
    summary = read("docs/SUMMARY.md")
    test = read("tests/it/docs.rs")
    faults = []
    for page in sorted(DOCS.rglob("*.md")):
        if page.name != "SUMMARY.md" and f"]({page.relative_to(DOCS)})" not in summary:
            faults.append(f"docs/SUMMARY.md: lacks the page `{page.relative_to(DOCS)}`")
        name = page.relative_to(ROOT)
        if "\n```console\n" in page.read_text() and f'"{name}"' not in test:
            faults.append(f"tests/it/docs.rs: does not run the `console` blocks of {name}")
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--write", action="store_true")
    task.add_argument("--check", action="store_true")
    parser.add_argument("--programs", type=Path, default=ROOT / "target/release")
    arguments = parser.parse_args()
    programs = arguments.programs.resolve()

    faults = []
    for name, made in (("cli.md", command_line(programs)), ("manifest.md", manifest())):
        page = DOCS / name
        written, mark, old = page.read_text().partition(MARK)
        if not mark:
            sys.exit(f"docs/{name}: lacks the line `{MARK.strip()}`")
        if arguments.write:
            page.write_text(written + MARK + made)
        elif old != made:
            faults.append(f"docs/{name}: differs from the programs and the code; run tools/docs/reference.py --write")
    if arguments.check:
        faults += check_kinds() + check_metrics() + check_alerts() + check_variables() + check_pages()
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults:
        sys.exit(1)


if __name__ == "__main__":
    main()
