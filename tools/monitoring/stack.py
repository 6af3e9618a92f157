"""A monitoring stack on this machine's loopback: the real programs with the files of `deploy/`, in a temporary folder."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import exporter
import files

# The programs by Debian's names, then by those of the projects.
NAMES = {
    "prometheus": ["prometheus"],
    "promtool": ["promtool"],
    "alertmanager": ["prometheus-alertmanager", "alertmanager"],
    "amtool": ["amtool"],
    "node_exporter": ["prometheus-node-exporter", "node_exporter"],
}
SCRAPE_SECONDS = 15


def program(name):
    """The path of a program; `None` if it is not installed."""
    return next((path for path in map(shutil.which, NAMES[name]) if path), None)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def alertmanager_config(text, folder_url=None):
    """The routes for Alertmanager 0.25, which reads no URL from a file. Each URL becomes `folder_url/NAME`."""
    base = folder_url or "http://127.0.0.1:1"
    return re.sub(r"url_file: .*/(\w+)_url", rf"url: {base}/\1", text)


def get(url, data=None, timeout=20):
    """The JSON at `url`; with `data`, of a form that is sent there."""
    body = urllib.parse.urlencode(data).encode() if data else None
    try:
        with urllib.request.urlopen(url, body, timeout=timeout) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        # Prometheus says what is wrong with a query in the body.
        return json.loads(error.read() or b"{}")


class Webhook:
    """Receives what Alertmanager sends, as (time, receiver, message)."""

    def __init__(self, port, address="127.0.0.1"):
        self.received = received = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                received.append((time.time(), self.path.strip("/"), json.loads(body)))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer((address, port), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def messages(self, alert):
        """The messages about an alert."""
        return [got for got in self.received if any(a["labels"]["alertname"] == alert for a in got[2]["alerts"])]


class Stack:
    """Everything that runs. Use it with `with`: it ends what it started."""

    def __init__(self, folder, target):
        self.folder, self.target = folder, target
        self.processes = []
        ports = ("server", "small", "gpus", "spark", "engine", "node", "prometheus", "alertmanager", "webhook")
        self.ports = {name: free_port() for name in ports}
        self.began = None

    def address(self, name):
        return f"127.0.0.1:{self.ports[name]}"

    def url(self, name):
        return f"http://{self.address(name)}"

    def start(self, name, arguments, **environment):
        log = open(self.folder / f"{name}.log", "wb")
        process = subprocess.Popen(
            ["nice", *map(str, arguments)], stdout=log, stderr=log, cwd=self.folder, env=os.environ | environment
        )
        self.processes.append((name, process))
        return process

    def wait_for(self, name, path, seconds=30):
        """Waits until `path` of a service answers."""
        until = time.time() + seconds
        while time.time() < until:
            try:
                with urllib.request.urlopen(self.url(name) + path, timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        log = self.folder / f"{name}.log"
        said = log.read_text(errors="replace")[-2000:] if log.is_file() else ""
        raise RuntimeError(f"{name} does not answer at {path} after {seconds} s\n{said}")

    def __enter__(self):
        try:
            self.open()
        except BaseException:
            self.__exit__()
            raise
        return self

    def open(self):
        # 1. the exporters: two servers with a token, GPUs made up by our own program, and what needs a GPU
        self.token = os.urandom(16).hex()
        (self.folder / "token").write_text(self.token)
        self.start_server("server", "--max-queue", 4000)
        self.start_server("small", "--max-queue", 10)
        self.start("gpus", [self.target / "dgx-pixels", "metrics", "--source", "demo", "--bind", self.address("gpus")])
        self.engine, self.spark = exporter.Machine("engine"), exporter.Machine("spark")
        exporter.serve(self.engine, ("127.0.0.1", self.ports["engine"]))
        exporter.serve(self.spark, ("127.0.0.1", self.ports["spark"]))
        self.start("node", [program("node_exporter"), f"--web.listen-address={self.address('node')}"])

        # 2. Alertmanager, with a webhook of our own
        self.webhook = Webhook(self.ports["webhook"])
        routes = self.folder / "alertmanager.yml"
        routes.write_text(alertmanager_config(files.ALERTMANAGER.read_text(), self.url("webhook")))
        self.start(
            "alertmanager",
            [
                program("alertmanager"),
                f"--config.file={routes}",
                f"--storage.path={self.folder / 'alertmanager'}",
                f"--web.listen-address={self.address('alertmanager')}",
                "--cluster.listen-address=",
            ],
        )

        # 3. Prometheus, with the files as they are in the repository, but for the addresses and the token
        home = self.folder / "prometheus-config"
        targets = {
            "dgx-pixels": ["server", "small"],
            "dgx-pixels-gpu": ["gpus", "spark", "engine"],
            "node": ["node"],
            "prometheus": ["prometheus"],
            "alertmanager": ["alertmanager"],
        }
        named = {job: [named_target(self.address(name), name) for name in names] for job, names in targets.items()}
        copy_config(home, named, self.token)
        for name, path in [
            ("server", "/healthz"),
            ("small", "/healthz"),
            ("gpus", "/healthz"),
            ("node", "/"),
            ("alertmanager", "/-/ready"),
        ]:
            self.wait_for(name, path)
        self.start(
            "prometheus",
            [
                program("prometheus"),
                f"--config.file={home / 'prometheus.yml'}",
                f"--storage.tsdb.path={self.folder / 'tsdb'}",
                "--storage.tsdb.retention.time=30d",
                f"--web.listen-address={self.address('prometheus')}",
            ],
        )
        self.wait_for("prometheus", "/-/ready")
        self.began = time.time()

    def start_server(self, name, *flags):
        arguments = [self.target / "dgx-pixels-mcp", "http", "--bind", self.address(name), "--model", "sketch"]
        arguments += ["--library", self.folder / f"{name}-library", "--token-file", self.folder / "token", *flags]
        self.start(name, arguments, XDG_STATE_HOME=str(self.folder / f"{name}-state"), DGX_PIXELS_LOG="warn")

    def __exit__(self, *_):
        for _, process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for _, process in reversed(self.processes):
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()

    def ended(self):
        """The names of programs that ended by themselves."""
        return [name for name, process in self.processes if process.poll() is not None]

    def query(self, expr, at=None):
        """The series of an expression at one time, as (labels, [(time, value)])."""
        answer = get(self.url("prometheus") + "/api/v1/query", {"query": expr, "time": at or time.time()})
        if answer.get("status") != "success":
            raise ValueError(f"{answer.get('error')} in {expr}")
        return [(series["metric"], [series["value"]]) for series in answer["data"]["result"]]

    def query_range(self, expr, start, end, step=SCRAPE_SECONDS):
        answer = get(
            self.url("prometheus") + "/api/v1/query_range", {"query": expr, "start": start, "end": end, "step": step}
        )
        if answer.get("status") != "success":
            raise ValueError(f"{answer.get('error')} in {expr}")
        return [(series["metric"], series["values"]) for series in answer["data"]["result"]]


def named_target(address, name):
    """An entry of a file of targets that gives the target a name, which dashboards and alerts then say."""
    return {"targets": [address], "labels": {"instance": name}}


def copy_config(home, targets, token):
    """The folder of Prometheus' configuration with these entries of targets by job, and this token."""
    shutil.copytree(files.PROMETHEUS, home, ignore=shutil.ignore_patterns("secrets", "tests", "targets.compose"))
    (home / "secrets").mkdir()
    (home / "secrets/dgx_pixels_token").write_text(token + "\n")
    for job, entries in targets.items():
        (home / f"targets/{job}.yml").write_text(json.dumps(entries))
