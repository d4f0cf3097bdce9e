"""Ray's folder has a short path that can be written, or another one is taken."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sign_ensemble.core import ray_folder as module
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.ray_folder import LONGEST, MOST, SOCKETS, ray_folder, why_unfit


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short path."""
    folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


def test_rays_own_folder_is_used_where_it_can_be(
    short: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(short))
    assert ray_folder() is None
    assert capsys.readouterr().out == ""
    assert list((short / "ray").iterdir()) == []


def test_the_longest_path_that_fits(short: Path) -> None:
    fits = short / ("x" * (MOST - len(f"{short}/")))
    assert len(os.fsencode(fits / SOCKETS)) == LONGEST
    assert why_unfit(fits) == ""
    assert "longer than" in why_unfit(Path(f"{fits}x"))
    assert "longer than" in why_unfit(short / ("é" * 15))  # bytes count, not letters


@pytest.mark.parametrize("kind", ["long", "file", "relative", "another user's"])
def test_another_folder_is_taken(
    kind: str,
    short: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (short / "file").write_text("")
    (short / "closed").mkdir()
    (short / "closed" / "ray").mkdir(mode=0o555)
    below = {
        "long": short / ("x" * 120), "file": short / "file", "relative": Path("here"),
        "another user's": short / "closed",
    }[kind]  # fmt: skip
    monkeypatch.setattr(module, "OTHERS", (str(short / "other"),))
    monkeypatch.setenv("RAY_TMPDIR", str(below))
    (short / "other").mkdir()
    (short / "other").chmod(0o777)
    short.chmod(0o755)
    root = os.geteuid() == 0  # whom nothing refuses
    if root and kind == "another user's":
        monkeypatch.setattr(os, "getuid", lambda: 65534)
        os.seteuid(65534)
    try:
        taken = ray_folder()
    finally:
        if root:
            os.seteuid(0)
    assert taken is not None and taken.parent == short / "other"
    shown = capsys.readouterr().out
    assert shown.startswith(f"Ray's files are in {taken}, since {below}/ray cannot be used: ")


def test_without_any_folder_the_remedy_is_named(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OTHERS", ())
    monkeypatch.setenv("RAY_TMPDIR", str(short / ("x" * 120)))
    with pytest.raises(
        UserError, match=r"xx/ray cannot be used for Ray's files: .* set RAY_TMPDIR"
    ):
        ray_folder()


def test_a_folder_that_another_user_has_laid_out_is_not_trusted(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert why_unfit(short, private=True) == "it belongs to another user"
