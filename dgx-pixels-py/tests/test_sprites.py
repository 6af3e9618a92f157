"""Sprites: their memory, their files, and what they are beside them."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import dgx_pixels as dp


@pytest.fixture
def sprite(engine: dp.Engine) -> dp.Sprite:
    return engine.generate("a green slime", seed=7)


def test_the_array_is_the_sprites_memory(sprite: dp.Sprite) -> None:
    assert sprite.array.shape == (32, 32, 4)
    assert sprite.array.dtype == np.uint8
    assert sprite.array is sprite.array
    assert np.asarray(sprite) is sprite.array
    assert sprite.array.flags.writeable and sprite.array.flags.c_contiguous


def test_the_image_shares_memory(sprite: dp.Sprite) -> None:
    image = sprite.image
    assert (image.mode, image.size) == ("RGBA", (32, 32))
    sprite.array[3, 5] = (1, 2, 3, 4)
    assert image.getpixel((5, 3)) == (1, 2, 3, 4)
    assert np.array_equal(np.asarray(image), sprite.array)


def test_a_change_of_the_image_does_not_reach_the_sprite(sprite: dp.Sprite) -> None:
    before = sprite.array.copy()
    image = sprite.image
    image.putpixel((0, 0), (9, 9, 9, 9))
    assert np.array_equal(sprite.array, before)


def test_numpy_takes_it_by_dlpack_without_a_copy(sprite: dp.Sprite) -> None:
    array = np.from_dlpack(sprite)
    assert array.ctypes.data == sprite.array.ctypes.data


def test_an_array_of_another_type_is_a_copy(sprite: dp.Sprite) -> None:
    array = np.asarray(sprite, np.float32)
    assert array.dtype == np.float32
    assert np.array_equal(array, sprite.array)
    assert not np.shares_memory(np.array(sprite), sprite.array)
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
        with pytest.raises(ValueError, match="takes a copy"):
            np.asarray(sprite, np.float32, copy=False)


def test_sprites_are_equal_if_their_pixels_are(engine: dp.Engine, sprite: dp.Sprite) -> None:
    assert sprite == engine.generate("a green slime", seed=7)
    assert sprite != engine.generate("a green slime", seed=8)
    assert sprite != sprite.enlarged(2)
    assert sprite != "a green slime"
    with pytest.raises(TypeError):
        hash(sprite)


def test_palette_has_the_most_frequent_color_first(sprite: dp.Sprite) -> None:
    array = np.zeros((4, 4, 4), np.uint8)
    array[0] = (255, 0, 0, 255)
    array[1, :2] = (0, 255, 0, 255)
    assert dp.Sprite(array).palette == [(255, 0, 0), (0, 255, 0)]
    assert sprite.certificate is not None
    assert len(sprite.palette) == sprite.certificate["colors"]


def test_a_sprite_says_how_it_was_made(sprite: dp.Sprite) -> None:
    assert sprite.provenance is not None
    assert sprite.provenance["model"] == "sketch"
    assert sprite.provenance["request"]["prompt"] == "a green slime"
    assert (sprite.seed, sprite.size, sprite.verdict) == (7, (32, 32), "grid")
    assert set(sprite.timings) == {"waiting", "begin", "denoise", "finish", "pixel", "total"}
    assert sprite.path is None and sprite.redraws == 0


def test_an_image_of_a_model_has_no_certificate(engine: dp.Engine) -> None:
    image = engine.generate("a green slime", seed=7, raw=True)
    assert image.size == (256, 256)
    assert image.certificate is None and image.verdict is None
    assert dp.Sprite.open(image.png()).certificate is None
    assert dp.pixelize(image) == engine.generate("a green slime", seed=7)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_sprites_survive_pickle(sprite: dp.Sprite, protocol: int) -> None:
    again: dp.Sprite = pickle.loads(pickle.dumps(sprite, protocol))
    assert again == sprite
    assert again.provenance == sprite.provenance
    assert again.timings == sprite.timings
    assert again.png() == sprite.png()
    again.array[0, 0] = 1


def test_copies_are_apart(sprite: dp.Sprite) -> None:
    again = copy.deepcopy(sprite)
    again.array[0, 0] = 77
    assert again != sprite


def test_requests_survive_pickle() -> None:
    request = dp.Request("a slime", {"seed": 7, "size": (16, 16)})
    assert pickle.loads(pickle.dumps(request)) == request


def test_repr_is_one_short_line(engine: dp.Engine, sprite: dp.Sprite) -> None:
    assert repr(sprite) == "<Sprite 32x32, 2 colors, 'a green slime', seed 7>"
    assert repr(dp.pixelize(sprite)) == "<Sprite 32x32, 2 colors, native>"
    assert len(repr(engine.generate("slime " * 10_000))) < 160
    one = np.full((1, 1, 4), 255, np.uint8)
    assert repr(dp.Sprite(one)) == "<Sprite 1x1, 1 color>"


def test_a_notebook_shows_it_enlarged(sprite: dp.Sprite) -> None:
    shown = dp.Sprite.open(sprite._repr_png_())
    assert shown.size == (256, 256)
    assert np.array_equal(shown.array[::8, ::8], sprite.array)
    # One that is larger than that is shown as it is.
    assert dp.Sprite.open(sprite.enlarged(16)._repr_png_()).size == (512, 512)


@pytest.mark.parametrize("scale", [0, 65, 2.0, "2", None, True])
def test_a_wrong_scale_is_refused(sprite: dp.Sprite, scale: Any) -> None:
    with pytest.raises(dp.InvalidRequestError, match="expected 1 to 64") as caught:
        sprite.enlarged(scale)
    assert caught.value.field == "scale"


@pytest.mark.parametrize("raw", [False, True])
def test_save_open_engine_and_program_have_the_same_bytes(
    raw: bool, engine: dp.Engine, program: str, tmp_path: Path
) -> None:
    sprite = engine.generate("a key", seed=3, raw=raw, output=tmp_path / "engine.png")
    sprite.save(tmp_path / "saved.png")
    flags = ["--seed", "3", "--model", "sketch", "--output", str(tmp_path / "program.png")]
    command = [program, "generate", "a key", *flags, *["--raw"] * raw]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    png = sprite.png()
    for name in ("engine", "saved", "program"):
        assert (tmp_path / f"{name}.png").read_bytes() == png, name
        beside = tmp_path / f"{name}.json"
        assert beside.is_file() is not raw
        if not raw:
            assert json.loads(beside.read_text()) == sprite.certificate
    again = dp.Sprite.open(tmp_path / "saved.png")
    assert again == sprite
    assert again.provenance == sprite.provenance
    assert again.path == str(tmp_path / "saved.png")
    assert again.png() == png


def test_save_takes_no_file_that_exists(sprite: dp.Sprite, tmp_path: Path) -> None:
    path = tmp_path / "slime.png"
    sprite.save(path)
    with pytest.raises(dp.errors.OutputError, match="already exists"):
        sprite.save(path)
    sprite.save(path, force=True)
    with pytest.raises(dp.InvalidRequestError, match=r"expected a file that ends in `\.png`"):
        sprite.save(tmp_path / "slime.jpg")
    with pytest.raises(dp.errors.OutputError):
        sprite.save(path / "slime.png")


def test_pillow_reads_what_is_written(sprite: dp.Sprite, tmp_path: Path) -> None:
    sprite.save(tmp_path / "slime.png")
    with Image.open(tmp_path / "slime.png") as image:
        assert np.array_equal(np.asarray(image.convert("RGBA")), sprite.array)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_open_takes_bytes(sprite: dp.Sprite, kind: type) -> None:
    assert dp.Sprite.open(kind(sprite.png())) == sprite


def test_open_says_what_is_wrong(sprite: dp.Sprite, tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(sprite.png()[:200])
    with pytest.raises(dp.InvalidRequestError, match="the file was cut"):
        dp.Sprite.open(tmp_path / "cut.png")
    with pytest.raises(dp.InvalidRequestError, match="it is empty"):
        dp.Sprite.open(b"")
    with pytest.raises(dp.InvalidRequestError, match="of the type `int`"):
        dp.Sprite.open(3)  # type: ignore[arg-type]
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "none.png", tmp_path, tmp_path / "pipe", "/dev/zero", "a\0b"):
        with pytest.raises(dp.errors.NotFoundError, match="cannot be used"):
            dp.Sprite.open(path)


@pytest.mark.parametrize(
    "array", [np.zeros((2, 2, 4)), np.zeros((2, 2), np.uint8), np.zeros((0, 2, 4), np.uint8), "x"]
)
def test_a_sprite_is_made_of_rgba_bytes_alone(array: Any) -> None:
    with pytest.raises(dp.InvalidRequestError, match=r"expected an array \[height, width, 4\]"):
        dp.Sprite(array)


def test_any_order_of_memory_is_saved_right(sprite: dp.Sprite) -> None:
    mirrored = dp.Sprite(sprite.array[:, ::-1])
    assert dp.Sprite.open(mirrored.png()) == mirrored
    assert np.array_equal(np.asarray(mirrored.image), mirrored.array)
    assert dp.Sprite(np.asfortranarray(sprite.array)) == sprite
