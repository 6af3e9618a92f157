"""Writes a seeded SDXL with random weights to measure with: speed does not depend on their values.

    .venv/bin/python benches/make_model.py full  OUT --dtype f16 --seed 0     SDXL base's published sizes, 7 GB
    .venv/bin/python benches/make_model.py small OUT                          20 M in the UNet, for a CPU
    .venv/bin/python benches/make_model.py tiny  OUT                          for trying the scripts

PyTorch's own initial values keep the activations of all sizes finite in f16. `full` is drawn on the GPU if there is
one: the same seed gives other values on the CPU. The tokenizers are those of the tests' tiny model.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

TINY = Path(__file__).parent.parent / "tests" / "fixtures" / "tiny_sdxl_a"
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
Json = dict[str, Any]


def unet(channels: list[int], depths: list[int], head_dim: int, text_width: int, pooled: int, size: int) -> Json:
    crossed = len(channels) - 1
    return {
        "sample_size": size,
        "block_out_channels": channels,
        "down_block_types": ["DownBlock2D"] + ["CrossAttnDownBlock2D"] * crossed,
        "up_block_types": ["CrossAttnUpBlock2D"] * crossed + ["UpBlock2D"],
        "layers_per_block": 2,
        "transformer_layers_per_block": depths,
        "attention_head_dim": [width // head_dim for width in channels],
        "use_linear_projection": True,
        "cross_attention_dim": text_width,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": pooled + 6 * 256,
    }


def vae(channels: list[int], size: int) -> Json:
    return {
        "block_out_channels": channels,
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "layers_per_block": 2,
        "sample_size": size,
        "scaling_factor": 0.13025,
    }


def text(width: int, layers: int, act: str) -> Json:
    return {
        "vocab_size": 49408,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 64,
        "hidden_act": act,
        "projection_dim": width,
        # As SDXL's own files say: 2 means that the highest id ends the text, whatever the vocabulary.
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    }


# Source of `full`: the config.json files of stabilityai/stable-diffusion-xl-base-1.0.
MODELS: dict[str, Json] = {
    "full": {
        "unet": unet([320, 640, 1280], [1, 2, 10], 64, 2048, 1280, 128),
        "vae": vae([128, 256, 512, 512], 1024),
        "text_encoder": text(768, 12, "quick_gelu"),
        "text_encoder_2": text(1280, 32, "gelu"),
    },
    "small": {
        "unet": unet([64, 128, 192], [1, 1, 2], 32, 256, 128, 32),
        "vae": vae([32, 64, 128, 128], 256),
        "text_encoder": text(128, 4, "quick_gelu"),
        "text_encoder_2": text(128, 4, "gelu"),
    },
    "tiny": {
        "unet": unet([32, 64], [1, 1], 32, 128, 64, 16),
        "vae": vae([32, 32, 32, 32], 128),
        "text_encoder": text(64, 2, "quick_gelu"),
        "text_encoder_2": text(64, 2, "gelu"),
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("out", type=Path)
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    diffusers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    for name in ("tokenizer", "tokenizer_2", "scheduler"):
        shutil.copytree(TINY / name, args.out / name, dirs_exist_ok=True)
    (args.out / "model_index.json").write_text((TINY / "model_index.json").read_text())
    sizes, torch_parts = MODELS[args.model], (UNet2DConditionModel, AutoencoderKL)
    torch.manual_seed(args.seed)
    counts = {}
    for name, kind in [
        ("text_encoder", CLIPTextModel),
        ("text_encoder_2", CLIPTextModelWithProjection),
        ("vae", AutoencoderKL),
        ("unet", UNet2DConditionModel),
    ]:
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
            part = kind(**sizes[name]) if kind in torch_parts else kind(CLIPTextConfig(**sizes[name]))
        part.to(DTYPES[args.dtype]).save_pretrained(args.out / name)
        counts[name] = part.num_parameters()
        del part
    print(json.dumps({"model": args.model, "dtype": args.dtype, "seed": args.seed, "parameters": counts}))


if __name__ == "__main__":
    main()
