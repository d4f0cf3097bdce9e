"""Whether a Ray runs at an address, and whether this command can use it: asked for a few seconds.

``ray.init`` itself would ask a dead address for minutes.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import re
from contextlib import suppress
from typing import Any

ANSWER_SECONDS = 5.0
EXPECTED = "the address is host:port as `ray start --head` prints it, with port 6379 by default"
# What a server's refusal says, by gRPC's code.
REFUSALS = {
    "DEADLINE_EXCEEDED": f"nothing answers there within {ANSWER_SECONDS:.0f} s",
    "UNAUTHENTICATED": "the Ray there demands its token (RAY_AUTH_MODE=token and the token's file)",
    "UNIMPLEMENTED": f"what answers there is no Ray head; {EXPECTED}",
}
# Of an address where nothing speaks gRPC, gRPC's words and ours.
UNAVAILABLE = {
    "refused": "nothing listens there",
    "DNS": "there is no such host",
    "resol": "there is no such host",
    "unreachable": "there is no way to that host",
}


def found_addresses() -> list[str]:
    """Addresses of Rays that have been started on this machine: the one that the last `ray start`
    has written down, which may have ended since, then those of running processes.
    """
    from ray._private import services

    kept = None
    with suppress(OSError, ValueError):  # another user's file, or damaged
        kept = services.find_bootstrap_address(None)
    services.find_gcs_addresses.cache_clear()
    return [*dict.fromkeys(filter(None, [kept, *sorted(services.find_gcs_addresses())]))]


def why_unusable(address: str) -> str:
    """Why no command can join a Ray at this address; "" if nothing is known that speaks against it.

    It asks for ANSWER_SECONDS at most.
    """
    if "://" in address:
        return (
            f"Ray Client and job addresses cannot be joined; {EXPECTED}, or send the command with "
            "`ray job submit`"
        )
    host, _, port = address.rpartition(":")
    known_host = re.fullmatch(r"[^\s:/@\[\]]+|\[[0-9a-fA-F:.%]+\]", host)
    if not (known_host and port.isdecimal() and 0 < int(port) < 65536):
        return EXPECTED
    versions = versions_at(address)
    return versions if isinstance(versions, str) else why_other_versions(versions)


def why_other_versions(versions: dict[str, Any]) -> str:
    """Why this environment cannot join a Ray of these versions, by Ray's own rule; "" if it can."""
    from ray import __version__
    from ray._private.utils import check_version_info

    if not {"ray_version", "python_version"} <= set(versions):
        return ""
    try:
        check_version_info(versions, "this machine")
    except RuntimeError:
        theirs = f"Ray {versions['ray_version']} on Python {versions['python_version']}"
        ours = f"Ray {__version__} on Python {platform.python_version()}"
        return f"it is {theirs}, this environment has {ours}, and they must be the same"
    return ""


def versions_at(address: str) -> dict[str, Any] | str:
    """The versions that a Ray says of itself, empty if it does not, or why it cannot be asked."""
    import grpc
    from ray._private.gcs_utils import create_gcs_channel
    from ray._private.services import canonicalize_bootstrap_address
    from ray.core.generated import gcs_service_pb2 as messages
    from ray.core.generated.gcs_service_pb2_grpc import InternalKVGcsServiceStub
    from ray.exceptions import RayError

    try:
        with create_gcs_channel(canonicalize_bootstrap_address(address)) as channel:
            asked_for = messages.InternalKVGetRequest(namespace=b"cluster", key=b"CLUSTER_METADATA")
            kept = InternalKVGcsServiceStub(channel)
            answer = kept.InternalKVGet(asked_for, timeout=ANSWER_SECONDS)
    except grpc.RpcError as fault:
        code, details = fault.code().name, str(fault.details())
        if code in REFUSALS:
            return REFUSALS[code]
        found = (ours for theirs, ours in UNAVAILABLE.items() if theirs in details)
        return next(found, REFUSALS["UNIMPLEMENTED"])
    except RayError as fault:  # no token, where one is demanded
        return " ".join(str(fault).split())[:200]
    with suppress(ValueError):
        versions = json.loads(answer.value)
        return versions if isinstance(versions, dict) else {}
    return {}


def use_token_of_this_machine() -> None:
    """Use this user's token, if there is one, for a Ray that was found on this machine, as
    ``ray.init`` does.
    """
    logging.getLogger("ray").setLevel(logging.ERROR)  # as ray.init will: it would warn of the token
    with suppress(ImportError):  # a version of Ray that has no such default
        from ray._private.authentication import authentication_token_setup

        authentication_token_setup.maybe_enable_token_auth_if_token_available(
            warn_if_disabled=False
        )


def given_address() -> str:
    """RAY_ADDRESS; "" if it is unset."""
    return os.environ.get("RAY_ADDRESS", "").strip()
