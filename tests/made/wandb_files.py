"""Reads the files that wandb writes offline."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.core.storage import local_folder_for

Record: Any = wandb_internal_pb2.Record  # type: ignore[attr-defined]


def records_of(path: Path) -> list[Any]:
    """All records of a .wandb file: LevelDB's log format behind a header of 7 bytes.

    wandb 0.31 has no reader in Python; its records are protobuf messages.
    """
    content = path.read_bytes()
    found, parts, at = [], b"", 7
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a complete record, or the last part of one
            message = Record()
            message.ParseFromString(parts)
            found.append(message)
            parts = b""
    return found


def items(pairs: Any) -> dict[str, Any]:
    return {".".join(p.nested_key) or p.key: json.loads(p.value_json) for p in pairs}


class Logged:
    """One offline run, read back from its file."""

    def __init__(self, folder: Path) -> None:
        (path,) = folder.glob("*.wandb")
        records = records_of(path)
        self.run = next(r.run for r in records if r.HasField("run"))
        self.config = items(self.run.config.update)
        self.history = [items(r.history.item) for r in records if r.HasField("history")]
        self.summary: dict[str, Any] = {}
        for message in records:
            if message.HasField("summary"):
                self.summary |= items(message.summary.update)
        self.all_artifacts = [r.artifact for r in records if r.HasField("artifact")]
        self.artifacts = {r.artifact.type: r.artifact for r in records if r.HasField("artifact")}
        self.exit_code = next(r.exit.exit_code for r in records if r.HasField("exit"))


def logged(run: RunFolder) -> list[Logged]:
    return [
        Logged(folder)
        for folder in sorted((local_folder_for(run.path) / "wandb").glob("offline-run-*"))
    ]
