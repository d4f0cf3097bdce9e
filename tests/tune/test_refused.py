"""Clusters that a run cannot use: it says so and writes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from small_runs import settings
from started_commands import SLOW, SOURCE, Command, cluster_of_a_head

from sign_ensemble.core.storage import storage_path

if TYPE_CHECKING:
    from tests.conftest import S3


@pytest.mark.timeout(2 * SLOW)
def test_nodes_that_lack_the_package_or_the_storage_are_named(
    home: Path,
    signs_folder: Path,
    tmp_path: Path,
    start: Callable[..., Command],
    s3: S3,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = cluster_of_a_head()
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{s3.port}")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    try:
        lacking = tmp_path / "lacking"  # before an installed package on the node's path
        lacking.mkdir()
        (lacking / "sign_ensemble.py").write_text(
            "raise ModuleNotFoundError(\"No module named 'sign_ensemble'\", name='sign_ensemble')"
        )
        bare = cluster.add_node(num_cpus=1, env_vars={"PYTHONPATH": str(lacking)})
        arguments = settings(home, signs_folder, "refused", 2)
        command = start("tune", *arguments)
        assert command.ended() == 2, command.err
        assert re.fullmatch(
            r"error: node [\d.]+ has no module sign_ensemble: install .*--working-dir \.`\n",
            command.err,
        )
        assert not (home / "refused").exists()

        cluster.remove_node(bare)
        nobody = {"PYTHONPATH": str(SOURCE), "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
        cluster.add_node(num_cpus=1, env_vars=nobody)
        at = f"s3://{s3.bucket}/runs"
        command = start("tune", *arguments, f"--run.storage={at}")
        assert command.ended() == 2, command.err
        assert re.fullmatch(
            rf"error: run\.storage is {at}/refused: node [\d.]+ cannot read it "
            r"\(NETWORK_CONNECTION, .* fit it\?; the node's environment counts\)\n",
            command.err,
        )
        assert not list(storage_path(at).glob("*"))
    finally:
        cluster.shutdown()
