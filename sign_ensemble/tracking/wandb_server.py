"""W&B's server: whether it can be asked, and whether it may be; and wandb's process that asks."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

if TYPE_CHECKING:
    from wandb import Settings

MODES = ("online", "offline", "disabled")  # from the most to the least that is sent
KNOCK_SECONDS = 5.0


def stricter(configured: str, asked: str | None) -> str:
    """The one of two modes that sends less; ``asked`` is WANDB_MODE's word, None when unset."""
    asked = {"dryrun": "offline"}.get(asked or "", asked)
    return max(configured, asked if asked in MODES else "online", key=MODES.index)


def has_key(found: Settings) -> bool:
    """Whether wandb will find a key, so that it will ask its server."""
    if found.api_key or found.identity_token_file:
        return True
    file = Path(os.environ.get("NETRC") or Path.home() / ".netrc").expanduser()
    with suppress(OSError, NetrcParseError):
        return netrc(file).authenticators(urlsplit(found.base_url).hostname or "") is not None
    return False


def probe_server(address: str) -> None:
    """Ask a server's port whether anyone listens: wandb itself asks a closed one for ten seconds.

    Where the way leads through a proxy, nothing is asked.

    Raises:
        OSError: nobody does.
    """
    to = urlsplit(address)
    host = to.hostname or ""
    if to.scheme in getproxies() and not proxy_bypass(host):
        return
    port = to.port or (443 if to.scheme == "https" else 80)
    socket.create_connection((host, port), KNOCK_SECONDS).close()


def kill_service() -> None:
    """End wandb's own process at once, where /proc shows it; else it ends when it has sent all.

    What it has written down by then can be synced.
    """
    for task in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, task.read_text().split()):
                if Path(f"/proc/{child}/comm").read_text().startswith("wandb-core"):
                    os.kill(child, signal.SIGKILL)
