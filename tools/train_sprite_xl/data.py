"""Training batches, made by workers from the prepared sprites.

A worker draws every choice from its own generator: which sprite, which look of it, how it is called. So a batch is the
same whatever the number of GPUs, and the GPU has nothing to do but learn.
"""

import json
import lzma
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from captions import KINDS, Record, dressed, many, sentence, several
from colour import COLOURS, measure, recolour
from model import TOKENS
from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset
from transformers import CLIPTokenizer

# Canvases of the prepared sprites, in their order, and the sizes that are trained.
CANVASES = [16, 24, 32, 40, 48, 64]
SIZES = [16, 24, 32, 48, 64]
STYLES = ["pixel", "emoji", "1-bit", "shaded icon"]
# For each size: canvases that are used for it, how (as it is, in the middle of more room, or doubled), and how often.
SOURCES = {
    16: [(16, 1, 1.0)],
    24: [(24, 1, 1.0), (16, 1, 0.15)],
    32: [(32, 1, 1.0), (24, 1, 0.35), (40, 1, 0.3), (16, 2, 0.12)],
    48: [(48, 1, 1.0), (40, 1, 0.6), (32, 1, 0.1), (24, 2, 0.2)],
    64: [(64, 1, 1.0), (48, 1, 0.25), (32, 2, 0.25)],
}
# Kinds whose colours are their own: they are recoloured less.
OWN_COLOURS = {"food", "animal", "face", "hand", "body part", "weather", "scenery", "plant", "terrain", "water"}
GROUND_NAMES = {"grass": "grass", "meadow": "grass", "water": "water", "sea": "water", "sand": "sand", "stone floor": "stone", "cobblestone": "stone"}


@dataclass
class Sprites:
    """Every sprite as it is and in each colour that suits it. Look 0 is the sprite itself, look `i` in `COLOURS[i - 1]`."""

    records: list[Record]
    looks: dict[int, np.ndarray]  # by canvas: [looks, n, size, size, 4], u8
    valid: dict[int, np.ndarray]  # by canvas: [looks, n]
    named: list[str | None]  # the colour of each record as it is, where one is sure

    def look(self, record: Record, look: int) -> np.ndarray:
        return self.looks[record.size][look, record.place]


def load_records(data: Path, licences: str = "all") -> tuple[list[Record], dict[int, np.ndarray]]:
    """What the prepared sprites are, and their pixels by canvas, straight RGBA `[n, size, size, 4]`, u8.

    `licences` is `all`, or `cc0` for what is CC0 or in the public domain alone.
    """
    lines = lzma.decompress((data / "records.jsonl.xz").read_bytes()).decode().splitlines()
    records = [Record(**json.loads(line)) for line in lines]
    flat, start, pixels = np.frombuffer(lzma.decompress((data / "sprites.xz").read_bytes()), np.uint8), 0, {}
    for size in CANVASES:
        count = sum(record.size == size for record in records)
        pixels[size] = flat[start : start + count * size * size * 4].reshape(count, size, size, 4)
        start += count * size * size * 4
    if licences == "cc0":
        records = [record for record in records if record.licence in ("CC0-1.0", "public-domain")]
    return records, pixels


def load_sprites(data: Path, device: torch.device, licences: str = "all", limit: int | None = None) -> Sprites:
    """Recolours every sprite on `device`, and keeps what worked."""
    records, pixels = load_records(data, licences)
    records = records[:: max(1, len(records) // limit)] if limit else records
    looks, valid, names = {}, {}, {}
    for size, images in pixels.items():
        used = sorted(record.place for record in records if record.size == size)
        found = np.zeros((len(COLOURS) + 1, *images.shape), np.uint8)
        works = np.zeros((len(COLOURS) + 1, len(images)), bool)
        found[0], works[0] = images, True
        for rows in (used[i : i + 512] for i in range(0, len(used), 512)):
            sprites = torch.from_numpy(images[rows]).to(device).permute(0, 3, 1, 2).float() / 255
            first, share = measure(sprites)
            names.update({(size, row): COLOURS[i] for row, i, sure in zip(rows, first.tolist(), share.tolist()) if sure > 0.4})
            for i, colour in enumerate(COLOURS):
                made, worked = recolour(sprites, colour)
                found[i + 1, rows] = (made * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
                works[i + 1, rows] = worked.cpu().numpy()
        looks[size], valid[size] = found, works
    return Sprites(records, looks, valid, [names.get((record.size, record.place)) for record in records])


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> np.ndarray:
    """Token ids `[texts, tokens]`, i16, as the tokenizer itself gives them, much faster for many texts."""
    backend = tokenizer.backend_tokenizer
    backend.enable_truncation(TOKENS)
    backend.enable_padding(length=TOKENS, pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token)
    return np.array([encoding.ids for encoding in backend.encode_batch(texts)], dtype=np.int16)


class Batches(IterableDataset):
    """Endless batches: size, straight RGBA `[rows, size, size, 4]` u8, token ids `[rows, tokens]` i16.

    `rows[size]` are drawn at once, and sizes take turns by `shares`. `styles` are the shares of a kind's samples by style.
    """

    def __init__(
        self, sprites: Sprites, tokenizer: CLIPTokenizer, rows: dict[int, int], shares: dict[int, float], styles: dict[str, float], seed: int
    ):
        self.sprites, self.tokenizer, self.rows, self.shares, self.styles, self.seed = sprites, tokenizer, rows, shares, styles, seed
        # Composites take small sprites, whatever sizes are trained.
        self.pools = {size: self._pool(size) for size in SIZES}
        self.grounds: dict[str, list[int]] = {}
        for i, record in enumerate(sprites.records):
            for word, ground in GROUND_NAMES.items():
                if record.kind in ("floor", "terrain", "water", "grass") and word in record.names[0] and sprites.looks[record.size][0, record.place, ..., 3].all():
                    self.grounds.setdefault(ground, []).append(i)

    def _pool(self, size: int) -> tuple[list[int], list[int], np.ndarray]:
        """Records that may be drawn at this size, how often each is enlarged, and cumulated weights."""
        chosen, zooms, weights = [], [], []
        records = self.sprites.records
        groups: dict[tuple[str, int, int], int] = {}
        for record in records:
            groups[record.group, record.size, 0] = groups.get((record.group, record.size, 0), 0) + 1
        for canvas, zoom, often in SOURCES[size]:
            for i, record in enumerate(records):
                if record.size != canvas or (zoom > 1 and record.style != "pixel"):
                    continue
                # Frames and variants of one thing share its weight, but not wholly.
                chosen.append(i)
                zooms.append(zoom)
                weights.append(often * groups[record.group, canvas, 0] ** -0.6)
        kinds = np.array([list(KINDS).index(records[i].kind) for i in chosen])
        styles = np.array([STYLES.index(records[i].style) for i in chosen])
        weight = np.array(weights)
        for kind, (mass, _) in enumerate(KINDS.values()):
            here = kinds == kind
            present = [style for style in range(len(STYLES)) if (here & (styles == style)).any()]
            for style in present:
                part = here & (styles == style)
                # A style with few sprites of this kind is not shown over and over.
                share = self.styles[STYLES[style]] * min(1.0, part.sum() / 12)
                weight[part] *= share / weight[part].sum()
            if here.any():
                weight[here] *= mass * min(1.0, here.sum() / 10) / weight[here].sum()
        return chosen, zooms, np.cumsum(weight / weight.sum())

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        number = worker.id if worker else 0
        rng = random.Random(self.seed * 1000 + number)
        sizes, shares = list(self.shares), list(self.shares.values())
        while True:
            size = rng.choices(sizes, shares)[0]
            made = [self.sample(size, rng) for _ in range(self.rows[size])]
            yield size, torch.from_numpy(np.stack([image for image, _ in made])), torch.from_numpy(tokenize(self.tokenizer, [text for _, text in made]))

    def sample(self, size: int, rng: random.Random) -> tuple[np.ndarray, str]:
        """One sprite of this size and its caption."""
        if size >= 32 and rng.random() < (0.06 if size == 32 else 0.12):
            return self.composite(size, rng)
        chosen, zooms, weights = self.pools[size]
        at = min(int(np.searchsorted(weights, rng.random())), len(chosen) - 1)
        record = self.sprites.records[chosen[at]]
        image, colour, flipped = self.look(chosen[at], rng)
        image = image.repeat(zooms[at], 0).repeat(zooms[at], 1)
        if image.shape[0] > size:
            image = crop(image, size)
        full = image.shape[0] == size and image[..., 3].all()
        style = record.style
        if style == "emoji" and rng.random() < 0.5:
            image, style = outlined(image), "outlined"
        text = sentence(record, colour, style, rng, flipped)
        if rng.random() < 0.06 and not full:
            image, text = few_colours(image, rng.choice([4, 8]), text, rng)
        if not full:
            image = place(image, size, record, rng)
        light = 1 + 0.08 * (2 * rng.random() - 1)
        image = np.concatenate([(image[..., :3] * light).clip(0, 255).astype(np.uint8), image[..., 3:]], -1)
        return image, text

    def look(self, index: int, rng: random.Random) -> tuple[np.ndarray, str | None, bool]:
        """The sprite in some colour, that colour if it is to be named, and whether it is mirrored."""
        record = self.sprites.records[index]
        look, colour = 0, self.sprites.named[index] if rng.random() < 0.35 else None
        recoloured = 0.15 if record.kind in OWN_COLOURS else 0.0 if record.style == "1-bit" else 0.45
        if rng.random() < recoloured:
            others = np.flatnonzero(self.sprites.valid[record.size][1:, record.place])
            if len(others):
                # A sprite in a colour that is not its own is always told its colour, or things would lose theirs.
                look = 1 + int(rng.choice(others))
                colour = COLOURS[look - 1]
        if record.style == "1-bit":
            colour = None
        image = self.sprites.look(record, look)
        flipped = record.flip and rng.random() < 0.5
        return image[:, ::-1] if flipped else image, colour, flipped

    def composite(self, size: int, rng: random.Random) -> tuple[np.ndarray, str]:
        """Several sprites in one picture, or one on a ground."""
        small = {32: [16], 48: [16, 24], 64: [24, 32]}[size]
        canvas = rng.choice(small)
        chosen, _, weights = self.pools[canvas]

        def one() -> int:
            while True:
                index = chosen[min(int(np.searchsorted(weights, rng.random())), len(chosen) - 1)]
                record = self.sprites.records[index]
                if record.size <= canvas and record.style in ("pixel", "emoji") and not self.sprites.look(record, 0)[..., 3].all():
                    return index

        roll, picture = rng.random(), np.zeros((size, size, 4), np.uint8)
        most = (size // canvas) ** 2
        if roll < 0.45:
            index = one()
            image, colour, _ = self.look(index, rng)
            count = rng.randint(2, min(4, most))
            images = [image] * count
            text = many(self.sprites.records[index], colour, count, rng)
        else:
            indices = [one() for _ in range(2 if roll < 0.85 or most < 3 else 3)]
            looks = [self.look(index, rng) for index in indices]
            images = [image for image, _, _ in looks]
            text = several([self.sprites.records[i] for i in indices], [colour for _, colour, _ in looks], None, rng)
        if rng.random() < 0.5:
            images = [outlined(image) for image in images]
        columns = 2 if len(images) in (2, 4) else min(3, size // canvas)
        rows = -(-len(images) // columns)
        for i, image in enumerate(images):
            side = image.shape[0]
            y = int(size * (i // columns + 0.5) / rows - side / 2)
            x = int(size * (i % columns + 0.5) / min(columns, len(images) - i // columns * columns) - side / 2)
            y, x = min(max(y, 0), size - side), min(max(x, 0), size - side)
            part = picture[y : y + side, x : x + side]
            part[:] = np.where(image[..., 3:] > 0, image, part)
        if rng.random() < 0.2 and self.grounds:
            ground = rng.choice(list(self.grounds))
            record = self.sprites.records[rng.choice(self.grounds[ground])]
            tile = self.sprites.look(record, 0)
            tiled = np.tile(tile, (-(-size // record.size), -(-size // record.size), 1))[:size, :size]
            picture = np.where(picture[..., 3:] > 0, picture, tiled)
            text = f"{text} {rng.choice({'grass': ['on grass', 'on a meadow'], 'water': ['on water'], 'sand': ['on sand'], 'stone': ['on a stone floor']}[ground])}"
        return picture, dressed(text, [], "pixel", rng)


def crop(image: np.ndarray, size: int) -> np.ndarray:
    """The middle of what is seen."""
    rows, columns = image[..., 3].any(1).nonzero()[0], image[..., 3].any(0).nonzero()[0]
    y = min(max((rows[0] + rows[-1] + 1 - size) // 2, 0), len(image) - size)
    x = min(max((columns[0] + columns[-1] + 1 - size) // 2, 0), len(image) - size)
    return image[y : y + size, x : x + size]


def place(image: np.ndarray, size: int, record: Record, rng: random.Random) -> np.ndarray:
    """What is seen, somewhere near the middle of a canvas; those who stand keep to the ground."""
    seen = image[..., 3] > 0
    rows, columns = seen.any(1).nonzero()[0], seen.any(0).nonzero()[0]
    part = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    room = (size - part.shape[0], size - part.shape[1])
    old = (rows[0] + (size - image.shape[0]) // 2, columns[0] + (size - image.shape[1]) // 2)
    jitter = max(1, size // 16)
    y, x = (min(max(old[i] + rng.randint(-jitter, jitter), 0), room[i]) for i in (0, 1))
    picture = np.zeros((size, size, 4), np.uint8)
    picture[y : y + part.shape[0], x : x + part.shape[1]] = part
    return picture


def outlined(image: np.ndarray) -> np.ndarray:
    """With one pixel of a dark line around it, as most pixel art has, on the room that there is."""
    seen = image[..., 3] > 0
    if seen[0].any() or seen[-1].any() or seen[:, 0].any() or seen[:, -1].any():
        seen_inside = seen.copy()
        seen_inside[1:-1, 1:-1] &= seen[:-2, 1:-1] & seen[2:, 1:-1] & seen[1:-1, :-2] & seen[1:-1, 2:]
        seen_inside[0] = seen_inside[-1] = False
        seen_inside[:, 0] = seen_inside[:, -1] = False
        line = seen & ~seen_inside
    else:
        grown = seen.copy()
        grown[1:] |= seen[:-1]
        grown[:-1] |= seen[1:]
        grown[:, 1:] |= seen[:, :-1]
        grown[:, :-1] |= seen[:, 1:]
        line = grown & ~seen
    mean = image[seen][:, :3].mean(0) if seen.any() else np.zeros(3)
    result = image.copy()
    result[line, :3] = (0.22 * mean + 8).astype(np.uint8)
    result[line, 3] = 255
    return result


def few_colours(image: np.ndarray, count: int, text: str, rng: random.Random) -> tuple[np.ndarray, str]:
    """Reduced to a palette of `count` colours, and a caption that says so now and then."""
    flat = Image.fromarray(np.ascontiguousarray(image[..., :3])).quantize(count + 1).convert("RGB")
    result = np.concatenate([np.asarray(flat), image[..., 3:]], -1) * (image[..., 3:] > 0)
    return result.astype(np.uint8), f"{text}, {rng.choice([f'{count} colors', 'limited palette'])}" if rng.random() < 0.7 else text


def as_tensor(rgba: Tensor) -> Tensor:
    """u8 `[n, h, w, 4]` → straight RGBA `[n, 4, h, w]`, 0 to 1."""
    return rgba.permute(0, 3, 1, 2).float() / 255
