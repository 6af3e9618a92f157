"""Records the animation of the README: a prompt becomes a sprite, and the sprite appears in a game that runs.

    python tools/docs/recording.py docs/images/prompt-to-game.gif

It runs each command that the animation shows, in a shell, and draws what they print. The game is the example game in
`examples/bevy_game` without a window; its pictures are screenshots that it takes of itself. Nothing is drawn by hand but
the letters. `--programs` is where `dgx-pixels` is, and `--game` where `bevy_game` is; defaults: target/release and
target/debug. `make recording` builds both and runs this. It takes `tools/docs/requirements.txt`, a Vulkan driver and
the font DejaVu Sans Mono.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/bevy_game"
PROMPT = "a purple potion"
SEED = 7
FILE = "a-purple-potion-7.png"
DRAW = f'dgx-pixels generate "{PROMPT}" --seed {SEED}'
DEPLOY = f"dgx-pixels deploy {FILE} --project game --category item --name potion"
# Where the game shows the potion, in its own pixels.
POTION = (64, 256, 96, 288)

WIDTH, MARGIN, LINE = 832, 16, 20
TERMINAL = 8 * LINE + 2 * MARGIN
GAME = (512, 320)
HEIGHT = TERMINAL + GAME[1] + 2 * MARGIN
ZOOM = 8
BACKGROUND, BAR, PLATE = "#14161b", "#1d2027", "#4a505c"
TEXT, FAINT, GREEN = "#d8dade", "#8b9099", "#8fd18f"
LIMIT = 1 << 20


class Game:
    """The example game on a copy of its project, and its screenshots."""

    def __init__(self, program: Path, folder: Path, environment: dict[str, str]) -> None:
        self.url = f"http://127.0.0.1:{environment['BRP_EXTRAS_PORT']}/"
        project = folder / "game"
        project.mkdir()
        shutil.copy(EXAMPLE / "Cargo.toml", project)
        shutil.copytree(EXAMPLE / "assets", project / "assets")
        self.log = folder / "game.log"
        environment = environment | {"BEVY_ASSET_ROOT": str(project), "LP_NUM_THREADS": "1"}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [program, "--headless"], cwd=project, env=environment, stdout=log, stderr=subprocess.STDOUT
            )

    def call(self, method: str, **params: Any) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params or None}).encode()
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            # What is watched comes as an event.
            text = next(line for line in answer if line.strip()).decode().removeprefix("data:")
        return json.loads(text)["result"]

    def wait(self) -> None:
        """Returns when the game shows every sprite of its manifest."""
        began = time.monotonic()
        while True:
            with contextlib.suppress(OSError):
                status = self.call("sprites/status")
                if status.get("manifest") and not status["loading"]:
                    return
            if self.process.poll() is not None or time.monotonic() - began > 120:
                sys.exit(f"recording: the game does not answer; its log ends with:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.2)

    def screenshot(self) -> Image.Image:
        answer = self.call("sprites/screenshot+watch", id=os.urandom(8).hex())
        return Image.open(io.BytesIO(base64.b64decode(answer["png"]))).convert("RGB")


class Film:
    """The frames: the terminal's lines above, the sprite at the left, and the game at the right."""

    def __init__(self) -> None:
        self.font = ImageFont.truetype("DejaVuSansMono.ttf", 15)
        self.lines: list[tuple[str, str]] = []
        self.sprite: Image.Image | None = None
        self.game: Game | None = None
        self.frames: list[tuple[Image.Image, int]] = []

    def show(self, milliseconds: int) -> None:
        frame = Image.new("RGB", (WIDTH, HEIGHT), BACKGROUND)
        draw = ImageDraw.Draw(frame)
        draw.rectangle((0, 0, WIDTH, TERMINAL), fill=BAR)
        for i, (text, color) in enumerate(self.lines[-8:]):
            draw.text((MARGIN, MARGIN + i * LINE), text, TEXT if color == "$" else color, self.font)
            if color == "$":
                draw.text((MARGIN, MARGIN + i * LINE), "$", GREEN, self.font)
        top = TERMINAL + MARGIN
        if self.game:
            frame.paste(self.game.screenshot(), (WIDTH - MARGIN - GAME[0], top))
        if self.sprite:
            side = self.sprite.width * ZOOM
            draw.rectangle((MARGIN, top, MARGIN + side - 1, top + side - 1), fill=PLATE)
            large = self.sprite.resize((side, side), Image.Resampling.NEAREST)
            frame.paste(large, (MARGIN, top), large)
            caption = f"{self.sprite.width}x{self.sprite.height} pixels, {ZOOM} times as large"
            draw.text((MARGIN, top + side + 10), caption, FAINT, ImageFont.truetype("DejaVuSansMono.ttf", 11))
        self.frames.append((frame, milliseconds))

    def type(self, command: str) -> None:
        self.lines.append(("$ ", "$"))
        for end in range(0, len(command) + 1, 3):
            self.lines[-1] = (f"$ {command[:end]}", "$")
            self.show(60)
        self.lines[-1] = (f"$ {command}", "$")
        self.show(400)

    def play(self, frames: int) -> Image.Image:
        """Shows the game for this many frames, and returns the potion of the last."""
        for _ in range(frames):
            self.show(150)
        left, top = WIDTH - MARGIN - GAME[0], TERMINAL + MARGIN
        return self.frames[-1][0].crop((left + POTION[0], top + POTION[1], left + POTION[2], top + POTION[3]))

    def write(self, path: Path) -> None:
        """Writes a GIF with one palette, that of every eighth frame and the last.

        It begins with the last frame too, for readers that show a GIF without its animation.
        """
        self.frames.insert(0, (self.frames[-1][0], 1000))
        some = [frame for frame, _ in [*self.frames[::8], self.frames[-1]]]
        together = Image.new("RGB", (WIDTH, HEIGHT * len(some)))
        for i, frame in enumerate(some):
            together.paste(frame, (0, i * HEIGHT))
        palette = together.quantize(255, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame, _ in self.frames]
        times = [time for _, time in self.frames]
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=times, loop=0, optimize=True)


def run(film: Film, command: str, folder: Path, environment: dict[str, str]) -> float:
    """Types the command, runs it, and shows each line when it comes. The seconds that it took."""
    film.type(command)
    began = time.monotonic()
    with subprocess.Popen(
        ["bash", "-c", command], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            film.lines.append((line.rstrip().replace(str(folder), "."), FAINT))
            film.show(500)
    if process.returncode:
        sys.exit(f"recording: `{command}` ended with {process.returncode}: {film.lines[-1][0]}")
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--programs", type=Path, default=ROOT / "target/release", metavar="DIR")
    parser.add_argument("--game", type=Path, default=ROOT / "target/debug", metavar="DIR")
    arguments = parser.parse_args()
    for program in (arguments.programs / "dgx-pixels", arguments.game / "bevy_game"):
        if not program.is_file():
            sys.exit(f"recording: found no `{program}`; `make recording` builds it")

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    film = Film()
    with tempfile.TemporaryDirectory(prefix="dgx-pixels-recording-") as temporary:
        folder = Path(temporary).resolve()
        environment = os.environ | {
            "PATH": f"{arguments.programs.resolve()}:{os.environ['PATH']}",
            "BRP_EXTRAS_PORT": str(port),
            "XDG_STATE_HOME": str(folder / "state"),
        }
        # 1. the sprite, before the game takes its share of the machine
        seconds = run(film, DRAW, folder, environment)
        film.sprite = Image.open(folder / FILE).convert("RGBA")
        film.show(1500)
        game = Game((arguments.game / "bevy_game").resolve(), folder, environment)
        try:
            # 2. the game with the potion that it has
            game.wait()
            film.game = game
            before = film.play(8)
            # 3. the same game with the new one
            run(film, DEPLOY, folder, environment)
            after = film.play(16)
        finally:
            game.process.kill()
            game.process.wait()
        film.frames[-1] = (film.frames[-1][0], 2500)
        if before.tobytes() == after.tobytes():
            sys.exit("recording: the game shows the potion that it had before the deploy")
    film.write(arguments.output)
    size = arguments.output.stat().st_size
    print(f"{arguments.output}: {len(film.frames)} frames, {size / 1024:.0f} KiB; drawn in {seconds:.1f} s")
    if size > LIMIT:
        sys.exit(f"recording: the file has {size} bytes; expected at most {LIMIT}")


if __name__ == "__main__":
    main()
