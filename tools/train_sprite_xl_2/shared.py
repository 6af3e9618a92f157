"""Makes what both editions share importable: colors, the VAE, sheets, and names of the dungeon tiles."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "train_sprite_xl"))

from alpha import harden  # noqa: E402
from bpe import bpe  # noqa: E402

__all__ = ["CHANNELS", "HERE", "bpe", "harden"]
# Channels of the UNet, from full size to a quarter.
CHANNELS = (64, 128, 240)
