"""Sprites: images with the record of how they were made, and how sure that is."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Union

from . import _native
from .errors import InvalidRequestError, NotFoundError, _whole

# NumPy is imported where it is needed: that takes several times as long as all of this package.
if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image
    from typing_extensions import Unpack

    from .fields import PixelFields

__all__ = ["ImageLike", "Sprite", "pixelize"]

#: An image: Pillow's, an array `[height, width, 3 or 4]` of `uint8`, a file, or a `Sprite`.
ImageLike = Union["Image.Image", "NDArray[np.uint8]", "Sprite", str, "os.PathLike[str]"]

#: Sides of a sprite in a notebook, at least, in pixels of the screen.
_SHOWN_PX = 256


@dataclass(eq=False)
class Sprite:
    """A sprite, or an image of a model where `raw` was asked for.

    Two sprites are equal if their pixels are.
    """

    #: The pixels, `[height, width, 4]`: red, green, blue and alpha, `uint8`. The array is the
    #: sprite's memory: it is not copied, and a change of it changes the sprite.
    array: NDArray[np.uint8]
    #: The record of how the image was made: request, model and its hash, device, versions.
    #: `None` for a sprite that was made of a given image.
    provenance: dict[str, Any] | None = None
    #: What the sprite keeps to: colors, alpha, orphan pixels. `None` for an image of a model.
    certificate: dict[str, Any] | None = None
    #: `grid`, `native` or `no_grid`: whether the image had a grid. `None` for an image of a model.
    verdict: str | None = None
    #: How sure the verdict is, 0 to 1; `None` for a sprite that was drawn here.
    confidence: float | None = None
    #: The other grids that the image may have, the likeliest first; `columns`, `rows`, `step_x`,
    #: `step_y`.
    others: list[dict[str, Any]] = field(default_factory=list)
    #: The color, such as `#000000`, that may be the background where that is not sure: the sprite
    #: is opaque then, and `transparent` decides it.
    unsure_background: str | None = None
    #: Seconds by stage: `waiting`, `begin`, `denoise`, `finish`, `pixel`, `total`.
    timings: dict[str, float] = field(default_factory=dict)
    #: The file that the engine wrote, if one was asked for.
    path: str | None = None
    #: Words of the prompts that were past the model's length and are dropped.
    dropped_words: str | None = None
    #: The number of times that it was drawn again because no pixel was visible.
    redraws: int = 0
    #: The latents `[channels, height, width]`, `float32`, if the request asks for them: those that
    #: diffusers returns for `output_type="latent"`.
    latents: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        import numpy as np

        array: Any = self.array
        is_array = isinstance(array, np.ndarray) and array.dtype == np.uint8
        if not is_array or array.ndim != 3 or array.shape[2] != 4 or 0 in array.shape:
            found = getattr(array, "shape", None) or type(array).__name__
            text = f"`array` is {found}; expected an array [height, width, 4] of uint8"
            raise InvalidRequestError(text, "array")

    @classmethod
    def _of(
        cls,
        pixels: tuple[int, int, bytearray],
        info: str | None = None,
        latents: tuple[list[int], bytearray] | None = None,
    ) -> Sprite:
        import numpy as np

        width, height, data = pixels
        array = np.frombuffer(data, np.uint8).reshape(height, width, 4)
        known = {} if info is None else json.loads(info)
        names = (name for name in cls.__dataclass_fields__ if name in known)
        sprite = cls(array, **{name: known[name] for name in names if known[name] is not None})
        if latents is not None:
            shape, values = latents
            sprite.latents = np.frombuffer(values, np.float32).reshape(shape)
        return sprite

    @classmethod
    def open(cls, source: bytes | bytearray | memoryview | str | os.PathLike[str]) -> Sprite:
        """Returns the sprite in a PNG file, or in its bytes, with the record of how it was made.

        Raises `InvalidRequestError` for bytes that are no image, and `NotFoundError` for no file.
        """
        path = None
        if isinstance(source, (str, os.PathLike)):
            path = os.fspath(source)
            source = _read(path)
        elif not isinstance(source, (bytes, bytearray, memoryview)):
            text = (
                f"`source` is of the type `{type(source).__name__}`; expected a file or its bytes"
            )
            raise InvalidRequestError(text, "source")
        pixels, made, raw, certificate = _native.read_sprite(bytes(source))
        sprite = cls._of(pixels)
        sprite.provenance = None if made is None else json.loads(made)
        sprite.certificate = None if raw else json.loads(certificate)
        sprite.path = path
        return sprite

    @property
    def width(self) -> int:
        """The width in pixels."""
        return int(self.array.shape[1])

    @property
    def height(self) -> int:
        """The height in pixels."""
        return int(self.array.shape[0])

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return (self.width, self.height)

    @property
    def seed(self) -> int | None:
        """The seed that drew it; `None` for a sprite that was made of a given image."""
        return None if self.provenance is None else int(self.provenance["request"]["seed"])

    @property
    def image(self) -> Image.Image:
        """The sprite as an image of Pillow, `RGBA`. It shares the sprite's memory."""
        import numpy as np
        from PIL import Image

        array = np.ascontiguousarray(self.array)
        return Image.frombuffer("RGBA", self.size, array, "raw", "RGBA", 0, 1)

    @property
    def palette(self) -> list[tuple[int, int, int]]:
        """The colors of its visible pixels, the most frequent first."""
        import numpy as np

        visible = self.array[self.array[..., 3] > 0][:, :3]
        colors, counts = np.unique(visible, axis=0, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return [(int(red), int(green), int(blue)) for red, green, blue in colors[order]]

    def enlarged(self, scale: int) -> Sprite:
        """Returns the sprite with each pixel as a block of `scale` x `scale`, 1 to 64."""
        scale = _whole("scale", scale, 1, 64)
        return Sprite(self.array.repeat(scale, 0).repeat(scale, 1))

    def png(self) -> bytes:
        """Returns the bytes of its PNG file, which says how it was made.

        They are the bytes that the program writes for the same request.
        """
        made = None if self.provenance is None else json.dumps(self.provenance)
        data = self.array.tobytes()
        return _native.encode_png(self.width, self.height, data, made, self.certificate is None)

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Writes its PNG file, and its certificate beside it as `NAME.json`.

        Each file is whole or not there. `force` replaces a file that exists. Raises `OutputError`.
        """
        if not os.fspath(path).lower().endswith(".png"):
            text = f"`path` is `{os.fspath(path)}`; expected a file that ends in `.png`"
            raise InvalidRequestError(text, "path")
        certificate = None if self.certificate is None else json.dumps(self.certificate)
        _native.save_sprite(path, self.png(), certificate, force)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        array = self.array if dtype is None else self.array.astype(dtype, copy=False)
        if copy is False and array is not self.array:
            raise ValueError(f"an array of {dtype} takes a copy of the sprite")
        return array.copy() if copy else array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        kind, index = self.array.__dlpack_device__()
        return int(kind), int(index)

    def __eq__(self, other: object) -> bool:
        import numpy as np

        if not isinstance(other, Sprite):
            return NotImplemented
        return bool(np.array_equal(self.array, other.array))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        colors = len(self.palette)
        words = [f"{self.width}x{self.height}", f"{colors} color" + "s" * (colors != 1)]
        if self.provenance is not None:
            request = self.provenance["request"]
            words.append(_short(request["prompt"]))
            words.append(f"seed {request['seed']}")
        elif self.verdict is not None:
            words.append(self.verdict)
        return f"<Sprite {', '.join(words)}>"

    def _repr_png_(self) -> bytes:
        """The sprite in a notebook, enlarged so that its pixels can be seen."""
        scale = max(1, min(64, _SHOWN_PX // max(self.size)))
        return self.enlarged(scale).png()


def _short(prompt: str) -> str:
    """Returns a prompt for a `repr`, which may have any length."""
    return repr(prompt if len(prompt) <= 60 else prompt[:59] + "…")


def _read(path: str) -> bytes:
    try:
        # A pipe may never end, or never begin.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise NotFoundError(f"`{path}` cannot be used: it is no file")
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        if isinstance(error, NotFoundError):
            raise
        raise NotFoundError(f"`{path}` cannot be used: {error.strerror}") from error
    except ValueError as error:
        raise NotFoundError(f"`{path!r}` cannot be used: {error}") from error


def pixelize(image: ImageLike, **fields: Unpack[PixelFields]) -> Sprite:
    """Makes a sprite of an image of pixel art: one pixel for each cell of its grid.

    `image` is Pillow's, an array `[height, width, 3 or 4]` of `uint8`, a file, or a sprite. The
    fields are those of `PixelFields`. Look at `confidence` and `others` where the image was found
    and not made.

    Raises `InvalidRequestError` for an image or a field that cannot be used.
    """
    width, height, data = _rgba(image)
    pixels, info = _native.pixelize(width, height, data, dict(fields))
    return Sprite._of(pixels, info)


def _rgba(image: Any) -> tuple[int, int, bytes]:
    """Returns width, height and bytes, four for each pixel."""
    if isinstance(image, Sprite):
        return image.width, image.height, image.array.tobytes()
    if isinstance(image, (str, os.PathLike)):
        (width, height, data), _ = _native.read_image(image)
        return width, height, bytes(data)
    if hasattr(image, "convert") and hasattr(image, "mode"):
        if image.mode in ("F", "I", "I;16", "I;16B", "I;16L"):
            text = f"`image` has the mode `{image.mode}`; expected 8 bits for each channel"
            raise InvalidRequestError(f"{text}, for example `RGBA`", "image")
        try:
            image = image.convert("RGBA")
        except (OSError, SyntaxError, ValueError) as error:
            # Pillow reads a file no sooner than its pixels are asked for.
            raise InvalidRequestError(f"`image` cannot be read: {error}", "image") from error
        if 0 in image.size:
            text = f"`image` is {image.width}x{image.height} pixels; expected 1 or more"
            raise InvalidRequestError(text, "image")
        return image.width, image.height, image.tobytes()
    if hasattr(image, "__array__") or hasattr(image, "__dlpack__"):
        import numpy as np

        array = np.asarray(image) if hasattr(image, "__array__") else np.from_dlpack(image)
        return _of_array(array)
    kind = type(image).__name__
    text = f"`image` is of the type `{kind}`; expected an image of Pillow, an array, a file"
    raise InvalidRequestError(f"{text} or a sprite", "image")


def _of_array(array: NDArray[Any]) -> tuple[int, int, bytes]:
    import numpy as np

    if array.dtype != np.uint8:
        text = f"`image` is an array of {array.dtype}; expected uint8, 0 to 255"
        raise InvalidRequestError(text, "image")
    if array.ndim != 3 or array.shape[2] not in (3, 4) or 0 in array.shape:
        shape = list(array.shape)
        text = f"`image` is an array of the shape {shape}; expected [height, width, 3 or 4]"
        raise InvalidRequestError(text, "image")
    height, width, channels = array.shape
    if channels == 3:
        opaque = np.full((height, width, 1), 255, np.uint8)
        array = np.concatenate([array, opaque], axis=2)
    return width, height, array.tobytes()
