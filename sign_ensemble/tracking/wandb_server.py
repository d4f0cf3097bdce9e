"""W&B's server and wandb's own process: mode, key, whether the server answers."""

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

from sign_ensemble.core.errors import UserError

if TYPE_CHECKING:
    from wandb import Settings

MODES = ("online", "offline", "disabled")  # from the most to the least that is sent
WANDBS_OWN = {"run": "online", "shared": "online", "dryrun": "offline", "": "online"}
CONNECT_SECONDS = 5.0


def stricter(configured: str, environment: str | None) -> str:
    """The one of two modes that sends less; ``environment`` is WANDB_MODE, None when unset.

    Raises:
        UserError: WANDB_MODE is no mode: it may have been meant to send less.
    """
    if configured == "disabled":
        return configured
    mode = WANDBS_OWN.get(environment or "", environment or "")
    if mode not in MODES:
        raise UserError(f"WANDB_MODE is {environment}: it must be {', '.join(MODES)} or unset")
    return max(configured, mode, key=MODES.index)


def has_key(settings: Settings) -> bool:
    """Whether wandb will find a key, so that it will call its server."""
    if settings.api_key or settings.identity_token_file:
        return True
    file = Path(os.environ.get("NETRC") or Path.home() / ".netrc").expanduser()
    with suppress(OSError, NetrcParseError):
        return netrc(file).authenticators(urlsplit(settings.base_url).hostname or "") is not None
    return False


def probe_server(address: str) -> None:
    """Connect to a server's port once, as wandb itself retries a closed one for ten seconds.

    Does nothing where a proxy leads to the server.

    Raises:
        OSError: nobody listens.
    """
    to = urlsplit(address)
    host = to.hostname or ""
    if to.scheme in getproxies() and not proxy_bypass(host):
        return
    port = to.port or (443 if to.scheme == "https" else 80)
    socket.create_connection((host, port), CONNECT_SECONDS).close()


def kill_service() -> None:
    """Kill wandb's own process, where /proc shows it; else it ends when it has sent everything.

    What it has written to its files by then can be synced.
    """
    for task in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, task.read_text().split()):
                if Path(f"/proc/{child}/comm").read_text().startswith("wandb-core"):
                    os.kill(child, signal.SIGKILL)
