"""The fields of requests are those of the table in the library."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dgx_pixels as dp
from dgx_pixels import fields

HERE = Path(__file__).resolve().parent

#: An image to begin from: its left column is transparent.
IMAGE = np.full((8, 8, 4), 200, np.uint8)
IMAGE[:, 0, 3] = 0

#: A value for each field, and the fields that it goes with.
SAMPLES: dict[str, Any] = {
    "anchor": ("bottom", {"size": "40x40"}),
    "bleed": True,
    "cleanup": True,
    "client": "anna",
    "clip_skip": 1,
    "control": [],
    "count": 1,
    "crop": (0, 8),
    "deadline": 60,
    "deep_cache": 2,
    "detail": "high",
    "dither": ("bayer4", {"palette": "pico-8"}),
    "eta": (0.5, {"scheduler": "tcd"}),
    "force": True,
    "grid": (32, 32),
    "guidance_interval": (0.1, 0.8),
    "guidance_rescale": 0.5,
    "guidance_scale": 2.5,
    "height": (128, {"width": 128}),
    "idempotency_key": "key",
    "init_image": IMAGE,
    "latents": False,
    "lora": [],
    "mask": ("alpha", {"init_image": IMAGE}),
    "max_colors": 4,
    "model": "sketch",
    "negative_prompt": "text",
    "original_size": (512, 512),
    "outline": "add",
    "output": "sprite.png",
    "palette": [(0, 0, 0), "#ffffff"],
    "preset": "lightning-4",
    "preview_every": 10,
    "priority": "high",
    "prompt_syntax": "a1111",
    "raw": True,
    "scheduler": "ddim",
    "seed": 7,
    "sigmas": [14.6, 0.5, 0.0],
    "size": (32, 32),
    "steps": 4,
    "strength": (0.5, {"init_image": IMAGE}),
    "strip": 2,
    "target_size": "512x512",
    "timestep_spacing": "trailing",
    "timesteps": [999, 499],
    "tile_x": True,
    "tile_y": True,
    "transparent": "off",
    "unsure": "keep",
    "vae": None,
    "width": (128, {"height": 128}),
}


def test_the_module_is_what_the_tool_writes() -> None:
    path = HERE.parent / "tools" / "make_fields.py"
    spec = importlib.util.spec_from_file_location("make_fields", path)
    assert spec is not None and spec.loader is not None
    make_fields = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_fields)
    assert make_fields.source() == Path(fields.__file__).read_text()


def test_there_is_a_sample_for_each_field() -> None:
    names = dp.SpriteFields.__optional_keys__ | {"count"}
    assert set(SAMPLES) == names
    assert dp.PixelFields.__optional_keys__ < names


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_an_engine_takes_each_field(
    name: str, engine: dp.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sample = SAMPLES[name]
    value, others = (
        sample
        if isinstance(sample, tuple) and len(sample) == 2 and isinstance(sample[1], dict)
        else (sample, {})
    )
    sprite = engine.submit({"prompt": "a slime", "seed": 1, name: value, **others}).result(60)
    assert sprite.width > 0


@pytest.mark.parametrize("name", sorted(dp.PixelFields.__optional_keys__))
def test_pixelize_takes_each_pixel_field(name: str, engine: dp.Engine) -> None:
    sample = SAMPLES[name]
    value, others = (
        sample
        if isinstance(sample, tuple) and isinstance(sample[1], dict)
        else (
            sample,
            {},
        )
    )
    image = engine.generate("a slime", seed=1, raw=True)
    fields: dict[str, Any] = {name: value, **others}
    assert dp.pixelize(image, **fields).width > 0


def test_none_leaves_a_field_out(engine: dp.Engine) -> None:
    fields: dict[str, Any] = dict.fromkeys(SAMPLES, None)
    assert engine.generate({**fields, "prompt": "a slime", "seed": 7}) == engine.generate(
        "a slime", seed=7
    )


@pytest.mark.parametrize(
    ("fields", "name", "text"),
    [
        ({"steps": 0}, "steps", "`steps` is 0; expected 1 to 1000"),
        ({"steps": 2.5}, "steps", "`steps` is 2.5; expected a whole number"),
        ({"steps": True}, "steps", "`steps` is true; expected a whole number"),
        ({"steps": "many"}, "steps", "`steps` is"),
        ({"steps": object()}, "steps", "`steps` is of the type `object`"),
        ({"seed": -1}, "seed", "`seed` is -1"),
        ({"seed": 2**64}, "seed", "expected a whole number below 2^64"),
        ({"guidance_scale": float("nan")}, "guidance_scale", "expected a finite number"),
        ({"guidance_scale": float("inf")}, "guidance_scale", "expected a finite number"),
        ({"guidance_interval": "0.1,0.8"}, "guidance_interval", "expected a list"),
        ({"size": (16, 16, 16)}, "size", "expected width and height in pixels"),
        ({"size": (0, 16)}, "size", "expected sides from 1 to 2048"),
        ({"palette": "nothing"}, "palette", "`palette` is `nothing`; expected a file, colors"),
        ({"palette": b"pico-8"}, "palette", "`palette` is of the type `bytes`"),
        ({"palette": Path("/dev/zero")}, "palette", "expected a regular file"),
        ({"output": "sprite.jpg"}, "output", "expected a file that ends in `.png`"),
        ({"priority": "highest"}, "priority", "expected `urgent`, `high`, `normal` or `low`"),
        ({"deadline": -1}, "deadline", "expected seconds, 0 or more"),
        ({"count": 2}, "count", "`generate` and `map` draw several"),
        ({"step": 2}, "step", "the nearest are `steps`"),
        ({"raw": True, "size": (16, 16)}, "size", "`size` does not go with `raw`"),
        ({"prompt": "a \ud800"}, "prompt", "no lone surrogates"),
        ({"prompt": None}, "prompt", "`prompt` is missing"),
        ({"prompt": 3}, "prompt", "`prompt` is 3; expected a text"),
    ],
)
def test_a_wrong_field_is_named(
    fields: dict[str, Any], name: str, text: str, engine: dp.Engine
) -> None:
    with pytest.raises(dp.InvalidRequestError) as caught:
        engine.submit({"prompt": "a slime", **fields})
    assert caught.value.field == name
    assert text in str(caught.value)


def test_numpy_numbers_and_paths_are_values(engine: dp.Engine, tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    sprite = engine.generate(
        "a slime",
        seed=np.uint32(7),
        steps=np.int64(4),
        guidance_scale=np.float32(2.5),
        size=(np.int64(32), np.int16(32)),
        output=tmp_path / "slime.png",
    )
    assert sprite.seed == 7
    assert sprite.provenance is not None
    assert sprite.provenance["request"]["guidance_scale"] == 2.5
    assert Path(str(sprite.path)).is_file()


def test_numpy_arrays_are_values(engine: dp.Engine) -> None:
    np = pytest.importorskip("numpy")
    palette = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)
    fields: dict[str, Any] = {"palette": palette, "guidance_interval": np.array([0.25, 0.75])}
    sprite = engine.generate("a slime", seed=7, bleed=np.bool_(True), **fields)
    assert set(sprite.palette) <= {(0, 0, 0), (255, 255, 255)}


@pytest.mark.parametrize("name", [3, None, "\ud800"])
def test_a_name_that_is_no_text_is_refused(name: Any, engine: dp.Engine) -> None:
    with pytest.raises(dp.InvalidRequestError):
        engine.submit({"prompt": "a slime", name: 1})


def test_subclasses_of_dict_and_str_are_requests(engine: dp.Engine) -> None:
    class Fields(dict[str, Any]):
        pass

    class Text(str):
        pass

    expected = engine.generate("a slime", seed=7)
    assert engine.generate(Fields(prompt=Text("a slime"), seed=7)) == expected
    assert engine.generate(dp.Request("a slime", {"seed": 7})) == expected
    # The request's own fields come before the common ones.
    assert engine.generate(dp.Request("a slime", {"seed": 7}), seed=8) == expected


def test_a_control_has_an_image_and_a_net_that_the_model_takes(
    engine: dp.Engine, tmp_path: Path
) -> None:
    sprite = engine.generate("a slime", seed=7)
    path = tmp_path / "slime.png"
    sprite.save(path)
    for image in (path, path.read_bytes(), sprite.array, sprite):
        expected = "`control` is `canny`; expected none"
        with pytest.raises(dp.InvalidRequestError, match=expected) as caught:
            engine.generate("a slime", control=[{"model": "canny", "image": image, "scale": 0.5}])
        assert caught.value.field == "control"
    with pytest.raises(dp.InvalidRequestError, match="`control` is of the type `int`"):
        engine.generate("a slime", control=[{"model": "canny", "image": 7}])
    with pytest.raises(dp.InvalidRequestError, match="missing field `model`"):
        engine.generate("a slime", control=[{"image": path}])


def test_an_image_to_begin_from_is_a_path_bytes_pixels_or_a_sprite(
    engine: dp.Engine, tmp_path: Path
) -> None:
    first = engine.generate("a slime", seed=7)
    path = tmp_path / "slime.png"
    first.save(path)
    fields = {"seed": 8, "mask": "0,0,8x8", "strength": 0.9}
    expected = engine.generate("a slime", init_image=path, **fields)
    assert expected.size == first.size
    assert (expected.array[8:] == first.array[8:]).all()
    assert (expected.array[:8, :8] != first.array[:8, :8]).any()
    for image in (str(path), path.read_bytes(), first.image, first.array, first):
        assert engine.generate("a slime", init_image=image, **fields) == expected
    with pytest.raises(dp.InvalidRequestError, match="`init_image` is of the type `int`") as caught:
        engine.generate("a slime", init_image=7)
    assert caught.value.field == "init_image"
    with pytest.raises(dp.InvalidRequestError, match="`mask` is `alpha`, and `init_image` has no"):
        opaque = first.image.convert("RGB")
        engine.generate("a slime", init_image=opaque, mask="alpha")


def test_the_same_fields_give_the_same_bytes_as_the_program(
    engine: dp.Engine, program: str, tmp_path: Path
) -> None:
    cases = json.loads((HERE.parent.parent / "tests" / "fixtures" / "doors.json").read_text())
    for case in cases:
        request = case["request"]
        flags = []
        for name, value in request.items():
            flag = f"--{name.replace('_', '-')}"
            if value is True:
                flags.append(flag)
            elif isinstance(value, list):
                flags += [flag, ",".join(map(str, value))]
            elif name != "prompt":
                flags += [flag, str(value)]
        path = tmp_path / "program.png"
        command = [program, "generate", request["prompt"], *flags, "--model", "sketch"]
        command += ["--output", str(path), "--force"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        assert engine.generate(request).png() == path.read_bytes(), request
