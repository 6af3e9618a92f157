"""The state of a training: its checkpoint, learning rate and averaged weights."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from model import Parts

EMA_DECAY = 0.9993
WARMUP_STEPS = 300


@dataclass
class State:
    """All that a checkpoint holds."""

    parts: Parts
    ema: Parts
    optimizer: torch.optim.Optimizer
    step: int = 0
    progress: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self):
        both = zip(self.ema.modules().values(), self.parts.modules().values())
        self.averaged = [pair for module, learning in both for pair in zip(module.parameters(), learning.parameters())]

    def save(self, path: Path) -> None:
        values = {
            "parts": {name: module.state_dict() for name, module in self.parts.modules().items()},
            "ema": {name: module.state_dict() for name, module in self.ema.modules().items()},
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "progress": self.progress,
            "curve": self.curve,
        }
        torch.save(values, path.with_suffix(".new"))
        path.with_suffix(".new").rename(path)

    def load(self, path: Path, device: torch.device) -> None:
        values = torch.load(path, map_location=device, weights_only=True)
        for name in self.parts.modules():
            self.parts.modules()[name].load_state_dict(values["parts"][name])
            self.ema.modules()[name].load_state_dict(values["ema"][name])
        self.optimizer.load_state_dict(values["optimizer"])
        self.step, self.progress, self.curve = values["step"], values["progress"], values["curve"]


def learning_rate(peak: float, step: int, progress: float) -> float:
    """Up in the first steps, level for half the training, then down a half cosine to nothing."""
    fall = max(0.0, (progress - 0.5) / 0.5)
    return peak * min(1.0, (step + 1) / WARMUP_STEPS) * 0.5 * (1 + math.cos(math.pi * min(1.0, fall)))


@torch.no_grad()
def update_ema(state: State) -> None:
    decay = min(EMA_DECAY, (1 + state.step) / (10 + state.step))
    means, weights = zip(*state.averaged)
    torch._foreach_lerp_(means, weights, 1 - decay)
