"""Before a search, nodes that lack the package or cannot read the run's files are named."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sign_ensemble.core.errors import UserError
from sign_ensemble.core.node_checks import marker_files, missing_on_node, node_probe
from sign_ensemble.core.storage import RemotePath, storage_path

if TYPE_CHECKING:
    from tests.conftest import S3


def test_a_marker_file_exists_for_the_block_and_is_read(tmp_path: Path, s3: S3) -> None:
    folders = {"run.root": tmp_path / "runs", "data.cache": storage_path(s3.uri) / "features"}
    with marker_files(folders) as marks:
        assert node_probe()(marks, 0) == {}
        Path(marks["run.root"]).write_text("another run's")
        storage_path(marks["data.cache"]).unlink()
        assert node_probe()(marks, 0) == {
            "run.root": "another file is there",
            "data.cache": "No such file or directory",
        }
    for where in folders.values():
        assert list(where.glob("*")) == []


def test_a_marker_file_that_appears_late_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with marker_files({"run.root": tmp_path}) as marks:
        content = Path(marks["run.root"]).read_text()
        Path(marks["run.root"]).unlink()
        monkeypatch.setattr(
            "time.sleep", lambda seconds: Path(marks["run.root"]).write_text(content)
        )
        assert node_probe()(marks, 5) == {}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(
            UserError, match=r"data\.cache is .*file/x: it cannot be written \(Not a dir"
        ),
        marker_files({"run.root": tmp_path / "runs", "data.cache": tmp_path / "file" / "x"}),
    ):
        pass
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "where", "reason", "expected"),
    [
        ("run.root", Path("/runs/one"), "No such file or directory",
         "run.root is /runs/one: node 10.0.0.2 cannot read it (No such file or directory); give a "
         "folder that all nodes share, or an object store (--run.storage s3://bucket/folder)"),
        ("data.cache", Path("/f"), "Permission denied",
         "data.cache is /f: node 10.0.0.2 cannot read it (Permission denied); give a folder that "
         "all nodes share, or an object store (--data.cache s3://bucket/folder)"),
        ("run.storage", RemotePath("s3://b", "a"), "ACCESS_DENIED; do keys fit it?",
         "run.storage is s3://b/a: node 10.0.0.2 cannot read it (ACCESS_DENIED; do keys fit it?; "
         "the node's environment counts)"),
        ("", None, "sign_ensemble",
         "node 10.0.0.2 has no module sign_ensemble: install this version of the package on every "
         "node, or submit it with `ray job submit --working-dir .`"),
    ],
)  # fmt: skip
def test_messages_name_the_remedy(name: str, where: Any, reason: str, expected: str) -> None:
    assert missing_on_node(name, where, "10.0.0.2", reason) == expected
