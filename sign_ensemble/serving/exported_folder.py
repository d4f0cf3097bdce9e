"""The folder that an export writes: what marks it, and where one may be written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

from sign_ensemble.core.errors import UserError
from sign_ensemble.core.storage import StoragePath

Format = Literal["onnx", "torch"]
MADE_BY = "sign_ensemble.export"  # what self-test.json of every export says
SELF_TEST, LABELS = "self-test.json", "labels.json"


def is_export(folder: Path) -> bool:
    """Whether an export was written there, complete."""
    try:
        content: Any = json.loads((folder / SELF_TEST).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("made_by") == MADE_BY


def check_destination(out: StoragePath) -> Path:
    """The folder that an export is written to: new, empty, or an earlier export, which is replaced.

    Raises:
        UserError: it is none of these, or not on this machine.
    """
    if not isinstance(out, Path):
        raise UserError(
            f"--out is {out}: it must be a folder of this machine; copy it from there afterwards"
        )
    if out.exists() and not out.is_dir():
        raise UserError(f"--out is {out}: it is a file; it must be a folder")
    if os.path.ismount(out):
        raise UserError(
            f"--out is {out}: it is a mount point and cannot be replaced; name a folder in it"
        )
    try:
        taken = out.is_dir() and any(out.iterdir())
    except OSError as fault:
        raise UserError(f"--out is {out}: it cannot be read ({fault.strerror})") from None
    if taken and not is_export(out):
        raise UserError(
            f"--out is {out}: it is neither empty nor an earlier export; name a new folder"
        )
    return out
