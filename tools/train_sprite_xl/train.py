"""Trains sprite-xl in a given time. See README.md.

    python tools/train_sprite_xl/train.py --work /tmp/sprite_xl --output OUT --minutes 24

Progress is a share of the whole training, from 0 to 1, and the learning rate follows it. A run goes from where the
checkpoint in `--work` ended to `--until`, and spreads that over its `--minutes`, whatever the machine's speed. At the end
guidance is distilled into a copy, which is the model that is shipped.
"""

import argparse
import json
import math
import time
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from compiling import Compiling
from data import Batches, load_sprites
from diffusers import logging as diffusers_logging
from distil import distil
from graphs import Graphs
from loss import Loss, clip
from model import Parts, make_parts, make_pipeline, save_tokenizer
from sheet import GUIDANCE_SCALE, SHEET_PROMPTS, save_sheet, sprite_pipeline
from state import State, learning_rate, update_ema
from teacher import Teacher
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import CLIPTokenizer

TEXT_ROWS, TEXT_WEIGHT = 256, 0.05
RESERVED_SECONDS = 20.0
# Rows of a batch by size: about as much work each.
ROWS = {16: 2.0, 24: 1.75, 32: 1.0, 48: 0.44, 64: 0.25}
# How often each size and style is drawn, until a progress. Plain prompts are to mean pixel art, so the end is mostly that.
PHASES = {
    0.5: ({16: 0.10, 24: 0.16, 32: 0.49, 48: 0.14, 64: 0.11}, {"pixel": 0.56, "emoji": 0.33, "1-bit": 0.06, "shaded icon": 0.05}),
    1.0: ({16: 0.09, 24: 0.15, 32: 0.47, 48: 0.16, 64: 0.13}, {"pixel": 0.71, "emoji": 0.20, "1-bit": 0.05, "shaded icon": 0.04}),
}


def batches(sprites: Batches, workers: int) -> DataLoader:
    return DataLoader(sprites, batch_size=None, num_workers=workers, prefetch_factor=6 if workers else None, pin_memory=torch.cuda.is_available())


def learn_words(parts: Parts, teacher: Teacher, seconds: float, rate: float) -> None:
    """The text encoders alone, before there is a picture."""
    began, step = time.monotonic(), 0
    weights = [*parts.text_encoder.parameters(), *parts.text_encoder_2.parameters(), *teacher.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    amp = torch.autocast("cuda", torch.bfloat16) if teacher.ids.is_cuda else nullcontext()
    while (spent := time.monotonic() - began) < seconds:
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 100) * (1 - 0.7 * spent / seconds)
        with amp:
            loss = teacher.loss(parts, 2048)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        step += 1
        if step % 200 == 1:
            print(f"words: {spent:.0f} s, step {step}, loss {loss.item():.4f}", flush=True)


def train(args: argparse.Namespace) -> None:
    began = time.monotonic()
    deadline = began + 60 * args.minutes - args.reserve
    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    device = torch.device(args.device)
    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    rows = {size: max(1, int(args.batch * share)) for size, share in ROWS.items()}
    compiling = Compiling(args.data, rows, args.dropout) if args.compile else None
    args.work.mkdir(parents=True, exist_ok=True)
    args.output.mkdir(parents=True, exist_ok=True)

    # 1. model, optimiser, checkpoint
    tokenizer = save_tokenizer(args.data, args.work / "tokenizer")
    parts = make_parts(len(tokenizer), args.dropout)
    for module in parts.modules().values():
        module.to(device, memory_format=torch.channels_last).train()
    teacher = Teacher(args.data, tokenizer, parts, device)
    checkpoint = args.work / "checkpoint.pt"
    if args.start:
        for name, module in parts.modules().items():
            module.load_state_dict(type(module).from_pretrained(args.start / name, torch_dtype=torch.float32).state_dict())
    elif not checkpoint.exists():
        learn_words(parts, teacher, args.word_seconds, 1e-3)
    ema = deepcopy(parts)
    for module in ema.modules().values():
        module.eval().requires_grad_(False)
    weights = [weight for module in [*parts.modules().values(), teacher] for weight in module.parameters()]
    groups = [
        {"params": [weight for weight in weights if weight.dim() > 1], "weight_decay": 0.02},
        {"params": [weight for weight in weights if weight.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=args.learning_rate, betas=(0.9, 0.99), fused=True)
    state = State(parts, ema, optimizer)
    if checkpoint.exists():
        state.load(checkpoint, device)
        torch.manual_seed(args.seed + state.step)
    counts = {name: f"{sum(weight.numel() for weight in module.parameters()) / 1e6:.2f} M" for name, module in parts.modules().items()}
    print(f"{counts}, from step {state.step}, progress {state.progress:.2f} to {args.until}", flush=True)

    # 2. data
    sprites = load_sprites(args.data, device, args.licences, args.limit)
    empty = torch.from_numpy(_empty(tokenizer)).to(device).long()
    print(f"data ready after {time.monotonic() - began:.0f} s: {len(sprites.records)} sprites", flush=True)

    # 3. the loop
    loss_of = Loss(parts, empty)

    def both(rgba: Tensor, ids: Tensor) -> Tensor:
        with loss_of.amp:
            loss, words = loss_of(rgba, ids), teacher.loss(parts, TEXT_ROWS)
        (loss + TEXT_WEIGHT * words).backward()
        return torch.stack([loss.detach(), words.detach()])

    step = Graphs(both, weights)
    from_progress, loop_began = state.progress, time.monotonic()
    sheet_at = told_at = saved_at = loop_began
    losses: list[Tensor] = []
    phase, source = None, iter(())
    while (now := time.monotonic()) < deadline:
        due = next(shares for until, shares in PHASES.items() if state.progress <= until)
        if due is not phase:
            phase = due
            source = iter(batches(Batches(sprites, tokenizer, rows, *phase, args.seed + state.step), args.workers))
        _, rgba, ids = next(source)
        rate = learning_rate(args.learning_rate, state.step, state.progress)
        for group in optimizer.param_groups:
            group["lr"] = rate
        if compiling and compiling.ready():
            print(f"{now - began:6.0f} s: the UNet is {'compiled' if compiling.worked() else 'not compiled, as compiling failed'}", flush=True)
            if compiling.worked():
                loss_of.compile()
                step.forget()
            compiling = None
        losses.append(step(rgba, ids))
        clip(optimizer, weights)
        optimizer.step()
        update_ema(state)
        state.step += 1
        state.progress = from_progress + (args.until - from_progress) * (now - loop_began) / max(1e-3, deadline - loop_began)
        if state.step % 20 == 0 and now - told_at > args.tell_seconds:
            mean, mean_words = torch.stack(losses).mean(0).tolist()
            speed = len(losses) / (time.monotonic() - told_at)
            row = {"step": state.step, "progress": round(state.progress, 4), "loss": round(mean, 5), "words": round(mean_words, 4), "rate": rate, "steps_per_second": round(speed, 2)}
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
    if compiling:
        compiling.stop()
    step.forget()
    state.progress = args.until
    state.save(checkpoint)
    (args.output / "curve.json").write_text(json.dumps(state.curve))
    make_pipeline(make_plain(state.ema, len(tokenizer)), args.data, args.work / "teacher")
    save_sheet(sprite_pipeline(state.ema, tokenizer), SHEET_PROMPTS, args.output / "sheet.png", seed=1)
    if args.distil_minutes:
        made, curve = distil(
            loss_of, ema, source, 60 * args.distil_minutes, args.learning_rate / 3, GUIDANCE_SCALE
        )
        (args.output / "distil-curve.json").write_text(json.dumps(curve))
        make_pipeline(make_plain(made, len(tokenizer)), args.data, args.work / "sprite-xl")
        save_sheet(sprite_pipeline(made, tokenizer), SHEET_PROMPTS, args.output / "sheet-distilled.png", seed=1, steps=8, guidance_scale=1.0)
    print(f"step {state.step}; done after {time.monotonic() - began:.0f} s", flush=True)


def _empty(tokenizer: CLIPTokenizer) -> np.ndarray:
    return tokenizer("", padding="max_length", max_length=tokenizer.model_max_length, return_tensors="np").input_ids


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
    parser.add_argument("--minutes", type=float, required=True, help="wall time of this run, without the distillation")
    parser.add_argument("--distil-minutes", type=float, default=0.0, help="wall time of the distillation that follows")
    parser.add_argument("--start", type=Path, help="an SDXL folder whose weights to begin with, as --work/teacher of a machine that is gone")
    parser.add_argument("--until", type=float, default=1.0, help="progress at which this run ends")
    parser.add_argument("--licences", choices=["all", "cc0"], default="all", help="cc0: only what is CC0 or in the public domain")
    parser.add_argument("--batch", type=int, default=256, help="rows at 32x32; other sizes have about as much work")
    parser.add_argument("--learning-rate", type=float, default=6e-4)
    parser.add_argument("--word-seconds", type=float, default=50.0, help="time for the text encoders alone")
    parser.add_argument("--dropout", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=10)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=torch.cuda.is_available())
    parser.add_argument("--limit", type=int, help="use only about so many sprites, to try things out")
    parser.add_argument("--reserve", type=float, default=RESERVED_SECONDS, help="seconds kept for saving at the end")
    parser.add_argument("--sheet-seconds", type=float, default=240.0)
    parser.add_argument("--tell-seconds", type=float, default=10.0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
