"""The package of an exported folder answers images by itself, as this package does."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rendered_hands import FOUND, flipped, rendered_hand
from stub_exports import LABELS, write_stub

from sign_ensemble import load_ensemble
from sign_ensemble.core import numpy_resampling
from sign_ensemble.data import square_pictures
from sign_ensemble.data.hand_views import HandViews, look
from sign_ensemble.data.square_pictures import fit_square
from sign_ensemble.hands import hand_crop, network_inputs
from sign_ensemble.hands.hand_networks import HAND_FILE, PALM_FILE
from sign_ensemble.serving.export_metadata import ExportedSettings
from sign_ensemble.serving.runtime_package import RUNTIME, runtime_files, write_runtime

ITS_OWN = {"numpy", "PIL", "onnxruntime", "pillow_heif", RUNTIME}  # pillow_heif: where it is there
REFUSED = (
    "cv2", "filelock", "jinja2", "jsonargparse", "matplotlib", "onnx", "optuna", "pyarrow", "ray",
    "rich", "safetensors", "scipy", "sign_ensemble", "skimage", "sklearn", "torch", "wandb", "yaml",
)  # fmt: skip
# Run in the exported folder: prints what is answered, and which refused modules were wanted.
PROGRAM = """
import json, sys
from dataclasses import asdict

class Refuse:
    wanted = []
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in REFUSED:
            self.wanted.append(name)
            raise ImportError(f"{name} is refused")

sys.meta_path.insert(0, Refuse())
sys.path.insert(0, FOLDER)
import sign_ensemble_runtime as runtime
try:
    ensemble = runtime.load_ensemble()
except runtime.UserError as fault:
    sys.exit(f"error: {fault}")
found = [asdict(each) for each in ensemble.predict(IMAGES)]
print(json.dumps([found, ensemble.labels, ensemble.card, Refuse.wanted]))
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported folder with its runtime, and pictures; read only."""
    folder = tmp_path_factory.mktemp("exported")
    write_stub(folder)
    write_runtime(folder)
    (folder / "README.md").write_text("a card")
    Image.fromarray(rendered_hand("b")).save(folder / "b.png")
    Image.fromarray(flipped(rendered_hand("v"))).resize((640, 480)).save(folder / "v.jpg")
    Image.fromarray(np.full((90, 70, 3), 200, np.uint8)).save(folder / "blank.bmp")
    (folder / "no.png").write_text("no picture")
    return folder


def run(folder: Path, images: list[Path]) -> subprocess.CompletedProcess[str]:
    known = f"REFUSED, FOLDER, IMAGES = {REFUSED}, {str(folder)!r}, {[*map(str, images)]}"
    program = f"{known}\n{PROGRAM}"
    return subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", program], capture_output=True, text=True,
        check=False, cwd=folder,
    )  # fmt: skip


def test_it_answers_without_the_libraries_of_this_package(exported: Path) -> None:
    """And to the last bit as this package does with OpenCV and torch."""
    images = [exported / name for name in ("b.png", "v.jpg", "blank.bmp", "no.png")]
    ran = run(exported, images)
    assert ran.returncode == 0, ran.stderr
    found, labels, card, wanted = json.loads(ran.stdout)
    expected: list[Any] = json.loads(
        json.dumps([asdict(each) for each in load_ensemble(exported).predict(images)])
    )
    assert found == expected
    assert [each["label"] for each in found] == ["b", "b", None, None]
    assert [bool(each["hand"]) for each in found] == [True, True, False, False]
    assert found[3]["error"] == "not an image of a known format"
    assert (tuple(labels), card, wanted) == (LABELS, "a card", [])


@pytest.mark.parametrize("file", [PALM_FILE, HAND_FILE])
@pytest.mark.parametrize("kind", ["missing", "changed"])
def test_its_hand_networks_are_checked(file: str, kind: str, tmp_path: Path) -> None:
    write_stub(tmp_path)
    write_runtime(tmp_path)
    network = tmp_path / RUNTIME / "weights" / file
    if kind == "missing":
        network.unlink()
        reason = "cannot be read (No such file or directory); "
    else:
        network.write_bytes(network.read_bytes()[:-1] + b"\0")
        reason = "damaged (its sha256 is "
    ran = run(tmp_path, [])
    assert ran.returncode == 1
    assert ran.stderr.startswith(f"error: {network}: {reason}")
    assert len(ran.stderr.splitlines()) == 1


def test_its_files_import_three_libraries_at_most() -> None:
    written = runtime_files()
    for name, content in written.items():
        if not name.endswith(".py"):
            continue
        for node in ast.walk(ast.parse(content)):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            for module in modules:
                first, *rest = module.split(".")
                assert first in ITS_OWN | sys.stdlib_module_names, f"{name} imports {module}"
                if first == RUNTIME:
                    ways = {"/".join(rest[:end]) for end in range(1, len(rest) + 1)}
                    assert {f"{way}.py" for way in ways} & set(written), f"{name}: {module}"


def test_nothing_of_an_earlier_runtime_is_half_replaced(tmp_path: Path) -> None:
    write_runtime(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    write_runtime(tmp_path)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert before == after
    assert set(runtime_files()) == {
        path.relative_to(tmp_path / RUNTIME).as_posix() for path in after
    }


def seen(settings: ExportedSettings) -> HandViews:
    """What is seen of hands in pictures of several sizes and shapes."""
    shown = [rendered_hand(label) for label in FOUND]
    shown[1] = flipped(shown[1])
    shown[2] = shown[2][:, 40:280]
    shown[3] = np.pad(shown[3], ((300, 100), (500, 400), (0, 0)), mode="edge")
    shown[4] = np.ascontiguousarray(shown[4][::2, ::2])
    side = square_pictures.picture_side(settings)
    return look(np.stack([fit_square(each, side, "pad") for each in shown]), settings)


@pytest.mark.parametrize("size", [96, 224])
def test_hands_by_numpy_are_those_by_opencv(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ExportedSettings(size, "hand", "pad", "normalise", 64_000_000, 16)
    expected = seen(settings)
    assert expected.hands.found_N.all() and expected.mirrored_N.any()
    for module in (square_pictures, network_inputs, hand_crop):
        for name in ("resize_linear", "resize_area", "resize_antialiased", "warp_affine"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, getattr(numpy_resampling, name))
    found = seen(settings)
    assert np.array_equal(found.hands.values_ND, expected.hands.values_ND)
    assert np.array_equal(found.crops_NHW3, expected.crops_NHW3)
