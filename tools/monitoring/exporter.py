"""Exporters for what a machine without a GPU cannot show: invented machines, and a recording of a real one.

    python tools/monitoring/exporter.py spark --bind 127.0.0.1:9496
    python tools/monitoring/exporter.py engine --bind 127.0.0.1:9497
    python tools/monitoring/exporter.py --record http://127.0.0.1:8077/metrics --seconds 120 > recording.jsonl
    python tools/monitoring/exporter.py --replay recording.jsonl --bind 127.0.0.1:9498

`spark` is a DGX Spark, whose GB10 reports no limits and no memory errors. `engine` is the device memory of an engine on a
CUDA device, which an engine on the CPU does not count. For GPUs with memory of their own there is
`dgx-pixels metrics --source demo`. Add `--token FILE` to send a token while recording.
"""

import argparse
import json
import math
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

P = "dgx_pixels_"


class Text:
    """The text format of Prometheus, one family after the other."""

    def __init__(self):
        self.lines = []
        self.known = set()

    def add(self, kind, name, value, /, **labels):
        name = P + name
        if name not in self.known:
            self.known.add(name)
            self.lines += [f"# HELP {name} Invented for a check.", f"# TYPE {name} {kind}"]
        inside = ",".join(f'{key}="{text}"' for key, text in labels.items())
        self.lines.append(f"{name}{{{inside}}} {value:.10g}" if inside else f"{name} {value:.10g}")

    def histogram(self, name, buckets, counts, total, mean):
        """`counts` is cumulative, one for each bucket; `total` counts all observations."""
        name = P + name
        self.lines += [f"# HELP {name} Invented for a check.", f"# TYPE {name} histogram"]
        for edge, value in [*zip(buckets, counts, strict=True), ("+Inf", total)]:
            self.lines.append(f'{name}_bucket{{le="{edge}"}} {value:.0f}')
        self.lines += [f"{name}_sum {total * mean:.10g}", f"{name}_count {total:.0f}"]

    def __str__(self):
        return "\n".join(self.lines) + "\n"


def wave(seconds, period, low, high, phase=0.0):
    return low + (high - low) * (0.5 + 0.5 * math.sin(2 * math.pi * (seconds / period + phase)))


def spark(text, seconds):
    """A GB10. `seconds` is the time since the exporter was started."""
    at = {"gpu": 0, "uuid": "GPU-invented-gb10"}
    busy = wave(seconds, 180, 0.55, 0.99)
    text.add("gauge", "gpu_info", 1, **at, name="NVIDIA GB10", driver_version="580.159.03", memory_type="unified")
    text.add("gauge", "gpu_utilization_ratio", busy, **at)
    text.add("gauge", "gpu_memory_total_bytes", 128e9, **at)
    text.add("gauge", "gpu_memory_used_bytes", wave(seconds, 240, 54e9, 100e9), **at)
    text.add("gauge", "gpu_process_memory_bytes", wave(seconds, 240, 45e9, 90e9), **at)
    text.add("gauge", "gpu_power_watts", 8 + 70 * busy, **at)
    text.add("counter", "gpu_energy_joules_total", 1e6 + 60 * seconds, **at)
    text.add("gauge", "gpu_temperature_celsius", 38 + 34 * busy, **at)
    text.add("gauge", "gpu_sm_clock_hertz", 2.4e9 * (1 - 0.12 * (busy > 0.9)), **at)
    for reason in ("power_cap", "power_brake", "thermal_software", "thermal_hardware", "hardware"):
        text.add("gauge", "gpu_throttle_active", reason == "thermal_software" and busy > 0.95, **at, reason=reason)
    text.add("gauge", "gpu_collector_up", 1, source="nvml")
    text.add("gauge", "gpu_collector_last_success_timestamp_seconds", int(time.time()), source="nvml")
    text.add("gauge", "gpu_collector_duration_seconds", wave(seconds, 60, 0.003, 0.006), source="nvml")


def engine(text, seconds, is_up):
    """What only an engine on a CUDA device reports."""
    at = {"device": "cuda:0"}
    used = 150e9 * wave(seconds, 240, 0.3, 0.6)
    peak = used + 18e9 * wave(seconds, 40, 0.5, 1)
    text.add("gauge", "device_up", is_up, **at)
    text.add("gauge", "memory_budget_bytes", 135e9, **at)
    text.add("gauge", "memory_used_bytes", used, **at)
    text.add("gauge", "memory_peak_bytes", peak, **at)
    text.add("gauge", "memory_predicted_peak_bytes", peak * 1.01, **at)
    calls = 30 * seconds
    text.histogram(
        "memory_prediction_error_ratio",
        ["-0.1", "-0.05", "-0.02", "0.0", "0.02", "0.05", "0.1", "0.2", "0.5"],
        [calls * share for share in (0, 0, 0.01, 0.2, 0.85, 0.95, 0.98, 1, 1)],
        calls,
        0.012,
    )


class Machine:
    """An invented machine, `spark` or `engine`. A test may set `device_up` of the engine to 0."""

    def __init__(self, name):
        self.name, self.began, self.device_up = name, time.time(), 1

    def metrics(self):
        text, seconds = Text(), time.time() - self.began
        if self.name == "spark":
            spark(text, seconds)
        else:
            engine(text, seconds, self.device_up)
        return str(text)


class Replay:
    """A recording, played once; then its last answer for ever."""

    def __init__(self, path):
        with open(path) as lines:
            self.answers = [json.loads(line) for line in lines]
        self.began = time.time()

    def metrics(self):
        elapsed = time.time() - self.began
        past = [answer for answer in self.answers if answer["seconds"] <= elapsed]
        return (past or self.answers[:1])[-1]["body"]


def serve(source, address):
    """Serves `source.metrics()` at /metrics on a thread; returns the server."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = source.metrics().encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(address, Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def record(url, seconds, token, every=5):
    """Prints an answer of `url` every 5 seconds, as a line of JSON."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    began = time.time()
    while (elapsed := time.time() - began) < seconds:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            print(json.dumps({"seconds": round(elapsed, 1), "body": answer.read().decode()}), flush=True)
        time.sleep(every)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("machine", nargs="?", choices=["spark", "engine"])
    parser.add_argument("--bind", default="127.0.0.1:9496")
    parser.add_argument("--replay", metavar="FILE")
    parser.add_argument("--record", metavar="URL")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--token", metavar="FILE")
    args = parser.parse_args()
    if args.record:
        token = open(args.token).read().strip() if args.token else ""
        return record(args.record, args.seconds, token)
    if bool(args.machine) == bool(args.replay):
        sys.exit("expected a machine, `spark` or `engine`, or --replay FILE")
    host, port = args.bind.rsplit(":", 1)
    serve(Replay(args.replay) if args.replay else Machine(args.machine), (host, int(port)))
    threading.Event().wait()


if __name__ == "__main__":
    main()
