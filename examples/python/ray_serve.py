"""Sprites over HTTP with Ray Serve: requests that come together are drawn together.

    pip install "dgx-pixels[ray]"
    python examples/python/ray_serve.py

It serves on this machine, asks itself for eight sprites at once and for one that is wrong, and
ends. To keep it running, use `serve run ray_serve:app` in this folder, and ask it:

    curl -s localhost:8000 -d '{"prompt": "a brass key", "size": "32x32"}' -o key.png
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.error import HTTPError
from urllib.request import urlopen

from ray import serve

import dgx_pixels as dp
import dgx_pixels.ray

#: With two replicas, `serve_options={"autoscaling_config": ...}` and the like: see Ray's guide.
app = dgx_pixels.ray.deployment(models=["sprite-xl"], common={"steps": 8, "size": "32x32"})


def ask(**fields: object) -> dp.Sprite:
    """Asks the service for a sprite, as any program would that speaks HTTP."""
    with urlopen("http://localhost:8000/", json.dumps(fields).encode()) as answer:
        return dp.Sprite.open(answer.read())


def main() -> None:
    """Starts the service, asks it, and ends it."""
    serve.run(app)
    prompts = [f"a {color} slime" for color in ("green", "red", "blue", "pink")] * 2
    started = time.monotonic()
    with ThreadPoolExecutor(len(prompts)) as callers:
        sprites = list(callers.map(lambda prompt: ask(prompt=prompt), prompts))
    for sprite in sprites:
        print(sprite)
    print(f"{len(sprites)} sprites in {time.monotonic() - started:.1f} s")
    try:
        ask(prompt="a slime", size="huge")
    except HTTPError as error:
        print(error.code, error.read().decode())
    serve.shutdown()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
