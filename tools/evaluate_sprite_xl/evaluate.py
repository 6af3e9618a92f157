"""Measures sprite-xl: does it draw what is asked for, in the colour asked for, on a true grid, and things of its own?

    python tools/evaluate_sprite_xl/evaluate.py [--model models/sprite-xl] [--json report.json] [--sheets FOLDER]

Prints a table. It takes half a minute on an H100; on a CPU training the judge alone takes the better part of an hour.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from classifier import CLASSES, TRAINING, fit, premultiplied
from colour import COLOURS, measure
from data import load_records
from diffusers import StableDiffusionXLPipeline
from sheet import GUIDANCE_SCALE, STEPS, draw_sprites, paste_sheet
from torch import Tensor
from words import SYNONYMS as WORD_GROUPS

THINGS = {
    "monster": ["dragon", "goblin", "knight", "skeleton", "wizard", "spider", "demon", "snake", "orc", "ghost"],
    "weapon": ["sword", "axe", "dagger", "spear", "bow", "mace", "war hammer"],
    "armour": ["shield", "helmet", "plate armour", "robe", "cloak", "boots", "gloves"],
    "potion": ["potion", "flask", "bottle"],
    "scroll or book": ["scroll", "book", "tome"],
    "jewellery": ["ring", "amulet", "necklace"],
    "wand or staff": ["wand", "staff"],
    "food": ["food", "apple", "meat", "bread"],
    "wall": ["stone wall", "brick wall", "wall", "crystal wall"],
    "floor": ["floor", "stone floor", "grass floor"],
    "tree": ["tree"],
    "door or portal": ["door", "portal"],
    "statue or altar": ["statue", "altar"],
    "effect": ["cloud of smoke", "spell effect", "magic cloud"],
}
COLOURED_THINGS = ["dragon", "sword", "potion", "shield", "wall", "tree", "book", "robe", "floor", "slime"]
ASKED_COLOURS = ["red", "orange", "yellow", "green", "teal", "blue", "purple", "pink", "brown", "white"]
KIND_PROMPTS = 200
# Words for things that captions have now and then, and the class that each asks for.
SYNONYMS = {
    "monster": ["wyrm", "serpent", "gremlin", "arachnid", "sorcerer", "devil"],
    "weapon": ["blade", "hatchet", "knife", "mallet", "longsword", "dirk"],
    "armour": ["gown", "buckler", "helm", "cape", "gauntlets", "breastplate"],
    "potion": ["elixir", "vial"],
    "scroll or book": ["grimoire", "spellbook", "parchment"],
    "jewellery": ["pendant", "talisman"],
    "food": ["steak", "loaf"],
    "tree": ["oak"],
    "door or portal": ["gate", "gateway"],
    "statue or altar": ["shrine", "sculpture"],
}
# Words that no caption has.
UNKNOWN = ["zorblax", "quixotic", "frumious", "borogove", "xyzzy", "slithy", "brillig", "mimsy"]


def kind_prompts() -> list[tuple[str, str]]:
    """200 prompts and the class each asks for: every class in turn, half of them with a colour."""
    found = []
    for i in range(KIND_PROMPTS):
        kind = list(CLASSES)[i % len(CLASSES)]
        turn = i // len(CLASSES)
        thing = THINGS[kind][turn % len(THINGS[kind])]
        found.append((f"{COLOURS[(turn + i) % len(COLOURS)]} {thing}" if turn % 2 else thing, kind))
    return found


def nearest(these: Tensor, those: Tensor, skip_same: bool = False) -> Tensor:
    """Root mean square distance of each to the nearest of those, either way round; premultiplied, 0 to 1."""
    flat = those.flatten(1)
    found = []
    for start in range(0, len(these), 256):
        part = these[start : start + 256].flatten(1)
        gap = torch.cdist(part, flat)
        if skip_same:
            gap[torch.arange(len(part)), start + torch.arange(len(part))] = torch.inf
        found.append(torch.minimum(gap.amin(1), torch.cdist(part, those.flip(-1).flatten(1)).amin(1) if not skip_same else gap.amin(1)))
    return torch.cat(found) / flat.shape[1] ** 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("models/sprite-xl"))
    parser.add_argument("--data", type=Path, default=TRAINING / "data", help="what prepare.py made")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--sheets", type=Path, help="folder for what was drawn")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--guidance-scale", type=float, default=GUIDANCE_SCALE)
    parser.add_argument("--classifier-steps", type=int, default=2500)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    device, began = torch.device(args.device), time.monotonic()
    pipe = StableDiffusionXLPipeline.from_pretrained(args.model, torch_dtype=torch.float32, local_files_only=True).to(device)
    how = {"steps": args.steps, "guidance_scale": args.guidance_scale}
    report: dict[str, object] = {"steps": args.steps, "guidance_scale": args.guidance_scale}

    # 1. kinds
    judge, accuracy, each = fit(args.data, device, args.classifier_steps)
    prompts = kind_prompts()
    drawn = draw_sprites(pipe, [prompt for prompt, _ in prompts], list(range(len(prompts))), **how)
    with torch.no_grad():
        named = judge(premultiplied(drawn).to(device)).argmax(1).tolist()
    right = [list(CLASSES)[name] == kind for name, (_, kind) in zip(named, prompts)]
    report["classifier, held out, mean over classes"] = round(accuracy, 3)
    report["classifier, held out"] = each
    report["kind as asked"] = f"{sum(right)} of {len(right)}"
    report["kind as asked, by kind"] = {
        kind: f"{sum(ok for ok, (_, k) in zip(right, prompts) if k == kind)} of {sum(k == kind for _, k in prompts)}" for kind in CLASSES
    }
    report["kind, wrong"] = [f"{prompt}: {list(CLASSES)[name]}" for ok, name, (prompt, _) in zip(right, named, prompts) if not ok]

    # 2. colours
    asked = [(colour, thing) for colour in ASKED_COLOURS for thing in COLOURED_THINGS]
    coloured = draw_sprites(pipe, [f"{colour} {thing}" for colour, thing in asked], list(range(1000, 1000 + len(asked))), **how)
    first = [COLOURS[i] for i in measure(coloured)[0].tolist()]
    report["colour as asked"] = f"{sum(f == colour for f, (colour, _) in zip(first, asked))} of {len(asked)}"
    report["colour, wrong"] = [f"{colour} {thing}: {f}" for f, (colour, thing) in zip(first, asked) if f != colour]

    # 3. grid
    shown = [prompt for prompt, _ in prompts[:32]]
    pictures = pipe(
        shown,
        num_inference_steps=args.steps,
        guidance_scale=args.guidance_scale,
        generator=[torch.Generator("cpu").manual_seed(seed) for seed in range(len(shown))],
        output_type="pt",
    ).images
    pixels = (pictures.float().cpu() * 255).round()
    n, _, height, width = pixels.shape
    cells = pixels.view(n, 3, height // 8, 8, width // 8, 8).permute(0, 2, 4, 1, 3, 5).flatten(4)
    spread = cells.amax(-1) - cells.amin(-1)
    report["cells of one colour exactly"] = f"{(spread.amax(-1) == 0).float().mean().item():.4%}"

    # 4. copies
    real = premultiplied(load_records(args.data)[0].to(device).float() / 255)
    own = nearest(real, real, skip_same=True)
    for name, level in [("nearest among real", torch.quantile(own, 0.01).item()), ("all pairs of real", pairs_quantile(real, 0.01))]:
        close = nearest(premultiplied(drawn).to(device), real)
        report[f"copies, by 1st percentile of {name} ({level:.4f})"] = f"{(close < level).float().mean().item():.1%}"
    report["distance to nearest real sprite, quantiles 1, 10, 50, 90 %"] = [
        round(torch.quantile(close, q).item(), 4) for q in (0.01, 0.1, 0.5, 0.9)
    ]
    report["the same among real sprites"] = [round(torch.quantile(own, q).item(), 4) for q in (0.01, 0.1, 0.5, 0.9)]

    # 5. seeds
    several = ["dragon", "sword", "red potion", "blue shield", "stone wall", "tree", "goblin", "book", "knight", "ring", "green robe", "ghost"]
    by_seed = draw_sprites(pipe, [prompt for prompt in several for _ in range(8)], [2000 + i for _ in several for i in range(8)], **how)
    gaps = [torch.pdist(premultiplied(group).flatten(1)) / 64 for group in by_seed.split(8)]
    report["seeds: mean distance of two sprites of a prompt"] = {prompt: round(gap.mean().item(), 3) for prompt, gap in zip(several, gaps)}
    report["seeds: pairs nearer than 0.05"] = f"{sum(int((gap < 0.05).sum()) for gap in gaps)} of {sum(len(gap) for gap in gaps)}"

    # 6. words
    taught = [(word, kind) for kind, words in SYNONYMS.items() for word in words]
    beside = [(f"{UNKNOWN[i % len(UNKNOWN)]} {THINGS[kind][0]}", kind) for i, kind in enumerate(list(CLASSES) * 2)]
    for name, cases in [("kind by a rarer word", taught), ("kind with an unknown word before it", beside)]:
        made = draw_sprites(pipe, [prompt for prompt, _ in cases], list(range(3000, 3000 + len(cases))), **how)
        with torch.no_grad():
            named = [list(CLASSES)[i] for i in judge(premultiplied(made).to(device)).argmax(1).tolist()]
        report[name] = f"{sum(name == kind for name, (_, kind) in zip(named, cases))} of {len(cases)}"
        report[f"{name}, wrong"] = [f"{prompt}: {name}" for name, (prompt, kind) in zip(named, cases) if name != kind]
    right_words, words, wrong_words = nearest_things(pipe)
    report["synonyms nearest to their own thing"] = f"{right_words} of {words}"
    report["synonyms nearest to another"] = wrong_words
    strange = ["", *UNKNOWN, *(" ".join(UNKNOWN[i:]) for i in range(3))]
    made = draw_sprites(pipe, strange, list(range(4000, 4000 + len(strange))), **how)
    seen = made[:, 3].mean((1, 2))
    report["of nothing and unknown words alone, drawn (3 to 100 % of the cells)"] = f"{int((seen > 0.03).sum())} of {len(strange)}"

    if args.sheets:
        args.sheets.mkdir(parents=True, exist_ok=True)
        for name, sprites, columns in [("kinds", drawn, 20), ("colours", coloured, 10), ("seeds", by_seed, 8)]:
            paste_sheet(sprites, columns, 2).save(args.sheets / f"{name}.png", optimize=True)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    report["seconds"] = round(time.monotonic() - began)
    print("| measured | |\n|---|---|")
    for name, value in report.items():
        print(f"| {name} | {value} |")


@torch.no_grad()
def nearest_things(pipe: StableDiffusionXLPipeline) -> tuple[int, int, list[str]]:
    """Of the synonyms that captions have now and then: how many lie nearest to their own thing, in the pooled text embedding."""

    def embed(words: list[str]) -> Tensor:
        ids = pipe.tokenizer_2(words, padding="max_length", return_tensors="pt").input_ids.to(pipe.device)
        return torch.nn.functional.normalize(pipe.text_encoder_2(ids).text_embeds.float(), dim=-1)

    groups = [group for group in WORD_GROUPS if len(group) > 1]
    heads = embed([group[0] for group in groups])
    cases = [(word, i) for i, group in enumerate(groups) for word in group[1:]]
    found = (embed([word for word, _ in cases]) @ heads.T).argmax(1).tolist()
    wrong = [f"{word}: {groups[near][0]}" for near, (word, own) in zip(found, cases) if near != own]
    return len(cases) - len(wrong), len(cases), wrong


def pairs_quantile(sprites: Tensor, share: float) -> float:
    """Of the distances of all pairs of a random thousand."""
    some = sprites[torch.randperm(len(sprites), generator=torch.Generator().manual_seed(0))[:1000]].flatten(1).cpu()
    return torch.quantile(torch.pdist(some)[::7], share).item() / some.shape[1] ** 0.5


if __name__ == "__main__":
    main()
