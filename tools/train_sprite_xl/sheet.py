"""Sheets of sprites, to be looked at.

    python tools/train_sprite_xl/sheet.py --model models/sprite-xl --output sheet.png [--seed 1] [--guidance-scale 3.5] [--steps 12]
"""

import argparse
from pathlib import Path

import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionXLPipeline
from model import SCHEDULE, Parts, from_latents, sprite_vae
from PIL import Image
from torch import Tensor
from transformers import CLIPTokenizer

STEPS, GUIDANCE_SCALE = 12, 3.5
SHEET_PROMPTS = """
a red dragon, a green dragon, a blue knight, a goblin with a torch, a wizard, a skeleton, a purple slime, a ghost,
a golden sword, a silver sword, a red axe, a bow, a spear, a wooden staff, a hammer, a dagger,
a red potion, a blue potion, a green potion, a scroll, a purple book, a gold ring, an amulet, a green wand,
a blue shield, a red helmet, leather boots, plate armour, a black cloak, a green robe, gloves, a wizard hat,
a brick wall, a blue crystal wall, a stone floor, a grass floor, a red tree, a green tree, a door, a purple portal,
a fire effect, a green cloud, a statue, a fountain, an apple, meat, a treasure chest, a key
""".replace("\n", " ").strip().split(", ")


def sprite_pipeline(parts: Parts, tokenizer: CLIPTokenizer) -> StableDiffusionXLPipeline:
    pipe = StableDiffusionXLPipeline(
        vae=sprite_vae(), **parts.modules(), tokenizer=tokenizer, tokenizer_2=tokenizer, scheduler=DPMSolverMultistepScheduler(**SCHEDULE)
    )
    pipe.vae.to(parts.unet.device)
    return pipe


def draw_sprites(
    pipe: StableDiffusionXLPipeline,
    prompts: list[str],
    seeds: list[int],
    steps: int = STEPS,
    guidance_scale: float = GUIDANCE_SCALE,
    size: tuple[int, int] = (32, 32),
    rows: int = 128,
) -> Tensor:
    """One sprite a prompt, RGBA `[n, 4, *size]`, 0 to 1, alpha 0 or 1. Each has noise of its own seed, as alone."""
    pipe.set_progress_bar_config(disable=True)
    found = []
    for i in range(0, len(prompts), rows):
        latents = pipe(
            prompts[i : i + rows],
            height=8 * size[0],
            width=8 * size[1],
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds[i : i + rows]],
            output_type="latent",
        ).images
        found.append(from_latents(latents).cpu())
    return torch.cat(found)


def paste_sheet(sprites: Tensor, columns: int, scale: int) -> Image.Image:
    """Sprites over two greys, enlarged."""
    n, _, height, width = sprites.shape
    checks = (torch.arange(height)[:, None] // 8 + torch.arange(width) // 8) % 2
    ground = 0.38 + 0.06 * checks
    shown = sprites[:, :3] * sprites[:, 3:] + ground * (1 - sprites[:, 3:])
    rows = -(-n // columns)
    sheet = torch.full((3, rows * (height + 2), columns * (width + 2)), 0.2)
    for i, sprite in enumerate(shown):
        y, x = i // columns * (height + 2) + 1, i % columns * (width + 2) + 1
        sheet[:, y : y + height, x : x + width] = sprite
    picture = Image.fromarray((sheet * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def save_sheet(pipe: StableDiffusionXLPipeline, prompts: list[str], path: Path, seed: int, columns: int = 8, **options: float) -> None:
    sprites = draw_sprites(pipe, prompts, [seed] * len(prompts), **options)
    paste_sheet(sprites, columns, 2).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--guidance-scale", type=float, default=GUIDANCE_SCALE)
    parser.add_argument("--prompts", type=Path, help="a file of prompts, one a line")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    prompts = args.prompts.read_text().splitlines() if args.prompts else SHEET_PROMPTS
    pipe = StableDiffusionXLPipeline.from_pretrained(args.model, torch_dtype=torch.float32, local_files_only=True).to(args.device)
    save_sheet(pipe, prompts, args.output, args.seed, steps=args.steps, guidance_scale=args.guidance_scale)


if __name__ == "__main__":
    main()
