"""The embedded model, and torch beside it. Skipped where torch is missing."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from conftest import PACKAGES, Run

import dgx_pixels as dp
from dgx_pixels import errors

OBJECT = "libdgx_pixels_torch.so"


@pytest.fixture(scope="session")
def library() -> Path:
    """The object that needs libtorch; it can be there without torch."""
    named = os.environ.get("DGX_PIXELS_TORCH", "")
    for path in (Path(named), Path(named) / OBJECT, PACKAGES / "dgx_pixels" / OBJECT):
        if path.is_file():
            return path
    pytest.skip(f"`{OBJECT}` is not built; run `make torch`, and name it in `DGX_PIXELS_TORCH`")


def test_the_embedded_model_draws(sprite_xl: dp.Engine) -> None:
    sprite = sprite_xl.generate("a green slime", seed=7, steps=4)
    assert sprite.size == (32, 32)
    assert len(sprite.palette) > 1
    assert sprite.provenance is not None
    assert sprite.provenance["model"] == "sprite-xl"
    assert sprite.provenance["libtorch"] is not None
    assert sprite == sprite_xl.generate("a green slime", seed=7, steps=4)


def test_torch_shares_the_sprites_memory(sprite_xl: dp.Engine) -> None:
    import numpy as np
    import torch

    sprite = sprite_xl.generate("a green slime", seed=7, steps=2)
    tensor = torch.from_dlpack(sprite)
    assert tensor.data_ptr() == sprite.array.ctypes.data
    tensor[0, 0] = 99
    assert (sprite.array[0, 0] == 99).all()
    assert np.array_equal(tensor.numpy(), sprite.array)
    assert torch.from_numpy(sprite.array).data_ptr() == tensor.data_ptr()
    assert dp.pixelize(tensor).width > 0  # type: ignore[arg-type]


def test_latents_are_arrays_without_a_copy(sprite_xl: dp.Engine) -> None:
    import numpy as np
    import torch

    image = sprite_xl.generate("a green slime", seed=7, steps=2, raw=True, latents=True)
    assert image.latents is not None
    assert image.latents.shape == (4, 32, 32) and image.latents.dtype == np.float32
    assert np.isfinite(image.latents).all()
    tensor = torch.from_dlpack(image.latents)
    assert tensor.data_ptr() == image.latents.ctypes.data
    tensor.mul_(2)
    latents = sprite_xl.latents("a green slime", seed=7, steps=2)
    assert np.array_equal(2 * latents[0], image.latents)
    with pytest.raises(dp.InvalidRequestError), dp.Engine("sketch") as engine:
        engine.latents("a green slime")


#: A training loop of a few seconds, seeded; its result is its weights' bits.
TRAINING = """
import hashlib
import sys
import threading

import torch


def state():
    return (
        torch.get_num_threads(),
        torch.get_num_interop_threads(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_default_dtype(),
        torch.get_float32_matmul_precision(),
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.enabled,
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.allow_tf32,
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.mkldnn.enabled,
        torch.random.get_rng_state().tolist(),
    )


def train():
    torch.manual_seed(1)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(1568, 10)
    )
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(STEPS):
        loss = torch.nn.functional.cross_entropy(
            model(torch.randn(16, 3, 16, 16)), torch.randint(0, 10, (16,))
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    weights = b"".join(p.detach().numpy().tobytes() for p in model.parameters())
    return hashlib.sha256(weights).hexdigest()
"""


def test_training_beside_an_engine_gives_the_same_bits(with_torch: None, run: Run) -> None:
    code = (
        TRAINING.replace("STEPS", "60")
        + """
before, alone = state(), train()

import dgx_pixels as dp

torch.manual_seed(1)
before = state()
engine = dp.Engine("sprite-xl")
stop = threading.Event()
begun = threading.Event()
drawn = []


def draw():
    while not stop.is_set():
        for event in engine.submit("a green slime", seed=7, steps=12):
            if isinstance(event, dp.Step):
                begun.set()
        drawn.append(1)


thread = threading.Thread(target=draw)
thread.start()
begun.wait()
torch.manual_seed(1)
assert state() == before, (state(), before)
beside = train()
stop.set()
thread.join()
torch.manual_seed(1)
assert state() == before, (state(), before)
engine.close()
torch.manual_seed(1)
assert state() == before, (state(), before)
assert beside == alone
assert train() == alone
assert drawn
"""
    )
    done = run(code, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


ORDERS = {
    "alone": "draw()",
    "before torch": "draw(); import torch; check(); draw()",
    "after torch": "import torch; draw()",
    "loaded before torch": "engine = dp.Engine('sprite-xl', preload=True); import torch; draw()",
}


@pytest.mark.parametrize("order", ORDERS)
def test_there_is_one_libtorch_in_any_order(order: str, with_torch: None, run: Run) -> None:
    code = f"""
import os
import sys

import dgx_pixels as dp


def mapped(name):
    with open("/proc/self/maps") as file:
        paths = {{line.split(maxsplit=5)[5].strip() for line in file if name in line}}
    return sorted(os.path.realpath(path) for path in paths)


def check():
    for name in ("/libtorch_cpu", "/libc10.so", "/libgomp"):
        assert len(mapped(name)) == 1, (name, mapped(name))


def draw():
    with dp.Engine("sprite-xl") as engine:
        assert engine.generate("a green slime", seed=7, steps=1).width > 0
    check()


{ORDERS[order]}
check()
if "torch" in sys.modules:
    assert torch.randn(64, 64).matmul(torch.randn(64, 64)).isfinite().all()
"""
    done = run(code, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_ends_a_wait_for_the_embedded_model(with_torch: None, tmp_path: Path) -> None:
    from test_process import PROMPT, interrupt

    code = """
    engine = dp.Engine("sprite-xl")
    job = engine.submit("a green slime", steps=1000)
    for event in job:
        if isinstance(event, dp.Step):
            break
    ready()
    job.result()
    """
    assert interrupt(code, tmp_path) < PROMPT


def test_the_interpreter_exits_while_the_embedded_model_draws(with_torch: None, run: Run) -> None:
    code = """
import time

import dgx_pixels as dp

engine = dp.Engine("sprite-xl", max_batch=2)
jobs = engine.submit_all(["a green slime"] * 20, steps=1000)
for event in jobs[0]:
    if isinstance(event, dp.Step):
        break
print(time.monotonic(), flush=True)
"""
    done = run(code, timeout=60)
    ended = time.monotonic()
    assert (done.returncode, done.stderr) == (0, "")
    assert ended - float(done.stdout) < 5


DRAW = """
import dgx_pixels as dp

try:
    with dp.Engine("sprite-xl", preload=PRELOAD) as engine:
        engine.generate("a green slime", steps=1)
except ImportError as error:
    assert isinstance(error, dp.errors.LibtorchUnavailableError)
    print(error)
# Everything else works.
assert dp.generate("a green slime", model="sketch").width > 0
"""


def bare(folder: Path, library: Path) -> dict[str, str]:
    """Returns variables of an environment in which no torch is found: neither beside a copy of the
    package, nor above it.
    """
    package = Path(dp.__file__).parent
    ignored = shutil.ignore_patterns("models", "__pycache__")
    shutil.copytree(package, folder / "packages" / "dgx_pixels", ignore=ignored)
    [model] = [model for model in dp.models() if model.name == "sprite-xl"]
    return {
        "PYTHONPATH": str(folder / "packages"),
        "DGX_PIXELS_MODELS": model.path,
        "DGX_PIXELS_TORCH": shutil.copy(library, folder),
        "LIBTORCH": "",
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
        "PATH": "",
        "VIRTUAL_ENV": "",
        "CONDA_PREFIX": "",
    }


@pytest.fixture
def models() -> None:
    if "sprite-xl" not in {model.name for model in dp.models()}:
        pytest.skip("the embedded model `sprite-xl` is not found; set `DGX_PIXELS_MODELS`")


@pytest.mark.parametrize("preload", ["True", "False"])
def test_no_torch_is_an_import_error_that_says_what_to_do(
    preload: str, models: None, library: Path, run: Run, tmp_path: Path
) -> None:
    done = run(DRAW.replace("PRELOAD", preload), **bare(tmp_path, library))
    assert (done.returncode, done.stderr) == (0, "")
    assert "no libtorch 2.11.0 is found" in done.stdout
    assert "`dgx-pixels setup`" in done.stdout


def test_another_torch_is_an_import_error_with_both_versions(
    models: None, library: Path, run: Run, tmp_path: Path
) -> None:
    torch = tmp_path / "torch"
    (torch / "lib").mkdir(parents=True)
    (torch / "lib" / "libtorch_cpu.so").touch()
    (torch / "version.py").write_text("__version__ = '2.9.1+cpu'\n")
    variables = {**bare(tmp_path, library), "LIBTORCH": str(torch)}
    done = run(DRAW.replace("PRELOAD", "False"), **variables)
    assert (done.returncode, done.stderr) == (0, "")
    assert "2.9.1" in done.stdout and "expected 2.11.0" in done.stdout


def test_a_missing_object_is_an_import_error(models: None, run: Run, tmp_path: Path) -> None:
    done = run(DRAW.replace("PRELOAD", "False"), DGX_PIXELS_TORCH=str(tmp_path / "nothing.so"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing.so" in done.stdout


def test_a_model_that_fails_to_load_fails_its_jobs(
    sprite_xl: dp.Engine, run: Run, tmp_path: Path
) -> None:
    [found] = [model for model in dp.models() if model.name == "sprite-xl"]
    folder = tmp_path / "broken"
    shutil.copytree(found.path, folder, symlinks=False)
    for path in (folder / "unet").iterdir():
        if path.suffix == ".safetensors":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(errors.InvalidModelError) as caught:
        with dp.Engine(folder) as engine:
            engine.generate("a green slime", steps=1)
    assert "broken" in str(caught.value)


def test_a_device_that_is_not_there_is_named(with_torch: None) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises((errors.DeviceUnavailableError, dp.InvalidRequestError), match="cuda"):
        with dp.Engine("sprite-xl", device="cuda:0") as engine:
            engine.generate("a green slime", steps=1)
