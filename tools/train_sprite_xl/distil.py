"""Distils guidance into a trained UNet, so that each step takes one pass instead of two.

The student starts as the averaged weights and learns to answer with what they answer with guidance (Meng et al. 2023, first
stage, for one guidance scale). The text encoders stay as they are.
"""

import math
import time
from collections.abc import Iterator
from copy import deepcopy

import torch
from graphs import Graphs
from loss import Loss, clip
from model import Parts, time_ids
from torch import Tensor

EMA_DECAY = 0.998


def distil(
    loss: Loss, teacher: Parts, source: Iterator[tuple[int, Tensor, Tensor]], seconds: float, rate: float, guidance_scale: float
) -> tuple[Parts, list[dict[str, float]]]:
    """Trains the UNet of `loss` from the teacher's weights, and gives the averaged result and the curve."""
    student = loss.parts.unet
    began = told_at = time.monotonic()
    student.load_state_dict(teacher.unet.state_dict())
    average = deepcopy(teacher.unet)
    weights = list(student.parameters())
    optimizer = torch.optim.AdamW(weights, lr=rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True)

    def answered(rgba: Tensor, ids: Tensor) -> Tensor:
        noisy, _, timesteps = loss.noised(rgba)
        rows, size = rgba.shape[:2]
        with loss.amp:
            with torch.no_grad():
                text, pooled = teacher.encode(ids.long())
                added = {"text_embeds": torch.cat([torch.zeros_like(pooled), pooled]), "time_ids": time_ids(size, size, 2 * rows, rgba.device)}
                both = torch.cat([torch.zeros_like(text), text])
                answer = teacher.unet(torch.cat([noisy, noisy]), torch.cat([timesteps, timesteps]), both, added_cond_kwargs=added, return_dict=False)[0]
                plain, asked = answer.float().chunk(2)
                wanted = plain + guidance_scale * (asked - plain)
            # A text with a gradient, as in the training: the compiled UNet is for that.
            kept = torch.ones(rows, 1, device=rgba.device, requires_grad=True)
            velocity = loss.velocity(noisy, timesteps, text, pooled, kept)
        error = (velocity.float() - wanted).square().mean()
        error.backward()
        return error.detach()

    step_of = Graphs(answered, weights)
    losses, step, curve = [], 0, []
    while (now := time.monotonic()) < began + seconds:
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * min(1.0, (now - began) / seconds)))
        _, rgba, ids = next(source)
        losses.append(step_of(rgba, ids))
        clip(optimizer, weights)
        optimizer.step()
        with torch.no_grad():
            decay = min(EMA_DECAY, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(average.parameters()), weights, 1 - decay)
        step += 1
        if now - told_at > 10:
            row = {"step": step, "loss": round(torch.stack(losses).mean().item(), 5), "steps_per_second": round(len(losses) / (now - told_at), 2)}
            curve.append(row)
            print(f"distil: {now - began:4.0f} s", row, flush=True)
            losses, told_at = [], now
    return Parts(average.eval(), teacher.text_encoder, teacher.text_encoder_2), curve
