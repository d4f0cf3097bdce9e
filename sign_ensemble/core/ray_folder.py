"""The folder for the files of a new Ray: its sockets need a short path that can be written."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from pathlib import Path

from sign_ensemble.core.console import say
from sign_ensemble.core.errors import UserError

SOCKETS = "session_2026-12-31_23-59-59_123456_4194304/sockets/plasma_store"  # at most so long
LONGEST = 107 if sys.platform.startswith("linux") else 103  # bytes of a socket's path
MOST = LONGEST - len(f"/{SOCKETS}")
OTHERS = ("/tmp", "/var/tmp", "/dev/shm")


def ray_folder() -> Path | None:
    """None where Ray's own folder can be used, below RAY_TMPDIR or TMPDIR; else another one of this
    user, which the user is told.

    Raises:
        UserError: there is none.
    """
    linux = sys.platform.startswith("linux")
    below = os.environ.get("RAY_TMPDIR", os.environ.get("TMPDIR", "/tmp") if linux else "/tmp")
    own = Path(below) / "ray"
    if not (reason := why_unfit(own)):
        return None
    for other in OTHERS:
        folder = Path(other) / f"ray-{os.getuid()}"
        if not why_unfit(folder, private=True):
            say(f"Ray's files are in {folder}, since {own} cannot be used: {reason}")
            return folder
    raise UserError(
        f"{own} cannot be used for Ray's files: {reason}; set RAY_TMPDIR to a folder that you can "
        f"write, with a path of at most {MOST - len('/ray')} bytes"
    )


def why_unfit(folder: Path, private: bool = False) -> str:
    """Why Ray cannot keep its sockets below a folder, which is made if it is not there; "" if it
    can. A ``private`` one must belong to this user.
    """
    if not folder.is_absolute():
        return "it is not a path from /"
    if len(os.fsencode(folder)) > MOST:
        return f"its path is longer than {MOST} bytes, which Ray's sockets leave"
    probe = folder / f".socket-{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if private and folder.lstat().st_uid != os.getuid():
            return "it belongs to another user"
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(str(probe))
        probe.unlink()
    except OSError as fault:
        return fault.strerror or str(fault)
    return ""
