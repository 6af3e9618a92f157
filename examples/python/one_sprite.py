"""One sprite: draw it, look at it, and save it.

python examples/python/one_sprite.py "a green slime" --seed 7 --output slime.png
"""

from __future__ import annotations

import argparse

import dgx_pixels as dp


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw one sprite.")
    parser.add_argument("prompt", nargs="?", default="a green slime")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--model", help="a name that `dgx_pixels.models()` lists, or `sketch`")
    parser.add_argument("--output", default="sprite.png")
    arguments = parser.parse_args()

    sprite = dp.generate(arguments.prompt, seed=arguments.seed, model=arguments.model)
    sprite.save(arguments.output, force=True)
    print(f"{arguments.output}: {sprite}")
    print(f"its colors: {', '.join(f'#{r:02x}{g:02x}{b:02x}' for r, g, b in sprite.palette)}")

    # The pixels are an array, and the file says how it was made: drawing it again gives the same.
    print(f"{(sprite.array[..., 3] > 0).mean():.0%} of its pixels are visible")
    request = (sprite.provenance or {})["request"]
    again = dp.generate(request["prompt"], seed=request["seed"], model=arguments.model)
    assert again == sprite


if __name__ == "__main__":
    main()
