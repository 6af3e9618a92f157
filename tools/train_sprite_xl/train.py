"""Trains sprite-xl in a given time. See README.md.

    python tools/train_sprite_xl/train.py --work /tmp/sprite_xl --output OUT --minutes 20

Progress is a share of the whole training, from 0 to 1, and the learning rate follows it. A run goes from where the
checkpoint in `--work` ended to `--until`, and spreads that over its `--minutes`, whatever the machine's speed.
"""

import argparse
import json
import math
import time
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path

import torch
from data import SIZES, Sprites, draw, load_sprites
from diffusers import DPMSolverMultistepScheduler
from diffusers import logging as diffusers_logging
from model import SCHEDULE, Parts, make_parts, make_pipeline, save_tokenizer, time_ids, to_latents
from sheet import SHEET_PROMPTS, save_sheet, sprite_pipeline
from state import State, learning_rate, update_ema
from torch import Tensor, nn

# Rows whose text is left out altogether, as zeros; rows whose text is empty.
NO_TEXT, EMPTY_TEXT = 0.08, 0.03
# Every so many steps one batch has another size than 32x32, uncompiled, and a quarter of the rows.
OTHER_SIZE_EVERY = 10
SNR_GAMMA, LEAST_WEIGHT = 5.0, 0.3
RESERVED_SECONDS = 25.0


class Loss:
    """The velocity's error of a random batch, weighted by min-SNR with a floor: far noise decides colour and outline."""

    def __init__(self, state: State, sprites: Sprites, empty: Tensor, compile_unet: bool):
        self.parts, self.sprites, self.empty = state.parts, sprites, empty
        device = sprites.pixels.device
        self.alphas = DPMSolverMultistepScheduler(**SCHEDULE).alphas_cumprod.to(device)
        snr = self.alphas / (1 - self.alphas)
        self.weights = (snr.clamp_max(SNR_GAMMA) / (snr + 1)).clamp_min(LEAST_WEIGHT)
        self.time_ids = {size: time_ids(*size, 1, device) for size in {(32, 32), *SIZES}}
        self.compiled = torch.compile(state.parts.unet, dynamic=False) if compile_unet else state.parts.unet
        self.amp = torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()

    def __call__(self, rows: int, size: tuple[int, int]) -> Tensor:
        rgba, ids = draw(self.sprites, rows, size)
        device = rgba.device
        chance = torch.rand(rows, device=device)
        ids = torch.where((chance > 1 - EMPTY_TEXT)[:, None], self.empty, ids)
        clean = to_latents(rgba).contiguous(memory_format=torch.channels_last)
        noise = torch.randn_like(clean)
        spread = (torch.arange(rows, device=device) + torch.rand(rows, device=device)) / rows
        timesteps = (spread * len(self.alphas)).long()
        signal = self.alphas[timesteps].view(-1, 1, 1, 1)
        noisy = signal.sqrt() * clean + (1 - signal).sqrt() * noise
        wanted = signal.sqrt() * noise - (1 - signal).sqrt() * clean
        with self.amp:
            text, pooled = self.parts.encode(ids)
            kept = (chance > NO_TEXT).to(text.dtype)[:, None]
            added = {"text_embeds": pooled * kept, "time_ids": self.time_ids[size].expand(rows, -1)}
            unet = self.compiled if size == (32, 32) else self.parts.unet
            velocity = unet(noisy, timesteps, text * kept[:, None], added_cond_kwargs=added, return_dict=False)[0]
        error = (velocity.float() - wanted).square().mean((1, 2, 3))
        return (error * self.weights[timesteps]).mean()


def train(args: argparse.Namespace) -> None:
    began = time.monotonic()
    deadline = began + 60 * args.minutes - args.reserve
    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    device = torch.device(args.device)
    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    args.work.mkdir(parents=True, exist_ok=True)
    args.output.mkdir(parents=True, exist_ok=True)

    # 1. model, optimiser, checkpoint
    tokenizer = save_tokenizer(args.data, args.work / "tokenizer")
    parts = make_parts(len(tokenizer), dropout=args.dropout)
    for module in parts.modules().values():
        module.to(device, memory_format=torch.channels_last).train()
    ema = deepcopy(parts)
    for module in ema.modules().values():
        module.eval().requires_grad_(False)
    weights = [weight for module in parts.modules().values() for weight in module.parameters()]
    groups = [
        {"params": [weight for weight in weights if weight.dim() > 1], "weight_decay": 0.02},
        {"params": [weight for weight in weights if weight.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=args.learning_rate, betas=(0.9, 0.99), fused=device.type == "cuda")
    state = State(parts, ema, optimizer)
    checkpoint = args.work / "checkpoint.pt"
    if checkpoint.exists():
        state.load(checkpoint, device)
        torch.manual_seed(args.seed + state.step)
    counts = {name: f"{sum(weight.numel() for weight in module.parameters()) / 1e6:.2f} M" for name, module in parts.modules().items()}
    print(f"{counts}, from step {state.step}, progress {state.progress:.2f} to {args.until}", flush=True)

    # 2. data
    sprites = load_sprites(args.data, tokenizer, device, args.limit)
    empty = tokenizer("", padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt").input_ids.to(device)
    print(f"data ready after {time.monotonic() - began:.0f} s: {int(sprites.valid.sum())} sprites with their colours", flush=True)

    # 3. the loop
    loss_of = Loss(state, sprites, empty, args.compile)
    from_progress, loop_began = state.progress, time.monotonic()
    sheet_at = told_at = saved_at = loop_began
    losses: list[Tensor] = []
    while (now := time.monotonic()) < deadline:
        size = SIZES[state.step // OTHER_SIZE_EVERY % len(SIZES)] if state.step % OTHER_SIZE_EVERY == 9 else (32, 32)
        rate = learning_rate(args.learning_rate, state.step, state.progress)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = loss_of(args.batch if size == (32, 32) else args.batch // 4, size)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        update_ema(state)
        losses.append(loss.detach())
        state.step += 1
        state.progress = from_progress + (args.until - from_progress) * (now - loop_began) / max(1e-3, deadline - loop_began)
        if state.step % 20 == 0 and now - told_at > args.tell_seconds:
            mean = torch.stack(losses).mean().item()
            speed = len(losses) / (time.monotonic() - told_at)
            row = {"step": state.step, "progress": round(state.progress, 4), "loss": round(mean, 5), "rate": rate, "steps_per_second": round(speed, 2)}
            state.curve.append(row)
            print(f"{now - began:6.0f} s", row, flush=True)
            if not math.isfinite(mean):
                raise SystemExit("the loss is not finite; the last checkpoint is kept")
            losses, told_at = [], time.monotonic()
        if now - sheet_at > args.sheet_seconds:
            save_sheet(sprite_pipeline(state.ema, tokenizer), SHEET_PROMPTS, args.output / "sheet.png", seed=1)
            (args.output / "curve.json").write_text(json.dumps(state.curve))
            sheet_at = told_at = time.monotonic()
        if now - saved_at > 120:
            state.save(checkpoint)
            saved_at = time.monotonic()

    # 4. what stays
    state.progress = args.until
    state.save(checkpoint)
    (args.output / "curve.json").write_text(json.dumps(state.curve))
    make_pipeline(make_plain(state.ema, len(tokenizer)), args.data, args.work / "sprite-xl")
    save_sheet(sprite_pipeline(state.ema, tokenizer), SHEET_PROMPTS, args.output / "sheet.png", seed=1)
    save_sheet(sprite_pipeline(state.ema, tokenizer), SHEET_PROMPTS, args.output / "sheet-no-guidance.png", seed=1, guidance_scale=1.0)
    print(f"step {state.step}; done after {time.monotonic() - began:.0f} s", flush=True)


def make_plain(parts: Parts, vocab_size: int) -> Parts:
    """A copy on the CPU without dropout, to be saved."""
    plain = make_parts(vocab_size)
    for name, module in plain.modules().items():
        module.load_state_dict(parts.modules()[name].state_dict())
        module.eval()
    return plain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parent / "data", help="what prepare.py made")
    parser.add_argument("--work", type=Path, default=Path("/tmp/sprite_xl"), help="checkpoint and the model's folder")
    parser.add_argument("--output", type=Path, default=Path("/tmp/sprite_xl/out"), help="curve and sheets")
    parser.add_argument("--minutes", type=float, required=True, help="wall time of this run, all included")
    parser.add_argument("--until", type=float, default=1.0, help="progress at which this run ends")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=torch.cuda.is_available())
    parser.add_argument("--limit", type=int, help="use only so many sprites, to try things out")
    parser.add_argument("--reserve", type=float, default=RESERVED_SECONDS, help="seconds kept for saving at the end")
    parser.add_argument("--sheet-seconds", type=float, default=150.0)
    parser.add_argument("--tell-seconds", type=float, default=10.0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
