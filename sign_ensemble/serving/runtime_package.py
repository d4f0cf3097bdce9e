"""The package of an exported folder that answers images: some of this package's own files."""

from __future__ import annotations

import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from sign_ensemble.core.atomic_files import atomic_write
from sign_ensemble.hands.hand_networks import HAND_FILE, PALM_FILE, checked

RUNTIME = "sign_ensemble_runtime"
COPIED = (
    "core/errors.py",
    "core/onnx_session.py",
    "core/threads.py",
    "data/file_kinds.py",
    "data/hand_views.py",
    "data/images.py",
    "data/square_pictures.py",
    "hands/finder.py",
    "hands/hand_crop.py",
    "hands/hand_networks.py",
    "hands/hand_region.py",
    "hands/landmark_features.py",
    "hands/network_inputs.py",
    "hands/palm_detection.py",
    "rejection/votes.py",
    "serving/answered_images.py",
    "serving/export_metadata.py",
    "serving/given_images.py",
    "serving/loaded_ensemble.py",
    "serving/onnx_backend.py",
    "serving/predictions.py",
    "py.typed",
)
# Name in the folder's package → the file that it is a copy of.
OTHERWISE = {
    "__init__.py": "serving/exported_ensemble.py",
    "core/resampling.py": "core/numpy_resampling.py",
}
FOLDERS = ("core", "data", "hands", "rejection", "serving")
_PACKAGE = re.compile(r'^(\s*(?:from|import) |.*\bfiles\(")sign_ensemble\b', re.MULTILINE)


def runtime_files() -> dict[str, bytes]:
    """Each file of the package that answers images: its path below ``sign_ensemble_runtime``, and
    its content.

    Raises:
        UserError: a hand network is missing or damaged.
    """
    package = files("sign_ensemble")
    origins = {name: name for name in COPIED} | OTHERWISE
    found = {name: _renamed(package.joinpath(origin)) for name, origin in origins.items()}
    for folder in FOLDERS:
        found[f"{folder}/__init__.py"] = _renamed(package.joinpath(folder, "__init__.py"))
    for network in (PALM_FILE, HAND_FILE):
        found[f"weights/{network}"] = checked(network)
    return found


def write_runtime(folder: Path) -> None:
    """Write the package that answers images into an exported folder.

    Raises:
        UserError: a hand network is missing or damaged, or the folder cannot be written.
    """
    for name, content in runtime_files().items():
        with atomic_write(folder / RUNTIME / name) as file:
            file.write_bytes(content)


def _renamed(file: Traversable) -> bytes:
    """A file's text, its imports from the folder's package."""
    return _PACKAGE.sub(rf"\g<1>{RUNTIME}", file.read_text(encoding="utf-8")).encode()
