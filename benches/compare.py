"""Says how far one engine's result is from the other's.

    .venv/bin/python benches/compare.py OURS.safetensors THEIRS.safetensors

Both files hold `latents` and `image` (u8), as `examples/measure.rs --save` and `diffusers_run.py --save-latents` write
them. Prints one JSON line: the latents' relative error, norm of the difference by norm of the second; the picture's
peak signal-to-noise ratio in decibels, null where both are the same; and the largest differences.
"""

import json
import sys

import torch
from safetensors.torch import load_file


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    ours, theirs = (load_file(path) for path in sys.argv[1:])
    latents = [found["latents"].double() for found in (ours, theirs)]
    images = [found["image"].double() for found in (ours, theirs)]
    error = (images[0] - images[1]).square().mean()
    line = {
        "latents_relative_error": ((latents[0] - latents[1]).norm() / latents[1].norm()).item(),
        "latents_max_difference": (latents[0] - latents[1]).abs().max().item(),
        "image_psnr_db": round((10 * torch.log10(255**2 / error)).item(), 2) if error > 0 else None,
        "image_max_difference": int((images[0] - images[1]).abs().max()),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
