"""The pictures before damage: CC0 sprites and scenes at their true size, and pictures that have no
grid at all.

    python sources.py make --sprites SPRITES_DIR --index sprites.tsv      # writes data/tune and data/report anew
    python sources.py no-grid --output /tmp/no_grid                       # photographs and gradients, 120 PNG files

`make` needs the 32x32 tiles that data/README.md names; everything else reads `data/`. The two sets
share no tile and no subject, so what is tuned on one is judged on the other. The no-grid pictures
are cut from photographs that scikit-image, scikit-learn and matplotlib carry in their wheels, and
drawn from seeded gradients and clouds.
"""

import argparse
import csv
import hashlib
import importlib.resources
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Pixels = NDArray[np.uint8]

DATA = Path(__file__).parent / "data"
TILE = 32
# Width and height of each scene, in true pixels. It is cut from its tiles at any offset, so tile seams fall anywhere.
SCENE_SIZES = {
    "tune": [(48, 48)] * 6 + [(64, 48)] * 3 + [(40, 56)] * 4 + [(64, 64)] * 4 + [(80, 64)] * 3 + [(64, 96)] * 2
    + [(96, 96)] * 2 + [(128, 96)] * 2 + [(128, 128), (160, 160)],
    "report": [(48, 48)] * 8 + [(64, 48)] * 5 + [(40, 56)] * 6 + [(64, 64)] * 7 + [(80, 64)] * 5 + [(56, 80)] * 4
    + [(96, 96)] * 4 + [(128, 96)] * 3 + [(72, 112)] * 2 + [(128, 128), (160, 160)],
}  # fmt: skip
SPRITE_COUNT = {"tune": 36, "report": 64}


def rng_of(*words: object) -> np.random.Generator:
    """A generator that depends on the words alone, not on the order of work."""
    digest = hashlib.sha256("/".join(map(str, words)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


@dataclass(frozen=True)
class Source:
    """A picture at its true size, RGBA."""

    name: str
    pixels: Pixels


def load(folder: Path) -> list[Source]:
    """Every PNG of a folder, by name. Any folder of true-size sprites will do."""
    paths = sorted(folder.glob("*.png"))
    if not paths:
        raise SystemExit(f"`{folder}` holds no PNG file; expected sprites at their true size")
    return [Source(path.stem, np.array(Image.open(path).convert("RGBA"))) for path in paths]


def subsample(sources: list[Source], count: int, seed: int) -> list[Source]:
    """`count` sources, sprites and scenes in the proportion of the whole, the same ones for the same seed."""
    if count >= len(sources):
        return sources
    order = [sources[i] for i in rng_of("subsample", seed).permutation(len(sources))]
    scenes = [s for s in order if s.name.startswith("scene")]
    sprites = [s for s in order if not s.name.startswith("scene")]
    wanted = round(count * len(scenes) / len(sources))
    return sorted(scenes[:wanted] + sprites[: count - wanted], key=lambda s: s.name)


@dataclass(frozen=True)
class Tile:
    kind: str
    subject: str
    caption: str
    pixels: Pixels

    @property
    def opaque(self) -> bool:
        return bool((self.pixels[..., 3] == 255).all())

    @property
    def binary_alpha(self) -> bool:
        return bool(np.isin(self.pixels[..., 3], (0, 255)).all())

    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of what is visible."""
        rows, cols = np.nonzero(self.pixels[..., 3].any(axis=1))[0], np.nonzero(self.pixels[..., 3].any(axis=0))[0]
        return int(cols[0]), int(rows[0]), int(cols[-1]) + 1, int(rows[-1]) + 1


def read_tiles(sprites: Path, index: Path) -> list[Tile]:
    with index.open(newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    tiles = [
        Tile(row["kind"], row["subject"], row["caption"], np.array(Image.open(sprites / row["file"]).convert("RGBA")))
        for row in rows
    ]
    return [tile for tile in tiles if tile.pixels.shape == (TILE, TILE, 4) and tile.pixels[..., 3].any()]


def worth_a_picture(tile: Tile) -> bool:
    """Large enough and varied enough to stand alone: a lone dot has no grid to find."""
    left, top, right, bottom = tile.box()
    visible = tile.pixels[tile.pixels[..., 3] > 0]
    return (
        tile.kind in ("monster", "item")
        and tile.binary_alpha
        and not tile.opaque
        and min(right - left, bottom - top) >= 16
        and len(visible) >= 120
        and len(np.unique(visible, axis=0)) >= 8
    )


def scene(rng: np.random.Generator, tiles: list[Tile], width: int, height: int) -> Pixels:
    """Ground, a wall along some sides, then things and creatures, cut to size at any offset."""
    grounds, walls = defaultdict(list), defaultdict(list)
    for tile in tiles:
        if tile.kind == "dungeon tile" and tile.opaque and ", floor," in tile.caption:
            grounds[tile.subject].append(tile)
        if tile.kind == "dungeon tile" and tile.opaque and ", wall," in tile.caption:
            walls[tile.subject].append(tile)
    over = [t for t in tiles if t.kind in ("monster", "item") and not t.opaque]
    cols, rows = width // TILE + 2, height // TILE + 2
    ground = grounds[sorted(grounds)[rng.integers(len(grounds))]]
    wall = walls[sorted(walls)[rng.integers(len(walls))]]
    page = Image.new("RGBA", (cols * TILE, rows * TILE))
    wall_row, wall_col = rng.integers(0, rows), rng.integers(0, 2 * cols)
    places = [(row, col, row == wall_row or col == wall_col) for row in range(rows) for col in range(cols)]
    for row, col, walled in places:
        stock = wall if walled else ground
        page.paste(Image.fromarray(stock[rng.integers(len(stock))].pixels), (col * TILE, row * TILE))
    for row, col, walled in places:
        if not walled and rng.random() < 0.55:
            # Half the things stand off their tile, as in a game with free movement.
            shift = rng.integers(-12, 13, 2) * (rng.random() < 0.5)
            thing = Image.fromarray(over[rng.integers(len(over))].pixels)
            at = (max(0, col * TILE + int(shift[0])), max(0, row * TILE + int(shift[1])))
            page.alpha_composite(thing, at)
    left, top = int(rng.integers(0, cols * TILE - width + 1)), int(rng.integers(0, rows * TILE - height + 1))
    return np.array(page.crop((left, top, left + width, top + height)))


def make(sprites: Path, index: Path, seed: int) -> None:
    tiles = read_tiles(sprites, index)
    # By subject, so that two drawings of one creature never stand on both sides.
    side = {s: "tune" if rng_of("split", seed, s).random() < 0.4 else "report" for s in {t.subject for t in tiles}}
    for name, sizes in SCENE_SIZES.items():
        folder = DATA / name
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.png"):
            old.unlink()
        own = [tile for tile in tiles if side[tile.subject] == name]
        rng = rng_of("make", seed, name)
        alone = [tile for tile in own if worth_a_picture(tile)]
        seen: set[str] = set()
        whole: list[Pixels] = []
        trimmed: list[Pixels] = []
        for i in rng.permutation(len(alone)):
            tile = alone[i]
            left, top, right, bottom = tile.box()
            if tile.subject in seen:
                continue
            seen.add(tile.subject)
            if max(right - left, bottom - top) < TILE and len(trimmed) < SPRITE_COUNT[name] // 2:
                trimmed.append(tile.pixels[top:bottom, left:right])
            elif len(whole) < SPRITE_COUNT[name] // 2:
                whole.append(tile.pixels)
        for i, pixels in enumerate(whole + trimmed):
            save(pixels, folder / f"sprite_{i:02}_{pixels.shape[1]}x{pixels.shape[0]}.png")
        for i, (width, height) in enumerate(sizes):
            save(scene(rng, own, width, height)[..., :3], folder / f"scene_{i:02}_{width}x{height}.png")
        files = list(folder.glob("*.png"))
        print(f"{name}: {len(files)} pictures, {sum(f.stat().st_size for f in files) / 1024:.0f} KiB")


def save(pixels: Pixels, path: Path) -> None:
    Image.fromarray(pixels).save(path, optimize=True)


PHOTOGRAPHS = [
    *(("skimage", f"data/{name}") for name in ("astronaut.png", "coffee.png", "chelsea.png", "hubble_deep_field.jpg",
                                               "retina.jpg", "rocket.jpg", "ihc.png", "camera.png", "coins.png",
                                               "page.png", "text.png", "brick.png", "grass.png",
                                               "gravel.png", "motorcycle_left.png", "color.png", "cell.png")),
    *(("sklearn", f"datasets/images/{name}.jpg") for name in ("china", "flower")),
    *(("matplotlib", f"mpl-data/sample_data/{name}") for name in ("grace_hopper.jpg",)),
]  # fmt: skip


def photographs() -> list[tuple[str, Image.Image]]:
    """What the installed wheels carry, with no download. Older wheels carry more; the rest is passed over."""
    found = []
    for package, path in PHOTOGRAPHS:
        try:
            file = importlib.resources.files(package) / path
        except ModuleNotFoundError:
            continue
        if file.is_file():
            with importlib.resources.as_file(file) as local:
                found.append((Path(path).stem, Image.open(local).convert("RGB")))
    return found


def no_grid(count: int, seed: int) -> list[Source]:
    """Pictures on which the one right answer is "no grid": half cut from photographs, half drawn."""
    cut = photographs()
    pictures = []
    for i in range(count):
        rng = rng_of("no grid", seed, i)
        width, height = (int(v) for v in rng.integers(128, 769, 2))
        if i % 2 == 0 and cut:
            name, photograph = cut[(i // 2) % len(cut)]
            scale = max(width / photograph.width, height / photograph.height, rng.uniform(0.5, 1.0))
            # Never enlarged: an enlarged photograph does have a grid.
            if scale > 1:
                width, height = int(width / scale), int(height / scale)
                scale = 1.0
            small = photograph.resize(
                (max(width, round(photograph.width * scale)), max(height, round(photograph.height * scale))),
                Image.Resampling.LANCZOS,
            )
            left, top = (int(rng.integers(0, v + 1)) for v in (small.width - width, small.height - height))
            pixels = np.array(small.crop((left, top, left + width, top + height)))
        else:
            kind = ("linear", "radial", "clouds", "blobs", "noise")[(i // 2) % 5]
            name, pixels = kind, drawn(rng, kind, width, height)
        pictures.append(Source(f"{i:03}_{name}_{pixels.shape[1]}x{pixels.shape[0]}", pixels))
    return pictures


SCREENS = [(320, 180), (256, 224), (160, 144), (240, 160), (480, 270), (640, 360)]


def native(count: int, seed: int) -> list[Source]:
    """Pictures at their own size, where the one right answer is the picture: scenes of 16 or 32 px tiles under a camera that
    stands anywhere, one tile repeated, scenes of few colours, and sheets, of the report set's art."""
    art = [source.pixels for source in load(DATA / "report")]
    scenes = [pixels for pixels in art if (pixels[..., 3] == 255).all()]
    sprites = [pixels for pixels in art if not (pixels[..., 3] == 255).all()]
    pictures = []
    for i in range(count):
        rng = rng_of("native", seed, i)
        kind = ("scene", "repeated", "few", "sheet")[i % 4]
        tile = int(rng.choice([16, 32]))
        width, height = SCREENS[rng.integers(len(SCREENS))] if kind != "sheet" else (8 * TILE, 4 * TILE)
        page = Image.new("RGBA", (width + tile, height + tile))
        grounds = []
        for _ in range(1 if kind == "repeated" else 4):
            scene = scenes[rng.integers(len(scenes))]
            top, left = (int(rng.integers(0, side - tile + 1)) for side in scene.shape[:2])
            grounds.append(Image.fromarray(scene[top : top + tile, left : left + tile]))
        step = TILE if kind == "sheet" else tile
        for top in range(0, page.height, step):
            for left in range(0, page.width, step):
                if kind != "sheet":
                    page.paste(grounds[rng.integers(len(grounds))], (left, top))
                if kind == "sheet" or rng.random() < (0.02 if kind == "repeated" else 0.2):
                    thing = Image.fromarray(sprites[rng.integers(len(sprites))]).crop((0, 0, TILE, TILE))
                    page.alpha_composite(thing, (min(left, page.width - TILE), min(top, page.height - TILE)))
        left, top = (int(v) for v in rng.integers(0, tile, 2)) if kind != "sheet" else (0, 0)
        page = page.crop((left, top, left + width, top + height))
        if kind != "sheet":
            page = page.convert("RGB")
        if kind == "few":
            page = page.quantize(int(rng.choice([4, 8, 16, 32]))).convert("RGB")
        pictures.append(Source(f"{i:03}_{kind}_{width}x{height}", np.array(page)))
    return pictures


def drawn(rng: np.random.Generator, kind: str, width: int, height: int) -> Pixels:
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    first, second = rng.uniform(0, 255, (2, 3))
    if kind == "linear":
        angle = rng.uniform(0, 2 * np.pi)
        t = x * np.cos(angle) + y * np.sin(angle)
    elif kind == "radial":
        t = np.hypot(x - rng.uniform(0, width), y - rng.uniform(0, height))
    elif kind == "clouds":
        # A falling spectrum, and not noise enlarged, which would have a lattice.
        pitch = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
        waves = np.fft.rfft2(rng.normal(size=(height, width))) / np.maximum(pitch, 1 / max(height, width)) ** 1.7
        t = np.fft.irfft2(waves, (height, width))
    elif kind == "blobs":
        t = ndimage.gaussian_filter(rng.normal(size=(height, width)), rng.uniform(6, 24))
        t = np.tanh(t / t.std() * 4)
    else:
        t = ndimage.gaussian_filter(rng.normal(size=(height, width)), rng.uniform(0, 2.5))
    t = (t - t.min()) / max(float(np.ptp(t)), 1e-6)
    mixed = first + (second - first) * t[..., None]
    pixels: Pixels = np.clip(mixed + rng.normal(0, rng.choice([0.5, 2.0]), mixed.shape), 0, 255).astype(np.uint8)
    return pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make", help="write data/tune and data/report anew")
    making.add_argument("--sprites", type=Path, required=True, help="folder of 32x32 PNG tiles")
    making.add_argument("--index", type=Path, required=True, help="their table: file, kind, subject, caption")
    making.add_argument("--seed", type=int, default=1)
    flat = commands.add_parser("no-grid", help="write the pictures without a grid")
    flat.add_argument("--output", type=Path, required=True)
    flat.add_argument("--count", type=int, default=120)
    flat.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if args.command == "make":
        make(args.sprites, args.index, args.seed)
    else:
        args.output.mkdir(parents=True, exist_ok=True)
        for source in no_grid(args.count, args.seed):
            save(source.pixels, args.output / f"{source.name}.png")


if __name__ == "__main__":
    main()
