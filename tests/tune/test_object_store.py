"""A run that is kept in a bucket."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from small_runs import settings
from started_commands import SLOW, Command, finish, killed

from sign_ensemble.core.atomic_files import local_copy_of, read_json
from sign_ensemble.core.storage import storage_path
from sign_ensemble.learning.member import load

if TYPE_CHECKING:
    from tests.conftest import S3


@pytest.mark.long
@pytest.mark.timeout(2 * SLOW)
def test_a_run_on_an_object_store(
    signs_folder: Path,
    tmp_path: Path,
    start: Callable[..., Command],
    s3: S3,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed and gone on with, its copies lost meanwhile; evaluated, and asked for answers."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{s3.port}")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("RAY_TMPDIR", tempfile.gettempdir())  # its sockets' paths must be short
    at = f"s3://{s3.bucket}/signs"
    run = storage_path(f"{at}/one")
    arguments = settings(
        tmp_path / "nowhere", signs_folder, "one", 4, f"--run.storage={at}",
        "--data.cache=null", "--search.concurrent=2", "--finetune.layers=last",
        "--finetune.epochs=2", "--finetune.batch_size=16",
    )  # fmt: skip

    def on_another_machine(number: int) -> None:
        """Nothing but what the bucket holds goes from one call to the next."""
        (tmp_path / f"tmp-{number}").mkdir()
        monkeypatch.setenv("TMPDIR", str(tmp_path / f"tmp-{number}"))

    on_another_machine(1)
    killed(start("tune", *arguments), lambda: any(run.glob("trials/*/trial.json")))
    kept = {path.parent.name: path.read_bytes() for path in run.glob("trials/*/trial.json")}
    shards = set(storage_path(at).glob("features/*/shards/*"))
    assert kept and shards

    on_another_machine(2)
    shown = finish(start("tune", *arguments, "--until", "ensemble"))
    assert shown.startswith(f"{run} was in use by tune of ")  # its lease is left
    assert f"\nrun folder: {run}\n" in shown
    assert f"{len(kept)} trials are kept from before" in shown
    assert "features computed" not in shown
    decoded = set(storage_path(at).glob("features/images-*/shards/*"))
    assert decoded and set(storage_path(at).glob("features/*/shards/*")) == shards | decoded
    records = {path.parent.name: path.read_bytes() for path in run.glob("trials/*/trial.json")}
    assert sorted(records) == ["0000", "0001", "0002", "0003"]
    assert {name: records[name] for name in kept} == kept
    with local_copy_of(run / "study.journal") as journal:
        assert '"state":1,' in journal.read_text()  # Optuna's word for a complete trial
    assert any(run.glob("ray/search-*"))
    card = load(run / "members/member-00.safetensors").card
    assert (card.fold, card.finetune.layers, card.finetune.epochs) == (-1, "last", 2)
    assert any(run.glob("train/*/checkpoint_*"))

    on_another_machine(3)
    few = ("--evaluate.images=10", "--evaluate.bootstrap=20", "--wandb.mode=disabled")
    finish(start("evaluate", "--run", str(run), *few))
    assert read_json(run / "metrics.json")["evaluations"] == 1
    assert (run / "report.html").is_file() and any(run.glob("figures/risk-coverage.svg"))
    shown = finish(start("predict", "--run", str(run), str(signs_folder / "dan" / "bar")))
    assert len(shown.splitlines()) == 7  # images and how long they took
    assert not [path for path in run.glob("*") if path.name.startswith(".")]  # nothing half done
    assert not (tmp_path / "nowhere").exists()
    assert not list(tmp_path.rglob("s3*"))
