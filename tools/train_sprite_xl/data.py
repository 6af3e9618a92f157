"""Training batches, made on the device from the prepared sprites."""

import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from colour import COLOURS, measure, recolour
from model import TOKENS
from torch import Tensor
from torch.nn import functional
from transformers import CLIPTokenizer
from words import KINDS, Record, sentence

CAPTIONS = 12
# Latent sizes besides 32x32 that batches are made of, height and width.
SIZES = [(16, 16), (24, 24), (48, 48), (40, 40), (32, 48), (48, 32), (24, 32), (32, 24), (16, 32), (48, 48), (16, 16)]


@dataclass
class Sprites:
    """Every sprite as it is and in each colour that suits it, with captions. Index 0 of `looks` is as it is."""

    pixels: Tensor  # [looks, n, 4, 32, 32], u8
    valid: Tensor  # [looks, n]
    ids: Tensor  # [looks, n, captions, tokens], i16
    weight: Tensor  # [n], how often each is drawn
    flip: Tensor  # [n]
    full: Tensor  # [n], no pixel is transparent


def load_records(data: Path) -> tuple[Tensor, list[Record]]:
    """The prepared sprites as straight RGBA `[n, 4, 32, 32]`, u8, and what they are."""
    pixels = torch.from_numpy(np.load(data / "sprites.npz")["rgba"]).permute(0, 3, 1, 2).contiguous()
    return pixels, [Record(**record) for record in json.loads((data / "records.json").read_text())]


def load_sprites(data: Path, tokenizer: CLIPTokenizer, device: torch.device, limit: int | None = None) -> Sprites:
    pixels, records = load_records(data)
    pixels, records = pixels[:limit].to(device), records[:limit]
    looks, valid = [pixels], [torch.ones(len(pixels), dtype=torch.bool, device=device)]
    first, share = (torch.cat(part) for part in zip(*(measure(part.float() / 255) for part in pixels.split(512))))
    for colour in COLOURS:
        parts = [recolour(part.float() / 255, colour) for part in pixels.split(512)]
        looks.append(torch.cat([(part * 255).round().to(torch.uint8) for part, _ in parts]))
        valid.append(torch.cat([worked for _, worked in parts]))
    valid = torch.stack(valid)

    rng = random.Random(0)
    rows = valid.nonzero().tolist()
    named = [COLOURS[i] if sure > 0.4 else None for i, sure in zip(first.tolist(), share.tolist())]
    texts = []
    for look, i in rows:
        for _ in range(CAPTIONS):
            # A sprite in a colour that is not its own is always told its colour, or things would lose theirs.
            colour = COLOURS[look - 1] if look else named[i] if rng.random() < 0.6 else None
            texts.append(sentence(records[i], colour, rng))
    ids = torch.zeros(*valid.shape, CAPTIONS, TOKENS, dtype=torch.int16)
    found = [tokenize(tokenizer, texts[i : i + 20000]) for i in range(0, len(texts), 20000)]
    ids[tuple(torch.tensor(rows).T)] = torch.cat(found).view(len(rows), CAPTIONS, TOKENS)

    kinds = [record.kind for record in records]
    # Variants of one thing share its weight, but not wholly.
    same = {name: sum(record.things[0] == name for record in records) for name in {record.things[0] for record in records}}
    weight = torch.tensor([same[record.things[0]] ** -0.5 for record in records])
    for kind, (mass, _) in KINDS.items():
        members = torch.tensor([other == kind for other in kinds])
        weight[members] *= mass / weight[members].sum().clamp_min(1e-6)
    return Sprites(
        torch.stack(looks),
        valid,
        ids.to(device),
        weight.to(device),
        torch.tensor([record.flip for record in records], device=device),
        (pixels[:, 3] == 255).flatten(1).all(1),
    )


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Token ids `[texts, tokens]`, i16, as the tokenizer itself gives them, much faster for many texts."""
    backend = tokenizer.backend_tokenizer
    backend.enable_truncation(TOKENS)
    backend.enable_padding(length=TOKENS, pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token)
    return torch.from_numpy(np.array([encoding.ids for encoding in backend.encode_batch(texts)], dtype=np.int16))


def draw(sprites: Sprites, rows: int, size: tuple[int, int], recoloured: float = 0.5) -> tuple[Tensor, Tensor]:
    """A random batch: straight RGBA `[rows, 4, *size]`, 0 to 1, and token ids `[rows, tokens]`."""
    device = sprites.pixels.device
    which = torch.multinomial(sprites.weight, rows, replacement=True)
    chance = sprites.valid[1:, which].T.float()
    other = 1 + torch.multinomial(chance + 1e-9, 1).squeeze(1)
    use = (torch.rand(rows, device=device) < recoloured) & sprites.valid[other, which]
    look = torch.where(use, other, 0)
    ids = sprites.ids[look, which, torch.randint(CAPTIONS, (rows,), device=device)].long()
    rgba = sprites.pixels[look, which].float() / 255
    turned = sprites.flip[which] & (torch.rand(rows, device=device) < 0.5)
    rgba = torch.where(turned[:, None, None, None], rgba.flip(-1), rgba)
    light = 1 + 0.08 * (2 * torch.rand(rows, 1, 1, 1, device=device) - 1)
    rgba = torch.cat([(rgba[:, :3] * light).clamp(0, 1), rgba[:, 3:]], 1)
    full = sprites.full[which]
    if size == (32, 32):
        shift = torch.randint(-2, 3, (rows, 2), device=device) * ~full[:, None]
        return _place(rgba, (32, 32), shift), ids
    side = min(*size, 32)
    if side < 32:
        rgba = _shrink(rgba, side)
    room = torch.tensor([size[0] - side, size[1] - side], device=device)
    # In the middle, or anywhere near it; tiles fill all there is.
    shift = room // 2 + ((torch.rand(rows, 2, device=device) - 0.5) * room * 0.6).round().long()
    tiled = rgba.repeat(1, 1, -(-size[0] // side), -(-size[1] // side))[:, :, : size[0], : size[1]]
    return torch.where(full[:, None, None, None], tiled, _place(rgba, size, shift)), ids


def _place(rgba: Tensor, size: tuple[int, int], shift: Tensor) -> Tensor:
    """Each sprite on an empty canvas, `shift [rows, 2]` down and right of its corner; what lies outside is lost."""
    side = rgba.shape[-1]
    ys, xs = (torch.arange(size[i], device=rgba.device) - shift[:, i : i + 1] for i in (0, 1))
    inside = ((ys >= 0) & (ys < side))[:, :, None] & ((xs >= 0) & (xs < side))[:, None, :]
    row = torch.arange(len(rgba), device=rgba.device)[:, None, None]
    picked = rgba.permute(0, 2, 3, 1)[row, ys.clamp(0, side - 1)[:, :, None], xs.clamp(0, side - 1)[:, None, :]]
    return (picked * inside[..., None]).permute(0, 3, 1, 2)


def _shrink(rgba: Tensor, side: int) -> Tensor:
    """Means of what each new pixel covers, alpha 0 or 1."""
    mean = functional.adaptive_avg_pool2d(torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], 1), side)
    seen = (mean[:, 3:] > 0.45).float()
    return torch.cat([(mean[:, :3] / mean[:, 3:].clamp_min(1e-3)).clamp(0, 1) * seen, seen], 1)
