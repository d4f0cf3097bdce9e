"""Shared fixtures: the environment, one Ray, and a small data set of drawn shapes."""

from __future__ import annotations

import importlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_runs import make_run
from PIL import Image, ImageDraw

from sign_ensemble.core.ray_cluster import ENVIRONMENT

# Before any test module imports ray or wandb, and for the processes that tests start.
os.environ.update(ENVIRONMENT)
os.environ["RAY_ADDRESS"] = "local"  # never a cluster that runs on this machine
os.environ["WANDB_SILENT"] = "true"
# Tests run in parallel: a thread that waits for another gives up its core.
os.environ["OMP_WAIT_POLICY"] = "passive"

SIDE = 96
LABELS = ("bar", "cross", "disc", "triangle", "wave")
LOOKS = {  # signer: skin colour, size as a share of the side, tilt in degrees
    "ada": ((141, 85, 36), 0.34, -12.0),
    "ben": ((198, 134, 66), 0.28, 9.0),
    "cleo": ((224, 172, 105), 0.31, 0.0),
    "dan": ((241, 194, 165), 0.25, 15.0),
}
IMAGES = 6
SCALE = 4  # drawn larger, then reduced: smooth edges
_BUCKETS = count()
LONGEST = ("test_tuned.py", "test_uninterrupted.py")  # each begins with a run that its tests share

pytest.register_assert_rewrite("small_runs", "started_commands")  # their asserts show values too


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first: two of tests/tune, then the rest of that folder."""
    items.sort(key=lambda item: (item.path.name not in LONGEST, item.path.parent.name != "tune"))


@pytest.fixture(scope="session")
def ray_ended() -> Iterator[None]:
    """Ends the Ray of this test run with it."""
    yield
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()


@pytest.fixture(scope="module")
def ray_two_cpus(ray_ended: None) -> None:
    """A Ray of this test run, on two CPUs; started anew where another module has ended it."""
    import ray

    if not ray.is_initialized():
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One torch thread: for small products and images it is faster than several."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def exact_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Distances are computed as on a CPU without bf16 products."""
    from sign_ensemble.core import bf16_products

    monkeypatch.setattr(bf16_products, "bf16_is_fast", lambda device: False)


@pytest.fixture
def rounded_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Distances are computed as on a CPU with bf16 products."""
    from sign_ensemble.core import bf16_products

    monkeypatch.setattr(bf16_products, "bf16_is_fast", lambda device: True)


@pytest.fixture(scope="session")
def torchvision_loads() -> Iterator[None]:
    """Make torchvision importable even if its compiled operators do not load.

    PyPI's torchvision is built for CUDA. With a CPU build of torch, importing it (and so
    torchmetrics and pytorch_ood) stops at two operators of which only the names are needed.
    """
    import torch

    library: Any = torch.library.Library
    names: Any = None
    try:
        importlib.import_module("torchvision")
    except ModuleNotFoundError:
        pass
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        names = library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            names.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    yield
    del names  # kept until here, so that the names stay registered


@pytest.fixture(scope="session")
def signs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 images, ``<signer>/<label>/<n>.png``: 4 signers, 5 labels, 6 images each. Read only.

    The label is the shape (bar, cross, disc, triangle, wave); the signer decides colour, size and
    tilt; images differ in position, rotation and noise. ``wave`` serves as a near label.
    """
    root = tmp_path_factory.mktemp("signs")
    for s, signer in enumerate(LOOKS):
        for c, label in enumerate(LABELS):
            folder = root / signer / label
            folder.mkdir(parents=True)
            for n in range(IMAGES):
                drawn = _sign(label, signer, np.random.default_rng([s, c, n]))
                drawn.save(folder / f"{n}.png")
    return root


def _sign(label: str, signer: str, rng: np.random.Generator) -> Image.Image:
    """One shape on white."""
    colour, size, tilt = LOOKS[signer]
    side = SIDE * SCALE
    image = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(image)
    for outline in _outlines(label):
        draw.polygon([side * (0.5 + size * v) for point in outline for v in point], colour)
    right, down = (int(side * share) for share in rng.uniform(-0.08, 0.08, 2))
    image = image.rotate(
        tilt + rng.uniform(-8, 8),
        resample=Image.Resampling.BILINEAR,
        translate=(right, down),
        fillcolor="white",
    ).resize((SIDE, SIDE), Image.Resampling.BOX)
    noisy = np.asarray(image) + rng.normal(0, 4, (SIDE, SIDE, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def _outlines(label: str) -> list[list[tuple[float, float]]]:
    """The shape's polygons, within -1 to 1."""
    bar = [(-1.0, -0.25), (1.0, -0.25), (1.0, 0.25), (-1.0, 0.25)]
    turns = np.linspace(0, 2 * np.pi, 60)
    top = [(t / np.pi - 1, 0.6 * np.sin(2 * t) - 0.2) for t in turns]
    return {
        "bar": [bar],
        "cross": [bar, [(y, x) for x, y in bar]],
        "disc": [[(np.cos(t), np.sin(t)) for t in turns]],
        "triangle": [[(0.0, -1.0), (0.9, 0.8), (-0.9, 0.8)]],
        "wave": [top + [(x, y + 0.4) for x, y in reversed(top)]],
    }[label]


@pytest.fixture(scope="session")
def drawn_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes evaluated runs of random numbers, each in its own folder."""

    def make(name: str, *rest: Any, **more: Any) -> Path:
        return make_run(tmp_path_factory.mktemp("drawn") / name, *rest, **more)

    return make


@pytest.fixture(scope="session")
def wide_run(drawn_run: Callable[..., Path]) -> Path:
    """An evaluated run of 50 trials and 2,500 images."""
    sizes = {"known": ("known", 520), "gestures": ("near", 230)}
    sizes |= {f"far-{i}": ("far", 350) for i in range(5)}
    return drawn_run("wide", 50, sizes)


@dataclass(frozen=True)
class S3:
    """An S3 server of this test run, with one bucket."""

    port: int
    bucket: str

    @property
    def uri(self) -> str:
        """The bucket's URI, with the options that pyarrow needs to find the server."""
        return f"s3://{self.bucket}?region=us-east-1&endpoint_override=http://127.0.0.1:{self.port}"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[int]:
    """The port of an S3 server, a process that listens on the loopback address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    silent = subprocess.DEVNULL
    server = subprocess.Popen(command, stdin=silent, stdout=silent, stderr=silent)
    try:
        for _ in range(600):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            assert server.poll() is None, "the S3 server ended"
            time.sleep(0.1)
        yield port
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def s3(s3_server: int, monkeypatch: pytest.MonkeyPatch) -> S3:
    """A new bucket; processes started by the test inherit the credentials."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anyone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "is let in")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    bucket = f"bucket-{next(_BUCKETS)}"
    where = f"http://127.0.0.1:{s3_server}/{bucket}"
    with urllib.request.urlopen(urllib.request.Request(where, method="PUT")) as answer:
        assert answer.status == 200
    return S3(s3_server, bucket)
