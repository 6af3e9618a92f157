"""Makes the training data of sprite-xl from the CC0 set: pixels, names and both tokenizers' vocabulary.

    python tools/train_sprite_xl/prepare.py --sprites SPRITES

`SPRITES` holds `sprites.tar`, PNGs of 32x32, and `sprites.tsv` with the columns file, kind, subject and caption. What it
makes from the set that sprite-xl was trained on is in `data/`.
"""

import argparse
import csv
import io
import json
import random
import tarfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np
from alpha import harden
from bpe import bpe
from PIL import Image
from words import (
    ADJECTIVES,
    COLOUR_SYNONYMS,
    KINDS,
    LEADS,
    MATERIALS,
    SCENES,
    SYNONYMS,
    TAILS,
    Record,
    describe,
    sentence,
)

LICENCE = "CC0-1.0"
ORIGIN = "Dungeon Crawl Stone Soup, repository crawl/tiles, releases Nov-2015 and Oct-5-2010"
MERGES = 2000
# Words that people write and the set does not: given a place so that they are one token each.
EVERYDAY = """blurry photo realistic text watermark low quality high best background transparent simple scene view walking running attack
idle standing boy girl king thief archer priest monk ninja pirate castle house bridge road path cave ship boat wagon table chair bed
stove anvil fence ladder rope chain hook net lever bag barrel crate map candle moon sun star heart cross skull snow rain night day
fantasy medieval dungeon cave forest village space alien car gun game item hand face head body wings tail horn claw tooth""".split()


def is_label(record: Record, sprite: np.ndarray) -> bool:
    """Whether this is one of the small marks that the game lays over an item's lower right corner."""
    rows, columns = sprite[..., 3].any(1).nonzero()[0], sprite[..., 3].any(0).nonzero()[0]
    carried = ("potion", "scroll", "ring", "amulet", "wand", "staff", "food", "book", "gem")
    return record.kind in carried and rows[0] >= 14 and columns[0] >= 13


def vocabulary(records: list[Record]) -> Counter[str]:
    """Words by how often captions have them; all of our own lists count as common."""
    rng = random.Random(0)
    words: Counter[str] = Counter()
    for record in records:
        for _ in range(4):
            words.update(word.strip(",") for word in sentence(record, rng.choice(list(COLOUR_SYNONYMS)), rng).split())
    own = [*KINDS, *COLOUR_SYNONYMS, *MATERIALS, *EVERYDAY, *TAILS, *ADJECTIVES, *LEADS, *SCENES]
    own += [word for group in [*SYNONYMS, *COLOUR_SYNONYMS.values()] for word in group]
    words.update({word: 20 for phrase in own for word in phrase.split()})
    return Counter({word: count for word, count in words.items() if word.isalpha() and (count > 1 or len(word) < 5)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sprites", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "data")
    args = parser.parse_args()

    records, pixels, sources, seen = [], [], [], set()
    with tarfile.open(args.sprites / "sprites.tar") as archive, (args.sprites / "sprites.tsv").open() as table:
        members = {Path(member.name).name: member for member in archive.getmembers()}
        for row in csv.DictReader(table, delimiter="\t"):
            record = describe(row["file"], row["kind"], row["subject"], row["caption"])
            if record is None:
                continue
            file = archive.extractfile(members[row["file"]])
            sprite = harden(np.asarray(Image.open(io.BytesIO(file.read())).convert("RGBA")))
            # Marks of a few pixels teach nothing, and hardening makes some sprites equal.
            if (sprite[..., 3] > 0).sum() < 24 or sprite.tobytes() in seen or is_label(record, sprite):
                continue
            seen.add(sprite.tobytes())
            records.append(record)
            pixels.append(sprite)
            sources.append([row["file"], row["caption"], LICENCE, ORIGIN])
    args.output.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(args.output / "sprites.npz", rgba=np.stack(pixels))
    rows = ",\n".join(json.dumps(asdict(record)) for record in records)
    (args.output / "records.json").write_text(f"[\n{rows}\n]\n")
    with (args.output / "sources.tsv").open("w", newline="") as table:
        csv.writer(table, delimiter="\t", lineterminator="\n").writerows([["file", "caption", "licence", "origin"], *sources])
    vocab, merges = bpe(vocabulary(records), MERGES)
    (args.output / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (args.output / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(records)} sprites, {len(vocab)} tokens:", dict(Counter(record.kind for record in records).most_common()))


if __name__ == "__main__":
    main()
