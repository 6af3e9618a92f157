"""The peer: times `StableDiffusionXLPipeline`, eager, on a model folder. `examples/measure.rs` is our side.

    .venv/bin/python benches/diffusers_run.py cpu MODEL --steps 20 --size 256 --runs 5
    .venv/bin/python benches/diffusers_run.py gpu MODEL --dtype bf16 --steps 30 --runs 5 --channels-last \\
        --save-latents THEIRS.safetensors

Prints one JSON line: medians in milliseconds after one warm-up run. `whole_ms` is from the prompt to pixels in host
memory. The parts are timed in the same runs, from the pipeline's own calls; on a GPU each waits for the device, which
costs a fraction of a millisecond a step. Run both sides in one go on one machine, and compare only those figures.
"""

import argparse
import json
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import StableDiffusionXLPipeline
from diffusers.utils.torch_utils import randn_tensor
from safetensors.torch import save_file

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("where", choices=["cpu", "gpu"])
    parser.add_argument("model", type=Path)
    parser.add_argument("--prompt", default="a brass key on a wooden table")
    parser.add_argument("--negative-prompt")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance-scale", type=float, default=5.0)
    parser.add_argument("--size", type=int, help="width and height in pixels")
    parser.add_argument("--width", type=int)
    parser.add_argument("--height", type=int)
    parser.add_argument("--count", type=int, default=1, help="pictures drawn together")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--save-latents", type=Path, help="safetensors file for noise, latents and image of the first")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    diffusers.logging.disable_progress_bar()
    transformers.logging.disable_progress_bar()
    device, dtype = torch.device("cuda" if args.where == "gpu" else "cpu"), DTYPES[args.dtype]
    width, height = args.width or args.size, args.height or args.size
    began = time.perf_counter()
    pipe = StableDiffusionXLPipeline.from_pretrained(args.model, torch_dtype=dtype, local_files_only=True).to(device)
    load = time.perf_counter() - began
    pipe.set_progress_bar_config(disable=True)
    if args.channels_last:
        pipe.unet.to(memory_format=torch.channels_last)
        pipe.vae.to(memory_format=torch.channels_last)
    times: dict[str, list[float]] = defaultdict(list)

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*given: Any, **named: Any) -> Any:
            started = now()
            answer = call(*given, **named)
            times[name].append(now() - started)
            return answer

        return wrapper

    pipe.encode_prompt = timed("begin", pipe.encode_prompt)
    pipe.unet.forward = timed("unet", pipe.unet.forward)
    pipe.vae.decode = timed("finish", pipe.vae.decode)

    def generators(count: int) -> list[torch.Generator]:
        return [torch.Generator("cpu").manual_seed(args.seed + i) for i in range(count)]

    final: list[torch.Tensor] = []

    def after_step(_pipe: Any, _step: int, _timestep: Any, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        steps.append(now())
        final[:] = [tensors["latents"]]
        return {}

    def draw(count: int) -> Any:
        return pipe(
            [args.prompt] * count,
            negative_prompt=None if args.negative_prompt is None else [args.negative_prompt] * count,
            width=width,
            height=height,
            num_inference_steps=args.steps,
            guidance_scale=args.guidance_scale,
            generator=generators(count),
            callback_on_step_end=after_step,
            output_type="np",
        ).images

    for run in range(args.runs + 1):
        steps: list[float] = []
        started = now()
        (draw(args.count) * 255).round().astype("uint8")
        whole = now() - started
        if run == 0:  # warm-up
            times.clear()
            continue
        times["whole"].append(whole)
        times["step"] += [after - before for before, after in zip(steps, steps[1:])]

    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else None
    line = {
        "engine": f"diffusers {diffusers.__version__}, torch {torch.__version__}",
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"cpu {platform.machine()}",
        "threads": torch.get_num_threads(),
        "dtype": args.dtype,
        "channels_last": args.channels_last,
        "steps": args.steps,
        "count": args.count,
        "runs": args.runs,
        "load_ms": round(1e3 * load, 2),
        **{f"{name}_ms": round(1e3 * statistics.median(found), 2) for name, found in times.items() if found},
        "peak_bytes": peak,
    }
    print(json.dumps({name: value for name, value in line.items() if value is not None}))

    if args.save_latents:
        steps = []
        image = (draw(1) * 255).round().astype("uint8")
        latents = final[0].float().cpu()
        # As `prepare_latents` draws it: on the CPU, in the model's precision.
        noise = randn_tensor(latents.shape, generator=generators(1), device=torch.device("cpu"), dtype=dtype).float()
        save_file(
            {"noise": noise, "latents": latents, "image": torch.from_numpy(image[0]).contiguous()}, args.save_latents
        )


if __name__ == "__main__":
    main()
