"""What is wrong with a run, a destination or an exported folder, and what the one line names."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sign_ensemble.pipeline import exporting


def nothing(run: Path, out: Path) -> None:
    """The run is in order."""


@dataclass(frozen=True)
class Wrong:
    """One mistake; texts may name {run} and {out}."""

    names: tuple[str, ...]  # what the line names
    prepare: Callable[[Path, Path], object] = nothing
    given: tuple[tuple[str, str], ...] = ()  # other arguments than a good call's
    flags: tuple[str, ...] = ()
    patches: tuple[tuple[Any, str, Any], ...] = ()


def without(name: str) -> Callable[[Path, Path], object]:
    """A file is missing."""
    return lambda run, out: (run / name).unlink()


def written(name: str, content: str) -> Callable[[Path, Path], object]:
    """A file holds something else."""
    return lambda run, out: (run / name).write_text(content)


def with_text(name: str, old: str, new: str) -> Callable[[Path, Path], object]:
    """A text of a file is another."""

    def change(run: Path, out: Path) -> None:
        text = (run / name).read_text()
        assert old in text
        (run / name).write_text(text.replace(old, new))

    return change


def cut(name: str) -> Callable[[Path, Path], object]:
    """A file lost its second half."""

    def change(run: Path, out: Path) -> None:
        content = (run / name).read_bytes()
        (run / name).write_bytes(content[: len(content) // 2])

    return change


def without_key(name: str, key: str) -> Callable[[Path, Path], object]:
    """A JSON file lacks a key."""

    def change(run: Path, out: Path) -> None:
        values = json.loads((run / name).read_text())
        del values[key]
        (run / name).write_text(json.dumps(values))

    return change


def a_file(run: Path, out: Path) -> None:
    """The destination is a file."""
    out.write_text("")


def taken(run: Path, out: Path) -> None:
    """The destination holds something else."""
    out.mkdir()
    (out / "photo.jpg").write_text("")


def half_an_export(run: Path, out: Path) -> None:
    """The destination holds a folder whose self-test.json is damaged."""
    out.mkdir()
    (out / "self-test.json").write_text('{"made_by": ')


MEMBER = "members/member-00.safetensors"
REFUSED = {
    "no such run": Wrong(("not a run folder",), given=(("run", "{run}-no"),)),
    "members missing": Wrong(("no index.json yet", "not finished"), without("members/index.json")),
    "rule missing": Wrong(("no rule.json yet", "not finished"), without("rule.json")),
    "manifest missing": Wrong(("no manifest.parquet",), without("manifest.parquet")),
    "config damaged": Wrong(("config.yaml", "not a config"), written("config.yaml", "[1, 2")),
    "config of another version": Wrong(
        ("data.shape", "another version"),
        with_text("config.yaml", "  size:", "  shape: 3\n  size:"),
    ),
    "prepared otherwise": Wrong(
        ("trained with data.size 96, now it is 100",),
        with_text("config.yaml", "size: 96", "size: 100"),
    ),
    "index damaged": Wrong(("index.json", "not valid JSON"), cut("members/index.json")),
    "index of another version": Wrong(
        ("not an index of members",), without_key("members/index.json", "members")
    ),
    "member missing": Wrong((MEMBER, "not there"), without(MEMBER)),
    "member damaged": Wrong((MEMBER, "sha256", "was changed"), cut(MEMBER)),
    "rule damaged": Wrong(("rule.json", "not valid JSON"), cut("rule.json")),
    "rule of another version": Wrong(
        ("rule.json", "not a rule of this version", "temperature"),
        without_key("rule.json", "temperature"),
    ),
    "numbers of the rule damaged": Wrong(("rule.safetensors", "damaged"), cut("rule.safetensors")),
    "numbers of the rule changed": Wrong(
        ("rule.safetensors", "sha256", "was changed"),
        with_text("rule.json", '"sha256": "', '"sha256": "0'),
    ),
    "manifest damaged": Wrong(("manifest.parquet", "manifest"), cut("manifest.parquet")),
    "evaluation of another version": Wrong(
        ("metrics.json", "not an evaluation of this version"),
        without_key("metrics.json", "evaluations"),
    ),
    "destination is a file": Wrong(("--out is {out}", "is a file"), a_file),
    "destination is taken": Wrong(("--out is {out}", "neither empty nor"), taken),
    "destination is the run": Wrong(("--out is {run}", "neither empty nor"),
                                    given=(("out", "{run}"),)),
    "destination is half an export": Wrong(("--out is {out}", "neither empty nor"), half_an_export),
    "destination on an object store": Wrong(
        ("--out is s3://bucket/out", "folder of this machine"), given=(("out", "s3://bucket/out"),)
    ),
    "destination is a mount point": Wrong(("--out is /proc", "mount point"),
                                          given=(("out", "/proc"),)),
    "format unknown": Wrong(("--format", "tflite"), given=(("format", "tflite"),)),
    "int8 with torch": Wrong(("--int8", "--format is torch"), flags=("--int8",)),
    "examples below zero": Wrong(("--examples is -1",), flags=("--examples=-1",)),
    "examples no number": Wrong(("examples", "int", "two"), flags=("--examples=two",)),
    "onnx not installed": Wrong(
        ("needs onnx and onnxscript", "sign-ensemble[export]"), given=(("format", "onnx"),),
        patches=((exporting, "find_spec", lambda name: None),),
    ),
    "weights of a file with torch": Wrong(
        ("data.weights is /there.safetensors", "--format torch"),
        with_text("config.yaml", "weights: shipped", "weights: /there.safetensors"),
    ),
}  # fmt: skip


def cut_in(name: str) -> Callable[[Path], object]:
    """A file of an exported folder lost its second half."""
    return lambda folder: cut(name)(folder, folder)


def gone(name: str) -> Callable[[Path], object]:
    """A file of an exported folder is missing."""
    return lambda folder: (folder / name).unlink()


# format, damage, what the line names; more of model.onnx in test_runtime.py
LOADED: dict[str, tuple[str, Callable[[Path], object], tuple[str, ...]]] = {
    "torch: config missing": ("torch", gone("config.yaml"), ("not a run folder",)),
    "torch: member missing": ("torch", gone(MEMBER), (MEMBER, "not there")),
    "torch: member cut": ("torch", cut_in(MEMBER), (MEMBER, "was changed")),
    "torch: rule missing": ("torch", gone("rule.json"), ("rule.json", "not there")),
    "onnx: model cut": ("onnx", cut_in("model.onnx"), ("model.onnx",)),
    "onnx: model missing": ("onnx", gone("model.onnx"), ("not a run folder",)),
}


def refused_by_the_system(part: str, patched: pytest.MonkeyPatch) -> str:
    """Have the system refuse a part of the work; the reason that it gives. (Tests may run as root,
    whom chmod cannot stop.)
    """
    if part == "making the folder":

        def forbid(self: Path, *_: object, **__: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))

        patched.setattr(Path, "mkdir", forbid)
        return os.strerror(errno.EACCES)

    def full(self: Path, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    patched.setattr(exporting, "write_torch", full)
    patched.setitem(exporting.WRITERS, "torch", full)
    return os.strerror(errno.ENOSPC)
