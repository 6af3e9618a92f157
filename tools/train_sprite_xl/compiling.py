"""Compiles the UNet in other processes while the training already runs, one process a size.

Compiling takes two to three minutes a size. Its results lie in torch's cache, from which the training loads them in ten
seconds each.

    python tools/train_sprite_xl/compiling.py DATA SIZE ROWS DROPOUT
"""

import json
import subprocess
import sys
from pathlib import Path

import torch
from loss import Loss
from model import TOKENS, make_parts
from torch import Tensor


class Compiling:
    """The processes that compile, from their start to their end."""

    def __init__(self, data: Path, rows: dict[int, int], dropout: float):
        command = [sys.executable, __file__, str(data)]
        self.processes = [subprocess.Popen([*command, str(size), str(count), str(dropout)]) for size, count in rows.items()]

    def ready(self) -> bool:
        """Whether all have ended, well or not."""
        return all(process.poll() is not None for process in self.processes)

    def worked(self) -> bool:
        return all(process.returncode == 0 for process in self.processes)

    def stop(self) -> None:
        for process in self.processes:
            process.kill()


def training_step(loss: Loss, rgba: Tensor, ids: Tensor) -> None:
    with loss.amp:
        value = loss(rgba, ids)
    value.backward()


def main() -> None:
    data, size, rows, dropout = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    device = torch.device("cuda")
    torch.set_float32_matmul_precision("high")
    parts = make_parts(len(json.loads((data / "vocab.json").read_text())), dropout)
    for module in parts.modules().values():
        module.to(device, memory_format=torch.channels_last).train()
    loss = Loss(parts, torch.zeros(1, TOKENS, dtype=torch.long, device=device))
    loss.compile()
    rgba = torch.randint(256, (rows, size, size, 4), dtype=torch.uint8, device=device)
    training_step(loss, rgba, torch.zeros(rows, TOKENS, dtype=torch.long, device=device))
    torch.cuda.synchronize()


if __name__ == "__main__":
    main()
