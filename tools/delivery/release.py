"""The version, the packages and the notes of a release.

release.py check [TAG]     the version is the same in every file that states it, and in TAG
release.py set VERSION     writes VERSION into those files
release.py packages        every crate has its metadata and is far below the registry's limit
release.py notes           prints the section of CHANGELOG.md for this version
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
NUMBER = r"\d+\.\d+\.\d+(?:-[0-9A-Za-z.]+)?"
# Beside [workspace.package] of Cargo.toml, where each version is the first group.
PLACES = {
    "Cargo.toml": rf'^dgx-pixels-\w+ = {{ path = "[^"]+", version = "({NUMBER})"',
    "Dockerfile": rf"^ARG VERSION=({NUMBER})$",
    "compose.gpu.yaml": rf"dgx-pixels/dgx-pixels:({NUMBER})-",
    "compose.yaml": rf"dgx-pixels/dgx-pixels:({NUMBER})-",
    "dgx-pixels-py/python/dgx_pixels/__init__.py": rf'^__version__ = "({NUMBER})"$',
    "docker-bake.hcl": rf'^variable "VERSION" {{ default = "({NUMBER})" }}$',
    "docs/install.md": rf"dgx-pixels-({NUMBER})-x86_64-linux",
    "docs/production.md": rf"dgx-pixels/dgx-pixels:({NUMBER})-",
}
WORKSPACE = re.compile(rf'(?<=\[workspace\.package\]\nversion = ")({NUMBER})', re.MULTILINE)
# The registry takes 10 MiB, compressed.
LIMIT = 5 * 1024 * 1024


def version() -> str:
    found = WORKSPACE.search((ROOT / "Cargo.toml").read_text())
    if found is None:
        sys.exit("Cargo.toml: [workspace.package] does not begin with `version`")
    return found.group(1)


def check(tag: str | None) -> list[str]:
    expected = version()
    faults = []
    for name, pattern in PLACES.items():
        found = re.findall(pattern, (ROOT / name).read_text(), re.MULTILINE)
        if not found:
            faults.append(f"{name}: states no version where one is expected")
        for other in sorted(set(found) - {expected}):
            faults.append(f"{name}: states `{other}`; expected `{expected}`")
    rust = re.search(r'^rust-version = "(.*)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    for workflow in sorted((ROOT / ".github/workflows").glob("*.yml")):
        for toolchain in re.findall(r'^ +toolchain: "(.*)"$', workflow.read_text(), re.MULTILINE):
            if rust is None or toolchain != rust[1]:
                faults.append(f"{workflow.name}: takes Rust `{toolchain}`; Cargo.toml has another `rust-version`")
    if not section(expected):
        faults.append(f"CHANGELOG.md: has no section `## {expected}`")
    if tag is not None and tag != f"v{expected}":
        faults.append(f"the tag is `{tag}`; expected `v{expected}`")
    return faults


def put(new: str) -> None:
    if re.fullmatch(NUMBER, new) is None:
        sys.exit(f"`{new}` is no version; expected for example `0.3.0`")

    def replaced(found: re.Match[str]) -> str:
        start, end = (place - found.start() for place in found.span(1))
        return found[0][:start] + new + found[0][end:]

    for name, pattern in PLACES.items():
        path = ROOT / name
        path.write_text(re.sub(pattern, replaced, path.read_text(), flags=re.MULTILINE))
    manifest = ROOT / "Cargo.toml"
    manifest.write_text(WORKSPACE.sub(new, manifest.read_text()))
    for folder in (ROOT, ROOT / "benches/counts", ROOT / "fuzz"):
        subprocess.run(["cargo", "update", "--workspace", "--quiet"], cwd=folder, check=True)


def section(of: str) -> str:
    text = (ROOT / "CHANGELOG.md").read_text()
    found = re.search(rf"^## {re.escape(of)}\b[^\n]*\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return found.group(1).strip() if found else ""


def packages() -> list[str]:
    metadata = subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--no-deps", "--locked"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )
    faults = []
    for package in json.loads(metadata.stdout)["packages"]:
        name, folder = package["name"], Path(package["manifest_path"]).parent
        if name == "bevy_game":
            continue
        for field in ("description", "readme", "repository", "license", "keywords", "categories"):
            if not package[field]:
                faults.append(f"{name}: Cargo.toml has no `{field}`")
        if len(package["keywords"]) > 5:
            faults.append(f"{name}: has {len(package['keywords'])} keywords; the registry takes 5")
        listed = subprocess.run(
            ["cargo", "package", "--package", name, "--list", "--allow-dirty", "--locked", "--quiet"],
            cwd=folder, check=True, capture_output=True, text=True,
        ).stdout.splitlines()
        size = sum((folder / file).stat().st_size for file in listed if (folder / file).is_file())
        print(f"{name:20} {len(listed):4} files {size / 1024:8.1f} KiB")
        if size > LIMIT:
            faults.append(f"{name}: has {size} bytes; expected at most {LIMIT}")
        for needed in ("README.md", "LICENSE-MIT", "LICENSE-APACHE"):
            if needed not in listed:
                faults.append(f"{name}: `{needed}` is not in the package")
    return faults


def main() -> None:
    match sys.argv[1:]:
        case ["check", *tag] if len(tag) <= 1:
            faults = check(tag[0] if tag else None)
        case ["set", new]:
            put(new)
            faults = []
        case ["packages"]:
            faults = packages()
        case ["notes"]:
            notes = section(version())
            print(notes)
            faults = [] if notes else [f"CHANGELOG.md: has no section `## {version()}`"]
        case _:
            sys.exit(__doc__)
    for fault in faults:
        print(fault, file=sys.stderr)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
