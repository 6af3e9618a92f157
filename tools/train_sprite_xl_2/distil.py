"""Distils guidance into a trained UNet, so that each step takes one pass instead of two.

The student starts as the averaged weights and learns to answer with what they answer with guidance (Meng et al. 2023, first
stage, for one guidance scale). The text encoders stay as they are.
"""

import math
import time
from collections.abc import Iterator
from copy import deepcopy

import torch
from model import Parts, time_ids
from torch import Tensor, nn

EMA_DECAY = 0.998


def distil(
    loss, teacher: Parts, source: Iterator[tuple[int, Tensor, Tensor]], seconds: float, rate: float, guidance_scale: float
) -> tuple[Parts, list[dict[str, float]]]:
    """Trains the UNet of `loss` (a `train.Loss`) from the teacher's weights, and gives the averaged result and the curve."""
    student, amp = loss.parts.unet, loss.amp
    began = told_at = time.monotonic()
    student.load_state_dict(teacher.unet.state_dict())
    average = deepcopy(teacher.unet)
    optimizer = torch.optim.AdamW(student.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=0.0)
    device = next(student.parameters()).device
    losses, step, curve = [], 0, []
    while (now := time.monotonic()) < began + seconds:
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * min(1.0, (now - began) / seconds)))
        _, rgba, ids = next(source)
        noisy, _, timesteps = loss.noised(rgba.to(device, non_blocking=True))
        ids, (rows, size) = ids.to(device, non_blocking=True).long(), rgba.shape[:2]
        sizes = time_ids(size, size, rows, device)
        with amp:
            with torch.no_grad():
                text, pooled = teacher.encode(ids)
                added = {"text_embeds": torch.cat([torch.zeros_like(pooled), pooled]), "time_ids": torch.cat([sizes, sizes])}
                both = torch.cat([torch.zeros_like(text), text])
                answer = teacher.unet(torch.cat([noisy, noisy]), torch.cat([timesteps, timesteps]), both, added_cond_kwargs=added, return_dict=False)[0]
                plain, asked = answer.float().chunk(2)
                wanted = plain + guidance_scale * (asked - plain)
            velocity = loss.unet(size)(noisy, timesteps, text, added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes}, return_dict=False)[0]
        error = (velocity.float() - wanted).square().mean()
        error.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            decay = min(EMA_DECAY, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(average.parameters()), list(student.parameters()), 1 - decay)
        losses.append(error.detach())
        step += 1
        if now - told_at > 10:
            row = {"step": step, "loss": round(torch.stack(losses).mean().item(), 5), "steps_per_second": round(len(losses) / (now - told_at), 2)}
            curve.append(row)
            print(f"distil: {now - began:4.0f} s", row, flush=True)
            losses, told_at = [], now
    return Parts(average.eval(), teacher.text_encoder, teacher.text_encoder_2), curve
