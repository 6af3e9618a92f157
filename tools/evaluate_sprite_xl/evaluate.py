"""Measures sprite-xl: does it draw what is asked for, in the colour asked for, on a true grid, and
things of its own?

    python tools/evaluate_sprite_xl/evaluate.py [--model models/sprite-xl] [--judge judge.pt] [--json report.json] [--sheets FOLDER]

Prints a table with confidence intervals (Wilson, 95 %). It takes a minute on a GPU with a trained
judge (`judge.py`), and some twenty on two CPU cores.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
from diffusers import StableDiffusionXLPipeline
from judge import (
    KINDS,
    TRAINING,
    Judge,
    Record,
    among,
    fit_whole,
    premultiplied,
    prepared,
    subject_of,
)
from torch import Tensor

# `judge` made the training's modules importable.
from colour import COLOURS, measure  # isort: skip
from sheet import GUIDANCE_SCALE, SHEET_PROMPTS, STEPS, draw_sprites, paste_sheet  # isort: skip

HERE = Path(__file__).parent
ASKED_COLOURS = ["red", "orange", "yellow", "green", "teal", "blue", "purple", "pink", "brown", "white"]
COLOURED_THINGS = ["dragon", "sword", "potion", "shield", "car", "tree", "book", "robe", "floor", "slime", "cat", "house", "fish", "hat", "gem", "bird", "flower", "robot", "bag", "ghost"]
THIN_THINGS = ["spear", "bow", "staff", "wand", "dagger", "key", "arrow", "whip", "sword", "needle", "trident", "fishing rod", "ladder", "rope", "torch", "flute"]
SUBJECTS, PROMPTS, EMPTIES = 200, 400, 1000
# Kinds that a prompt by name does not tell apart.
ALIKE = [{"monster", "animal", "character"}, {"item", "treasure", "tool", "book", "scroll", "potion"}, {"wall", "floor", "terrain", "water", "scenery"}, {"icon", "weather", "effect", "face", "hand", "body part"}, {"armour", "clothing"}, {"weapon", "staff", "wand", "tool"}, {"building", "door", "portal", "altar", "statue", "shop", "furniture", "scenery"}, {"gem", "ring", "amulet", "treasure", "item"}]  # fmt: skip


def wilson(right: int, of: int) -> str:
    """`right` of `of` as a share with its 95 % interval."""
    if not of:
        return "none"
    share, z = right / of, 1.96
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    return f"{right} of {of}: {share:.1%} ({middle - half:.1%} to {middle + half:.1%})"


def subjects_to_ask(records: list[Record], known: list[str]) -> list[tuple[str, str]]:
    """200 subjects that the judge knows, and their kinds: as many of each kind as training gives it."""
    rng = random.Random(0)
    kind_of = {subject_of(record): record.kind for record in records}
    plain = [name for name in known if name.replace(" ", "").isalpha() and name.count(" ") < 3 and len(name) > 2]
    found: list[tuple[str, str]] = []
    for kind, (mass, _) in KINDS.items():
        names = [name for name in plain if kind_of[name] == kind]
        found += [(name, kind) for name in rng.sample(names, min(len(names), round(1.25 * SUBJECTS * mass)))]
    rng.shuffle(found)
    return found[:SUBJECTS]


def alike(one: str, other: str) -> bool:
    return one == other or any({one, other} <= group for group in ALIKE)


def features(sprites: Tensor) -> Tensor:
    """What stays of premultiplied sprites when they are recoloured: shape, and light and dark within it."""
    alpha = sprites[:, 3]
    light = (sprites[:, :3] * torch.tensor([0.3, 0.6, 0.1], device=sprites.device).view(1, 3, 1, 1)).sum(1)
    count = alpha.flatten(1).sum(1).clamp_min(1).view(-1, 1, 1)
    mean = (light * alpha).sum((1, 2), keepdim=True) / count
    spread = (((light - mean) * alpha).square().sum((1, 2), keepdim=True) / count).sqrt().clamp_min(0.02)
    return torch.stack([alpha, 0.3 * (light - mean) / spread * alpha], 1)


def nearest(these: Tensor, those: Tensor, skip: Tensor | None = None) -> Tensor:
    """Root mean square distance of each to the nearest of those, either way round; pairs in `skip [these, those]` do not count."""
    flat, turned, found = those.flatten(1), those.flip(-1).flatten(1), []
    for start in range(0, len(these), 256):
        part = these[start : start + 256].flatten(1)
        gap = torch.minimum(torch.cdist(part, flat), torch.cdist(part, turned))
        if skip is not None:
            gap[skip[start : start + 256]] = torch.inf
        found.append(gap.amin(1))
    return torch.cat(found) / flat.shape[1] ** 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("models/sprite-xl"))
    parser.add_argument("--data", type=Path, default=TRAINING / "data", help="what prepare.py made")
    parser.add_argument("--judge", type=Path, help="what judge.py saved; without it one is trained")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--sheets", type=Path, help="folder for what was drawn")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--guidance-scale", type=float, default=GUIDANCE_SCALE)
    parser.add_argument("--judge-steps", type=int, default=6000)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    device, began = torch.device(args.device), time.monotonic()
    pipe = StableDiffusionXLPipeline.from_pretrained(args.model, torch_dtype=torch.float32, local_files_only=True).to(device)
    records, sprites, known = prepared(args.data)
    if args.judge:
        saved = torch.load(args.judge, map_location=device, weights_only=True)
        known, accuracy = saved["subjects"], saved["accuracy"]
        judge = Judge(len(KINDS), len(known)).to(device)
        judge.load_state_dict(saved["model"])
        judge.eval()
    else:
        judge, known, accuracy = fit_whole(args.data, device, args.judge_steps)
    report: dict[str, object] = {"steps": args.steps, "guidance scale": args.guidance_scale}
    report["judge on held-out real sprites"] = {name: round(value, 3) for name, value in accuracy.items()}
    sheets: dict[str, tuple[Tensor, int]] = {}

    def draw(prompts: list[str], seed: int, size: int = 32) -> Tensor:
        seeds = list(range(seed, seed + len(prompts)))
        return draw_sprites(pipe, prompts, seeds, steps=args.steps, guidance_scale=args.guidance_scale, size=(size, size))

    @torch.no_grad()
    def judged(made: Tensor) -> tuple[Tensor, Tensor]:
        parts = [judge(premultiplied(part.to(device))) for part in made.split(256)]
        return torch.cat([kind for kind, _ in parts]), torch.cat([subject for _, subject in parts])

    # 1. subjects and kinds
    asked = subjects_to_ask(records, known)
    asked = (asked * (1 + PROMPTS // len(asked)))[:PROMPTS]
    drawn = draw([f"{'an' if name[0] in 'aeiou' else 'a'} {name}" if i % 2 else name for i, (name, _) in enumerate(asked)], 0)
    kind, subject = judged(drawn)
    wanted = torch.tensor([known.index(name) for name, _ in asked], device=device)
    right = among(subject, wanted, random.Random(1), 50)
    report["subject among 50"] = wilson(int(right.sum()), len(asked))
    report["subject among 5 likeliest of all"] = wilson(int((subject.topk(5, 1).indices == wanted[:, None]).any(1).sum()), len(asked))
    named = [list(KINDS)[i] for i in kind.argmax(1).tolist()]
    report["kind"] = wilson(sum(a == b for a, (_, b) in zip(named, asked)), len(asked))
    report["kind, or one that looks alike"] = wilson(sum(alike(a, b) for a, (_, b) in zip(named, asked)), len(asked))
    report["subjects missed"] = sorted({name for (name, _), ok in zip(asked, right.tolist()) if not ok})
    sheets["subjects"] = (drawn, 20)

    # 2. subjects that no caption has
    told = {word for record in records for name in [*record.names, *record.words, *record.above, *record.like] for word in [name, *name.split()]}
    unseen = [(name, line.split(": ")[0]) for line in (HERE / "unseen.txt").read_text().splitlines() for name in line.split(": ")[1].split(", ")]
    unseen = [(name, kind) for name, kind in unseen if name not in told]
    made = draw([name for name, _ in unseen for _ in range(2)], 5000)
    named = [list(KINDS)[i] for i in judged(made)[0].argmax(1).tolist()]
    pairs = list(zip(named, [kind for _, kind in unseen for _ in range(2)]))
    report["kind of subjects that no caption has"] = wilson(sum(a == b for a, b in pairs), len(pairs))
    report["the same, or one that looks alike"] = wilson(sum(alike(a, b) for a, b in pairs), len(pairs))
    sheets["unseen"] = (made, 20)

    # 3. colours
    coloured = [(colour, thing) for colour in ASKED_COLOURS for thing in COLOURED_THINGS]
    made = draw([f"{colour} {thing}" for colour, thing in coloured], 1000)
    first = [COLOURS[i] for i in measure(made)[0].tolist()]
    report["colour asked for is dominant"] = wilson(sum(a == b for a, (b, _) in zip(first, coloured)), len(coloured))
    report["colours missed"] = [f"{colour} {thing}: {a}" for a, (colour, thing) in zip(first, coloured) if a != colour]
    sheets["colours"] = (made, 20)

    # 4. empty sprites
    rng = random.Random(2)
    names = sorted({subject_of(record) for record in records})
    thin = [thing for thing in THIN_THINGS for _ in range(10)]
    made = draw(thin + [rng.choice(names) for _ in range(EMPTIES - len(thin))], 2000)
    seen = made[:, 3].flatten(1).sum(1)
    report["sprites of fewer than 20 visible pixels"] = wilson(int((seen < 20).sum()), EMPTIES)
    report["the same, thin things alone"] = wilson(int((seen[: len(thin)] < 20).sum()), len(thin))
    sheets["thin"] = (made[: len(thin)], 20)

    # 5. copies
    real = premultiplied(sprites.to(device).float() / 255)
    group = [record.group for record in records]
    number = {name: i for i, name in enumerate(dict.fromkeys(group))}
    numbers = torch.tensor([number[name] for name in group], device=device)
    some = torch.randperm(len(real), generator=torch.Generator().manual_seed(0))[:1500].to(device)
    for name, of in [("pixels", lambda x: x), ("shape and shading, whatever the colour", features)]:
        own = nearest(of(real[some]), of(real), skip=numbers[some][:, None] == numbers)
        level = torch.quantile(own, 0.01).item()
        close = nearest(of(premultiplied(drawn.to(device))), of(real))
        report[f"copies by {name}: nearer than {level:.4f}, the 1st percentile of real ones"] = wilson(int((close < level).sum()), len(close))
        report[f"median distance to the nearest real sprite, by {name}; the same of real ones"] = f"{close.median().item():.3f}; {own.median().item():.3f}"

    # 6. grid, seeds, nothing to go by
    pixels = pipe(
        [name for name, _ in asked[:32]], num_inference_steps=args.steps, guidance_scale=args.guidance_scale,
        generator=[torch.Generator("cpu").manual_seed(seed) for seed in range(len(asked[:32]))], output_type="pt",
    ).images  # fmt: skip
    pixels = (pixels.float().cpu() * 255).round()
    n, _, height, width = pixels.shape
    cells = pixels.view(n, 3, height // 8, 8, width // 8, 8).permute(0, 2, 4, 1, 3, 5).flatten(4)
    report["cells of one colour exactly"] = f"{((cells.amax(-1) - cells.amin(-1)).amax(-1) == 0).float().mean().item():.4%}"
    several = ["dragon", "sword", "red potion", "cat", "house", "tree", "goblin", "car", "knight", "pizza", "robot", "ghost"]
    made = draw([prompt for prompt in several for _ in range(8)], 3000)
    gaps = torch.cat([torch.pdist(premultiplied(part).flatten(1)) / 64 for part in made.split(8)])
    report["pairs of two seeds nearer than 0.05"] = wilson(int((gaps < 0.05).sum()), len(gaps))
    strange = ["", "zorblax", "quixotic frumious", "борщ", "猫", "🗡️", "xyzzy " * 100, "a" * 300]
    made = draw(strange, 4000)
    report["of nothing and unknown words, drawn (3 to 100 % of the cells)"] = f"{int((made[:, 3].mean((1, 2)) > 0.03).sum())} of {len(strange)}"
    sheets["seeds"] = (draw([prompt for prompt in several for _ in range(8)], 3000), 8)

    # 7. sheets to look at
    sixty = (HERE / "sixty.txt").read_text().splitlines()
    sheets["sixty"] = (draw(sixty, 7), 10)
    sheets["forty-eight"] = (draw(SHEET_PROMPTS, 1), 8)
    for size in (16,):
        sheets[f"sixty-{size}"] = (draw(sixty, 7, size), 10)
    if args.sheets:
        args.sheets.mkdir(parents=True, exist_ok=True)
        for name, (made, columns) in sheets.items():
            paste_sheet(made, columns, 2).save(args.sheets / f"{name}.png", optimize=True)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    report["seconds"] = round(time.monotonic() - began)
    print("| measured | |\n|---|---|")
    for name, value in report.items():
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
