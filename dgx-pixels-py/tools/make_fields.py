"""Writes `python/dgx_pixels/fields.py` from the table of request fields in `dgx-pixels-core`.

python tools/make_fields.py     after a field was added; a test fails until then
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

from dgx_pixels import _native

PLACE = Path(__file__).resolve().parent.parent / "python" / "dgx_pixels" / "fields.py"

HEAD = '''"""The fields of requests, as keyword arguments.

Written by `tools/make_fields.py`: do not edit.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal, TypedDict

from .sprite import ImageLike

__all__ = ["Control", "PixelFields", "SpriteFields"]

#: Two sides in pixels or cells: `"32x24"` or `(32, 24)`.
Sides = str | tuple[int, int]
#: A palette: its name, its file, or its colors as `"#1a1c2c"` or `(26, 28, 44)`.
PaletteLike = str | os.PathLike[str] | Sequence[str | tuple[int, int, int]]

'''

#: Types that say more than the schema's.
TYPES = {
    "control": "Sequence[Control]",
    "crop": "Sides",
    "grid": "Sides",
    "init_image": "ImageLike | bytes",
    "lora": "Sequence[str]",
    "mask": "ImageLike | bytes",
    "original_size": "Sides",
    "output": "str | os.PathLike[str]",
    "palette": "PaletteLike",
    "priority": 'Literal["urgent", "high", "normal", "low"]',
    "size": "Sides",
    "target_size": "Sides",
    "guidance_interval": "tuple[float, float]",
    "sigmas": "Sequence[float]",
    "timesteps": "Sequence[int]",
    "detail": "str | int",
}
PLAIN = {"boolean": "bool", "integer": "int", "number": "float", "string": "str"}


def type_of(name: str, schema: dict[str, Any]) -> str:
    """Returns the type of a field, which may also be `None` for left out."""
    if name in TYPES:
        found = TYPES[name]
    elif "enum" in schema:
        values = ", ".join(json.dumps(value) for value in schema["enum"] if value is not None)
        found = f"Literal[{values}]"
    elif "anyOf" in schema:
        found = " | ".join(PLAIN[one["type"]] for one in schema["anyOf"])
    else:
        found = PLAIN[schema["type"]]
    return f"{found} | None"


def fields(part: dict[str, Any]) -> str:
    """Returns the fields of a class, each with its help before it."""
    lines = []
    for name, schema in sorted(part.items()):
        text = " ".join(schema["description"].split())
        lines += ["    #: " + line for line in textwrap.wrap(text, 93)]
        line = f"    {name}: {type_of(name, schema)}"
        if len(line) > 100:
            # As ruff formats it.
            values = line.split("Literal[", 1)[1].removesuffix("] | None").split(", ")
            choices = "".join(f"            {value},\n" for value in values)
            line = f"    {name}: (\n        Literal[\n{choices}        ]\n        | None\n    )"
        lines.append(line)
    return "\n".join(lines)


def control(schema: dict[str, Any]) -> str:
    """Returns the classes of a control, whose net and image are required."""
    properties = schema["control"]["items"]["properties"]
    required = {name: properties.pop(name) for name in ("model", "image")}

    def part(names: dict[str, Any]) -> str:
        text = fields(names).replace(" | None", "")
        return text.replace("image: str", "image: ImageLike | bytes")

    return (
        "class _Followed(TypedDict):\n"
        + part(required)
        + "\n\n\nclass Control(_Followed, total=False):\n"
        + '    """A control net, the image that it follows, and its strength."""\n\n'
        + part(properties)
        + "\n"
    )


def source() -> str:
    """Returns the text of the module."""
    schema = json.loads(_native.field_schema())
    request = {name: it for name, it in schema["request"].items() if name != "prompt"}
    return (
        HEAD
        + "\n"
        + control(request)
        + "\n"
        + "\nclass PixelFields(TypedDict, total=False):\n"
        + '    """The fields that make a sprite of an image."""\n\n'
        + fields(schema["pixel"])
        + "\n\n\nclass SpriteFields(PixelFields, total=False):\n"
        + '    """The fields that ask for a sprite, and say how its job is served."""\n\n'
        + fields(request | schema["serving"])
        + "\n"
    )


if __name__ == "__main__":
    PLACE.write_text(source())
    print(PLACE)
