"""A Docker engine for a check: the one that is there, or one of our own that ends with us."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BASE = "debian:bookworm-slim"


class NoEngine(Exception):
    """No Docker engine runs here, and none can be started."""


def run(*command, check=True, timeout=600, **more):
    """Runs a program, and returns what it did. Its output is in the error if it fails."""
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, errors="replace", timeout=timeout, **more
    )
    if check and done.returncode:
        raise RuntimeError(f"`{' '.join(map(str, command))[:200]}` ended with {done.returncode}: {said(done)[-2000:]}")
    return done


def said(done):
    return (done.stdout + done.stderr).strip()


class Engine:
    """Use it with `with`. `folder` is for an engine of our own."""

    def __init__(self, folder):
        self.folder = folder
        self.daemon = None
        self.environment = os.environ | {"DOCKER_BUILDKIT": "1", "BUILDKIT_PROGRESS": "plain"}
        self.program = None

    def __enter__(self):
        try:
            self.program = builder()
            if run(self.program, "info", check=False).returncode:
                self.start()
            self.version = self.docker("version", "--format", "{{.Server.Version}}").stdout.strip()
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self):
        if os.geteuid() != 0:
            raise NoEngine("no Docker engine answers, and only root can start one")
        if not shutil.which("dockerd"):
            install("docker.io")
        self.program = builder()
        socket = f"unix://{self.folder}/docker.sock"
        self.environment["DOCKER_HOST"] = socket
        log = open(self.folder / "dockerd.log", "wb")
        command = ["dockerd", f"--host={socket}", f"--data-root={self.folder}/data", f"--exec-root={self.folder}/exec"]
        self.daemon = subprocess.Popen([*command, f"--pidfile={self.folder}/pid"], stdout=log, stderr=log)
        until = time.monotonic() + 30
        while self.docker("info", check=False).returncode:
            if self.daemon.poll() is not None or time.monotonic() > until:
                words = (self.folder / "dockerd.log").read_text(errors="replace").strip().splitlines()
                raise NoEngine(f"dockerd does not start: {words[-1] if words else 'it says nothing'}")
            time.sleep(0.3)

    def __exit__(self, *_):
        if self.daemon and self.daemon.poll() is None:
            self.daemon.terminate()
            try:
                self.daemon.wait(30)
            except subprocess.TimeoutExpired:
                self.daemon.kill()

    def docker(self, *arguments, check=True, timeout=600):
        return run(self.program, *arguments, check=check, timeout=timeout, env=self.environment)

    def inspect(self, name):
        return json.loads(self.docker("inspect", name).stdout)[0]

    def base(self):
        """Sees to it that Debian's image is there: by a pull, or made of its packages."""
        if self.docker("image", "inspect", BASE, check=False).returncode == 0:
            return
        if self.docker("pull", "--quiet", BASE, check=False, timeout=120).returncode == 0:
            return
        if not shutil.which("debootstrap"):
            install("debootstrap")
        tree = self.folder / "base"
        run("debootstrap", "--variant=minbase", "bookworm", tree)
        # What Debian leaves out of its own image too.
        for left_out in (
            "var/cache/apt/archives",
            "var/lib/apt/lists",
            "usr/share/doc",
            "usr/share/man",
            "usr/share/locale",
        ):
            shutil.rmtree(tree / left_out)
            (tree / left_out).mkdir()
        packed = subprocess.Popen(["tar", "-C", str(tree), "-c", "."], stdout=subprocess.PIPE)
        run(self.program, "import", "-", BASE, stdin=packed.stdout, env=self.environment)
        if packed.wait():
            raise RuntimeError("`tar` cannot read the base image")
        shutil.rmtree(tree)

    def build(self, target, tag, *more, file="Dockerfile", context=ROOT):
        """Builds an image, and returns its bytes."""
        self.docker("build", "--file", ROOT / file, "--target", target, "--tag", tag, *more, context, timeout=3600)
        return int(self.docker("image", "inspect", "--format", "{{.Size}}", tag).stdout)


def builder():
    """The `docker` that can build with BuildKit."""
    found = [path for path in (shutil.which("docker"), "/usr/bin/docker") if path and Path(path).exists()]
    for path in found:
        version = run(path, "version", "--format", "{{.Client.Version}}", check=False).stdout.strip()
        # From 23 on, building needs a plugin.
        if version.startswith("20.") or run(path, "buildx", "version", check=False).returncode == 0:
            return path
    return found[0] if found else "docker"


def install(package):
    """Installs a package of Debian's."""
    if not shutil.which("apt-get"):
        raise NoEngine(f"`{package}` is not installed")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", "-qq", env=environment)
    run("apt-get", "install", "-y", "-qq", "--no-install-recommends", package, env=environment)
