"""Work for an MCP server: four clients that draw, look around, make mistakes and go away.

    python tools/monitoring/load.py http://127.0.0.1:8077/mcp --seconds 60 [--token FILE]

Prints how many calls each tool was sent. It sends only to an address of this machine.
"""

import argparse
import collections
import threading
import time
import urllib.error
import urllib.parse

import mcp_tool

SUBJECTS = ["a green slime", "a red potion", "a brass key", "a blue shield", "an oak tree", "a stone wall"]


class Client:
    """A client by its name. Its calls are counted in `sent`."""

    def __init__(self, url, name, token, sent):
        self.url, self.name, self.token, self.sent = url, name, token, sent

    def call(self, tool, seconds=60, **arguments):
        """The result of a tool; `None` if the server refused the call, or took longer than `seconds`."""
        self.sent[tool] += 1
        try:
            return mcp_tool.call(self.url, tool, arguments, client=self.name, token=self.token, seconds=seconds)
        except (urllib.error.URLError, TimeoutError):
            return None


def draw_batches(client, stop):
    """Large batches with pauses, so that the queue fills and empties."""
    turn = 0
    while not stop.is_set():
        turn += 1
        prompts = [f"{SUBJECTS[i % len(SUBJECTS)]}, number {turn}-{i}" for i in range(64)]
        client.call("generate_batch", prompts=prompts, steps=200 + 200 * (turn % 4), width=128, height=128)
        stop.wait(1.5)


def draw_sprites(client, stop):
    turn = 0
    while not stop.is_set():
        turn += 1
        client.call("generate_sprite", prompt=SUBJECTS[turn % len(SUBJECTS)], width=32, height=32, max_colors=8)
        stop.wait(0.5)


def look_around(client, stop):
    """Reads, pixelizes, and makes the mistakes of a careless client."""
    while not stop.is_set():
        client.call("list_models")
        assets = (client.call("list_assets", limit=5) or {}).get("structuredContent", {}).get("assets", [])
        if assets:
            client.call("get_asset", asset_id=assets[0]["asset_id"])
            client.call("pixelize_image", path=assets[0]["path"], max_colors=4)
        client.call("generate_sprite", prompt="a frog", steps=5000)
        client.call("get_asset", asset_id="no-such-asset")
        stop.wait(1)


def go_away(client, stop):
    """Asks for 384 images at once, and goes away after 15 seconds: the server cancels what is not done."""
    while not stop.wait(10):
        batches = [threading.Thread(target=ask_for_many, args=(client, number)) for number in range(6)]
        for batch in batches:
            batch.start()
        for batch in batches:
            batch.join()
        stop.wait(60)


def ask_for_many(client, number):
    prompts = [f"a coin, number {number}-{i}" for i in range(64)]
    client.call("generate_batch", seconds=15, prompts=prompts, steps=1000)


def fill_queue(client, stop):
    """Asks a server with a short queue for more than it takes."""
    while not stop.wait(4):
        client.call("generate_batch", seconds=3, prompts=["a shell"] * 64)


ALL = (draw_batches, draw_sprites, look_around, go_away)


def run(seconds, works, token=""):
    """Sends work for this many seconds; returns the calls by tool. `works` are pairs of a URL and a function."""
    sent, stop, workers = collections.Counter(), threading.Event(), []
    for url, work in works:
        host = urllib.parse.urlsplit(url).hostname
        if host not in ("127.0.0.1", "localhost", "::1"):
            raise ValueError(f"`{host}` is not this machine; expected 127.0.0.1 or localhost")
        client = Client(url, work.__name__, token, sent)
        workers.append(threading.Thread(target=work, args=(client, stop), daemon=True))
    for worker in workers:
        worker.start()
    began = time.monotonic()
    while time.monotonic() - began < seconds and not stop.wait(0.2):
        pass
    stop.set()
    for worker in workers:
        worker.join(60)
    return sent


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("url")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--token", metavar="FILE")
    args = parser.parse_args()
    token = open(args.token).read().strip() if args.token else ""
    for tool, calls in sorted(run(args.seconds, [(args.url, work) for work in ALL], token).items()):
        print(f"{calls:6} {tool}")


if __name__ == "__main__":
    main()
