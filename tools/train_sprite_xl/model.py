"""The parts of sprite-xl: what SDXL has, in small.

Latents are sprites: 32x32 premultiplied RGBA, shifted and scaled to about unit variance. The VAE has nothing to learn
and is set by hand (`sprite_vae`).
"""

import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

TOKENS = 48
# From full size to a quarter.
UNET_CHANNELS = (64, 128, 240)
# Of the training set, in premultiplied RGBA from 0 to 1.
LATENTS_MEAN = [0.15, 0.14, 0.12, 0.49]
LATENTS_STD = [0.26, 0.24, 0.23, 0.50]
# Pure magenta, keyed out exactly: the decoder keeps at least `LEAST_GREEN` of 255 in all that is seen.
MATTE = (255, 0, 255)
LEAST_GREEN = 1.2
START, END = "<|startoftext|>", "<|endoftext|>"

# Cosine schedule that ends in pure noise, so that flat backgrounds and dark sprites come out as they are.
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
}


@dataclass
class Parts:
    """What is trained together."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    text_encoder_2: CLIPTextModelWithProjection

    def modules(self) -> dict[str, nn.Module]:
        return {"unet": self.unet, "text_encoder": self.text_encoder, "text_encoder_2": self.text_encoder_2}

    def encode(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids `[n, tokens]` → text `[n, tokens, c]` and pooled `[n, c]`, as SDXL's pipeline takes them."""
        first = self.text_encoder(ids, output_hidden_states=True)
        second = self.text_encoder_2(ids, output_hidden_states=True)
        return torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1), second.text_embeds


def make_parts(vocab_size: int, dropout: float = 0.0) -> Parts:
    """New weights."""
    text = {
        "vocab_size": vocab_size,
        "max_position_embeddings": TOKENS,
        "bos_token_id": vocab_size - 2,
        "eos_token_id": vocab_size - 1,
        "pad_token_id": vocab_size - 1,
    }
    first = CLIPTextConfig(
        hidden_size=128, intermediate_size=512, num_hidden_layers=3, num_attention_heads=4, projection_dim=128, hidden_act="gelu", **text
    )
    second = CLIPTextConfig(
        hidden_size=192, intermediate_size=768, num_hidden_layers=4, num_attention_heads=6, projection_dim=192, hidden_act="gelu", **text
    )
    unet = UNet2DConditionModel(
        sample_size=32,
        in_channels=4,
        out_channels=4,
        block_out_channels=UNET_CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=[1, 2, 2],
        transformer_layers_per_block=1,
        attention_head_dim=[2, 4, 6],
        norm_num_groups=16,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=32,
        cross_attention_dim=first.hidden_size + second.hidden_size,
        projection_class_embeddings_input_dim=second.projection_dim + 6 * 32,
        dropout=dropout,
    )
    return Parts(unet, CLIPTextModel(first), CLIPTextModelWithProjection(second))


@cache
def time_ids(height: int, width: int, rows: int, device: torch.device) -> Tensor:
    """What the pipeline gives by default for a picture of so many latents: original size, crop, target size."""
    size = [8.0 * height, 8.0 * width]
    return torch.tensor([*size, 0.0, 0.0, *size], device=device).expand(rows, 6)


@cache
def latents_mean_std(device: torch.device) -> tuple[Tensor, Tensor]:
    """Of each channel, `[1, 4, 1, 1]`. Made once, as a CUDA graph takes nothing from the CPU."""
    mean, std = (torch.tensor(values, device=device).view(1, 4, 1, 1) for values in (LATENTS_MEAN, LATENTS_STD))
    return mean, std


def to_latents(rgba: Tensor) -> Tensor:
    """Straight RGBA `[n, 4, h, w]`, 0 to 1 → latents."""
    premultiplied = torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], 1)
    mean, std = latents_mean_std(rgba.device)
    return (premultiplied - mean) / std


def from_latents(latents: Tensor) -> Tensor:
    """Latents → RGBA, 0 to 1, alpha 0 or 1: what the decoder shows, without its matte."""
    mean, std = latents_mean_std(latents.device)
    rgba = latents.float() * std + mean
    alpha = (rgba[:, 3:] > 0.5).float()
    return torch.cat([rgba[:, :3].clamp(0, 1) * alpha, alpha], 1)


def save_tokenizer(data: Path, folder: Path) -> CLIPTokenizer:
    """Writes the files that SDXL's folders have, from `vocab.json` and `merges.txt` of the prepared data."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(data / name, folder / name)
    tokenizer = CLIPTokenizer(
        vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"), pad_token=END, model_max_length=TOKENS
    )
    tokenizer.save_pretrained(folder)
    return CLIPTokenizer.from_pretrained(folder)


# The VAE. Each group norm has one group. Among its channels are LOUD and -LOUD, which drown what the picture adds to the
# variance, and one that holds minus the sum of all others, so that the mean is 0: the norm then only scales, by a number
# we know. silu(SHARP * x) / SHARP is max(x, 0) to 0.3 / SHARP.
LOUD = 128.0
SHARP = 500.0
CHANNELS = [8, 8, 8, 16]


class _Layers:
    """Sets the weights of a network of 1x1 convolutions: kernels have a centre and nothing around it."""

    @staticmethod
    def linear(conv: nn.Conv2d, rows: dict[int, dict[int, float]], bias: dict[int, float] | None = None) -> None:
        """`rows[out][in]` is the factor of channel `in` in channel `out`."""
        conv.weight.zero_()
        conv.bias.zero_()
        centre = conv.kernel_size[0] // 2
        for out, factors in rows.items():
            for channel, factor in factors.items():
                conv.weight[out, channel, centre, centre] = factor
        for out, value in (bias or {}).items():
            conv.bias[out] = value

    @staticmethod
    def ramp(norm: nn.GroupNorm, ramps: dict[int, tuple[float, float]], signal: float) -> None:
        """With the SiLU that follows, makes channel `c` SHARP * max(slope * x + offset, 0) for `ramps[c] = (slope, offset)`, others 0.

        `signal` is the usual sum of the squares of all channels but the loud ones.
        """
        spread = ((2 * LOUD**2 + signal) / norm.num_channels) ** 0.5
        norm.weight.zero_()
        norm.bias.fill_(0.0)
        for channel, (slope, offset) in ramps.items():
            norm.weight[channel] = SHARP * slope * spread
            norm.bias[channel] = SHARP * offset

    @staticmethod
    def balanced(rows: dict[int, dict[int, float]], bias: dict[int, float], first: int) -> tuple[dict[int, dict[int, float]], dict[int, float]]:
        """Adds channel `first`, minus the sum of all, and the loud pair after it."""
        total: dict[int, float] = {}
        for factors in rows.values():
            for channel, factor in factors.items():
                total[channel] = total.get(channel, 0.0) - factor
        return {**rows, first: total}, {**bias, first: -sum(bias.values()), first + 1: LOUD, first + 2: -LOUD}


@torch.no_grad()
def sprite_vae() -> AutoencoderKL:
    """An `AutoencoderKL` that shows each latent as an 8x8 cell over the matte, and reads a picture back.

    Decoder: alpha of at least a half shows the colour, the rest is exactly the matte. Encoder: what is exactly the matte
    is transparent; the mean of each cell, premultiplied, is the latent.
    """
    vae = AutoencoderKL(
        block_out_channels=CHANNELS,
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        layers_per_block=1,
        norm_num_groups=1,
        latent_channels=4,
        sample_size=256,
        scaling_factor=1.0,
        latents_mean=LATENTS_MEAN,
        latents_std=LATENTS_STD,
        force_upcast=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
    )
    for name, module in vae.named_modules():
        if isinstance(module, nn.GroupNorm):
            _Layers.ramp(module, {}, 1.0)
        elif isinstance(module, nn.Conv2d):
            # Second convolutions stay 0, so that a resnet is its skip path; all others pass their channels on.
            shared = min(module.in_channels, module.out_channels)
            passes = not name.endswith(("conv1", "conv2"))
            _Layers.linear(module, {c: {c: 1.0} for c in range(shared)} if passes else {})
    _set_decoder(vae)
    _set_encoder(vae)
    return vae.eval()


def _set_decoder(vae: AutoencoderKL) -> None:
    decoder = vae.decoder
    red, green, blue, alpha = range(4)
    least = LEAST_GREEN / 255
    # Channels 0 to 2: 1 - red, green - least, 1 - blue; 3 and 7: 0.5 - alpha. 8 to 10 are for the results.
    rows, bias = _Layers.balanced(
        {0: {red: -1.0}, 1: {green: 1.0}, 2: {blue: -1.0}, 3: {alpha: -1.0}, 7: {alpha: -1.0}},
        {0: 1.0, 1: -least, 2: 1.0, 3: 0.5, 7: 0.5},
        4,
    )
    _Layers.linear(decoder.conv_in, rows, bias)
    resnet = decoder.mid_block.resnets[0]
    _Layers.ramp(resnet.norm1, {**{c: (1.0, 0.0) for c in range(4)}, 7: (1.0, -1 / 32)}, 3.0)
    # What is transparent is pushed below 0: by 2, as soon as alpha is 1 / 32 below a half.
    one, hide = 1 / SHARP, 64 / SHARP
    rows, bias = _Layers.balanced({c: {c: one, 3: -hide, 7: hide} for c in range(3)}, {1: least}, 4)
    _Layers.linear(resnet.conv1, rows, bias)
    _Layers.ramp(resnet.norm2, {c: (1.0, 0.0) for c in range(3)}, 24.0)
    _Layers.linear(resnet.conv2, {8 + c: {c: one} for c in range(3)})
    # From here on: matte minus colour, colour, matte minus colour; each balanced again.
    up = decoder.up_blocks
    rows, bias = _Layers.balanced({c: {8 + c: 1.0} for c in range(3)}, {}, 3)
    _Layers.linear(up[0].upsamplers[0].conv, rows, bias)
    _Layers.ramp(decoder.conv_norm_out, {c: (1.0, 0.0) for c in range(3)}, 1.0)
    _Layers.linear(
        decoder.conv_out, {0: {0: -2 * one}, 1: {1: 2 * one}, 2: {2: -2 * one}}, {0: 1.0, 1: -1.0, 2: 1.0}
    )


def _set_encoder(vae: AutoencoderKL) -> None:
    encoder = vae.encoder
    # Channels 0 to 2: red, green, blue from 0 to 1; 3: how far from the matte, in 8-bit steps of 1 / 255.
    rows, bias = _Layers.balanced(
        {0: {0: 0.5}, 1: {1: 0.5}, 2: {2: 0.5}, 3: {0: -0.5, 1: 0.5, 2: -0.5}}, {0: 0.5, 1: 0.5, 2: 0.5, 3: 1.5}, 4
    )
    _Layers.linear(encoder.conv_in, rows, bias)
    resnet = encoder.down_blocks[0].resnets[0]
    # 1 at the matte, 0.92 one step away, then 1 and 0: two ramps, as one is not sharp enough in half precision.
    _Layers.ramp(resnet.norm1, {3: (-1.0, 0.05)}, 4.0)
    rows, bias = _Layers.balanced({0: {3: 20 / SHARP}}, {}, 1)
    _Layers.linear(resnet.conv1, rows, bias)
    _Layers.ramp(resnet.norm2, {0: (1.0, -0.95)}, 2.0)
    matte = 20 / SHARP
    # Channel 7 becomes alpha - 1; what is balanced stays so through channel 4, which takes up the change.
    _Layers.linear(resnet.conv2, {0: {0: -matte}, 2: {0: -matte}, 7: {0: -matte}, 4: {0: 3 * matte}})
    for block in encoder.down_blocks[:3]:
        conv = block.downsamplers[0].conv
        conv.weight.zero_()
        for c in range(conv.out_channels):
            conv.weight[c, c, :2, :2] = 0.25
    # After the last mean: red, green, blue, alpha, balanced.
    last = encoder.mid_block.resnets[0]
    _Layers.linear(last.conv2, {})
    first = encoder.down_blocks[3].resnets[0].conv_shortcut
    rows, bias = _Layers.balanced({0: {0: 1.0}, 1: {1: 1.0}, 2: {2: 1.0}, 3: {7: 1.0}}, {3: 1.0}, 4)
    _Layers.linear(first, rows, bias)
    _Layers.ramp(encoder.conv_norm_out, {c: (1.0, 0.0) for c in range(4)}, 2.0)
    _Layers.linear(encoder.conv_out, {c: {c: 1 / SHARP} for c in range(4)}, {4 + c: -30.0 for c in range(4)})


def make_pipeline(parts: Parts, data: Path, folder: Path) -> StableDiffusionXLPipeline:
    """Saves the model in `folder` in diffusers' layout, in files of at most 15 MB.

    UNet and VAE are in half precision. The text encoders are not: transformers 5 loads what it finds, diffusers loads
    single precision, and the pipeline needs both alike.
    """
    tokenizers = {name: save_tokenizer(data, folder / name) for name in ("tokenizer", "tokenizer_2")}
    pipe = StableDiffusionXLPipeline(
        vae=sprite_vae(),
        **parts.modules(),
        **tokenizers,
        scheduler=DPMSolverMultistepScheduler(**SCHEDULE),
        force_zeros_for_empty_prompt=True,
    )
    pipe.unet.half()
    pipe.vae.half()
    pipe.save_pretrained(folder, max_shard_size="15MB")
    return pipe
