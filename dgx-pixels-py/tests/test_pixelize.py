"""Sprites made of images that a caller hands in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import dgx_pixels as dp


@pytest.fixture(scope="module")
def image() -> dp.Sprite:
    with dp.Engine("sketch") as engine:
        return engine.generate("a slime", seed=7, raw=True)


@pytest.fixture(scope="module")
def expected(image: dp.Sprite) -> dp.Sprite:
    return dp.pixelize(image)


def test_a_sprite_has_a_verdict_and_a_certificate(expected: dp.Sprite) -> None:
    assert expected.verdict == "grid"
    assert expected.confidence is not None and 0 <= expected.confidence <= 1
    assert expected.certificate is not None and expected.certificate["one_bit_alpha"]
    assert expected.provenance is None and expected.seed is None
    for other in expected.others:
        assert set(other) == {"columns", "rows", "step_x", "step_y"}


def test_a_background_that_is_not_sure_is_named() -> None:
    import numpy as np

    # Black eyes on black.
    y, x = np.mgrid[0:24, 0:24]
    head = np.zeros((24, 24, 3), np.uint8)
    inside = (x - 12) ** 2 + (y - 12) ** 2 < 70
    head[inside] = np.stack([190 + 0 * x, 140 + 0 * x, 60 + 5 * x], axis=-1)[inside]
    head[9:11, [8, 9, 14, 15]] = 0
    large = head.repeat(10, axis=0).repeat(10, axis=1)
    assert dp.pixelize(large).unsure_background == "#000000"
    assert dp.pixelize(large, transparent="#000000").unsure_background is None


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "RGBa", "P", "PA", "CMYK", "RGBX"])
def test_pillows_modes_with_color_give_the_same(
    mode: str, image: dp.Sprite, expected: dp.Sprite
) -> None:
    assert dp.pixelize(image.image.convert(mode)) == expected


@pytest.mark.parametrize("mode", ["1", "L", "LA", "HSV", "YCbCr", "LAB"])
def test_pillows_other_modes_are_converted(mode: str, image: dp.Sprite) -> None:
    converted = image.image.convert("RGB").convert(mode)
    assert dp.pixelize(converted) == dp.pixelize(converted.convert("RGBA"))


def test_transparency_of_a_palette_is_kept() -> None:
    image = Image.new("P", (32, 32), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.paste(0, (0, 0, 16, 32))
    image.info["transparency"] = 0
    assert dp.pixelize(image, grid=8, transparent="off").palette == [(255, 0, 0)]


@pytest.mark.parametrize("mode", ["F", "I", "I;16"])
def test_pillows_modes_with_more_bits_are_refused(mode: str) -> None:
    with pytest.raises(dp.InvalidRequestError, match="expected 8 bits for each channel"):
        dp.pixelize(Image.new(mode, (16, 16)))


def test_an_array_of_any_order_gives_the_same(image: dp.Sprite, expected: dp.Sprite) -> None:
    array = image.array
    readonly = array.copy()
    readonly.flags.writeable = False
    wide = np.repeat(array, 2, axis=1)
    for same in (array, array[..., :3], np.asfortranarray(array), readonly, wide[:, ::2]):
        assert dp.pixelize(same) == expected
    flipped = array[::-1, ::-1]
    assert dp.pixelize(flipped) == dp.pixelize(flipped.copy())


def test_the_callers_array_stays_as_it_is(image: dp.Sprite) -> None:
    before = image.array.copy()
    dp.pixelize(image.array, palette="pico-8", outline="add")
    assert np.array_equal(image.array, before)


def test_an_object_with_dlpack_is_an_image(image: dp.Sprite, expected: dp.Sprite) -> None:
    class Tensor:
        def __dlpack__(self, **options: Any) -> Any:
            return image.array.__dlpack__(**options)

        def __dlpack_device__(self) -> Any:
            return image.array.__dlpack_device__()

    tensor: Any = Tensor()
    assert dp.pixelize(tensor) == expected


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.zeros((8, 8, 3)), "an array of float64; expected uint8"),
        (np.full((8, 8, 3), np.nan, np.float32), "an array of float32; expected uint8"),
        (np.zeros((8, 8, 4), np.uint16), "an array of uint16; expected uint8"),
        (np.zeros((8, 8, 4), np.int8), "an array of int8; expected uint8"),
        (np.zeros((8, 8, 4), bool), "an array of bool; expected uint8"),
        (np.zeros((8, 8, 4), object), "an array of object; expected uint8"),
        (np.zeros((8, 8), np.uint8), r"the shape \[8, 8\]; expected"),
        (np.zeros((8, 8, 2), np.uint8), r"the shape \[8, 8, 2\]; expected"),
        (np.zeros((1, 8, 8, 4), np.uint8), r"the shape \[1, 8, 8, 4\]; expected"),
        (np.zeros((0, 8, 4), np.uint8), r"the shape \[0, 8, 4\]; expected"),
        (np.zeros((1, 100_000, 4), np.uint8), "expected sides up to 65535"),
        (Image.new("RGB", (0, 0)), "0x0 pixels"),
        ([[0, 0, 0]], "of the type `list`"),
        (b"bytes", "of the type `bytes`"),
        (None, "of the type `NoneType`"),
    ],
)
def test_what_is_no_image_is_refused(array: Any, text: str) -> None:
    with pytest.raises(dp.InvalidRequestError, match=text):
        dp.pixelize(array)


def test_files_are_read_and_faults_named(
    image: dp.Sprite, expected: dp.Sprite, tmp_path: Path
) -> None:
    path = tmp_path / "image.png"
    image.save(path)
    assert dp.pixelize(path) == dp.pixelize(str(path)) == expected
    cut = tmp_path / "cut.png"
    cut.write_bytes(path.read_bytes()[:-40])
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no image")
    os.mkfifo(tmp_path / "pipe")
    for wrong, text in [
        (cut, "the file was cut"),
        (tmp_path / "empty.png", "it is empty"),
        (tmp_path / "text.png", "expected PNG, JPEG, WebP, GIF or BMP"),
        (tmp_path / "none.png", "No such file"),
        (tmp_path, "it is a folder"),
        (tmp_path / "pipe", "expected a regular file"),
        ("/dev/zero", "expected a regular file"),
    ]:
        with pytest.raises(dp.errors.NotFoundError, match=text):
            dp.pixelize(wrong)
    with (
        Image.open(cut) as lazy,
        pytest.raises(dp.InvalidRequestError, match="`image` cannot be read"),
    ):
        dp.pixelize(lazy)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"max_colors": 0}, "max_colors"),
        ({"size": (16, 16)}, "size"),
        ({"size": (10**9, 16)}, "size"),
        ({"sizes": 3}, "sizes"),
        ({"prompt": "a slime"}, "prompt"),
        ({"palette": []}, "palette"),
        ({"grid": float("nan")}, "grid"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], name: str, image: dp.Sprite) -> None:
    with pytest.raises(dp.InvalidRequestError) as caught:
        dp.pixelize(image, **fields)
    assert caught.value.field == name


def test_palettes_are_names_lists_and_files(image: dp.Sprite, tmp_path: Path) -> None:
    colors = [(0, 0, 0), (255, 0, 77)]
    path = tmp_path / "two.hex"
    path.write_text("000000\nff004d\n")
    one = dp.pixelize(image, palette=colors)
    assert set(one.palette) <= set(colors)
    assert dp.pixelize(image, palette=["#000000", (255, 0, 77)]) == one
    assert dp.pixelize(image, palette="#000000,#ff004d") == one
    assert dp.pixelize(image, palette=path) == one
    assert len(dp.pixelize(image, palette="pico-8").palette) <= 16
