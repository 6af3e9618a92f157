"""What a batch costs: the velocity's error, weighted by how noisy a row is."""

from contextlib import AbstractContextManager, nullcontext

import torch
from data import as_tensor
from diffusers import DPMSolverMultistepScheduler
from model import SCHEDULE, Parts, time_ids, to_latents
from torch import Tensor, nn

# Rows whose text is left out altogether, as zeros; rows whose text is empty.
NO_TEXT, EMPTY_TEXT = 0.08, 0.02
SNR_GAMMA, LEAST_WEIGHT = 5.0, 0.25


class Loss:
    """The velocity's error of a batch, weighted by min-SNR with a floor: far noise decides color and outline.

    `unet` is what predicts: the UNet of `parts`, or the same compiled.
    """

    def __init__(self, parts: Parts, empty: Tensor):
        self.parts, self.empty, self.unet = parts, empty, parts.unet
        self.device = empty.device
        self.alphas = DPMSolverMultistepScheduler(**SCHEDULE).alphas_cumprod.to(self.device)
        snr = self.alphas / (1 - self.alphas)
        self.weights = (snr.clamp_max(SNR_GAMMA) / (snr + 1)).clamp_min(LEAST_WEIGHT)

    def compile(self) -> None:
        """Compiles the UNet at its next use, for each shape on its own. What `compiling.py` prepared loads in seconds."""
        self.unet = torch.compile(self.parts.unet, dynamic=False)

    @property
    def amp(self) -> AbstractContextManager:
        return torch.autocast("cuda", torch.bfloat16) if self.device.type == "cuda" else nullcontext()

    def noised(self, rgba: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Noisy latents, the velocity that was added, and the timesteps, which cover all evenly."""
        clean = to_latents(as_tensor(rgba)).contiguous(memory_format=torch.channels_last)
        rows = len(clean)
        noise = torch.randn_like(clean)
        spread = (torch.arange(rows, device=self.device) + torch.rand(rows, device=self.device)) / rows
        timesteps = (spread * len(self.alphas)).long()
        signal = self.alphas[timesteps].view(-1, 1, 1, 1)
        return signal.sqrt() * clean + (1 - signal).sqrt() * noise, signal.sqrt() * noise - (1 - signal).sqrt() * clean, timesteps

    def velocity(self, noisy: Tensor, timesteps: Tensor, text: Tensor, pooled: Tensor, kept: Tensor) -> Tensor:
        """What the UNet says, inside `amp`. `kept`, of 0 or 1, is the share of the text that each row keeps, `[rows, 1]`."""
        rows, _, height, width = noisy.shape
        added = {"text_embeds": pooled * kept, "time_ids": time_ids(height, width, rows, self.device)}
        return self.unet(noisy, timesteps, text * kept[:, None], added_cond_kwargs=added, return_dict=False)[0]

    def __call__(self, rgba: Tensor, ids: Tensor) -> Tensor:
        """The loss of a batch: straight RGBA `[rows, height, width, 4]` u8, token ids `[rows, tokens]`. Call it inside `amp`."""
        noisy, wanted, timesteps = self.noised(rgba)
        chance = torch.rand(len(rgba), device=self.device)
        ids = torch.where((chance > 1 - EMPTY_TEXT)[:, None], self.empty, ids.long())
        text, pooled = self.parts.encode(ids)
        kept = (chance > NO_TEXT).float()[:, None]
        velocity = self.velocity(noisy, timesteps, text, pooled, kept)
        error = (velocity.float() - wanted).square().mean((1, 2, 3))
        return (error * self.weights[timesteps]).mean()


def clip(optimizer: torch.optim.Optimizer, weights: list[nn.Parameter]) -> None:
    """Clips the gradient's norm to 1, and has a fused optimizer skip this step where the norm is not finite.

    One such step in 8,000 came from half precision, and made every weight NaN.
    """
    norm = nn.utils.clip_grad_norm_(weights, 1.0)
    optimizer.found_inf = (~norm.isfinite()).float()
