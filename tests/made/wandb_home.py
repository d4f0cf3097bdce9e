"""An environment for wandb without key, settings or caches."""

from __future__ import annotations

import os
import socket
from pathlib import Path

KEY = "0" * 40


def wandb_environment(home: Path) -> dict[str, str]:
    """The environment without the settings of the person who runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    folders = {
        f"WANDB_{name}_DIR": str(home / name.lower()) for name in ("CONFIG", "CACHE", "DATA")
    }
    return {**kept, **folders, "NETRC": str(home / "netrc"), "WANDB_ERROR_REPORTING": "false"}


def closed_port() -> dict[str, str]:
    """A key, and the address of a server where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return {"WANDB_BASE_URL": f"http://127.0.0.1:{port}", "WANDB_API_KEY": KEY}
