"""What happens while a new Ray starts: images are read and features computed."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest

from sign_ensemble.core.config import Config, DataConfig, RunConfig
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.names import Name
from sign_ensemble.core.ray_cluster import PendingRay
from sign_ensemble.core.run_folder import open_run
from sign_ensemble.pipeline.preparation import list_images, prepare

pytestmark = pytest.mark.usefixtures("one_thread")


def config_of(signs_folder: Path, home: Path) -> Config:
    """A run on two labels, ada held out."""
    data = DataConfig(
        root=str(signs_folder), labels=[Name("bar"), Name("disc")], test_signers=[Name("ada")],
        size=63, crop="none", augmentations=0, weights="random", engine="local",
        cache=str(home / "features"),
    )  # fmt: skip
    run = RunConfig(root=str(home / "runs"), name="one")
    return Config(data=data, run=run)


def test_names_fit_before_images_are_read(signs_folder: Path, tmp_path: Path) -> None:
    config = config_of(signs_folder, tmp_path)
    run = open_run(config)
    called: list[bool] = []
    listed = list_images(config, run, lambda: called.append(run.manifest.exists()))
    assert len(called) == len(listed.table)
    assert not any(called)  # the manifest is written afterwards
    called.clear()
    assert list_images(config, run, lambda: called.append(True)).table.equals(listed.table)
    assert not called


def test_names_that_do_not_fit_start_nothing(signs_folder: Path, tmp_path: Path) -> None:
    config = config_of(signs_folder, tmp_path)
    config = replace(config, data=replace(config.data, test_signers=[Name("nobody")]))
    called: list[bool] = []
    with pytest.raises(UserError, match="nobody"):
        list_images(config, open_run(config), lambda: called.append(True))
    assert not called


def test_what_a_late_ray_cannot_do_is_refused_when_it_is_there(
    signs_folder: Path, tmp_path: Path
) -> None:
    config = config_of(signs_folder, tmp_path)
    run, up = open_run(config), Future[None]()
    looked: list[bool] = []

    class Late(PendingRay):
        def look(self) -> None:  # not there yet while features are computed
            looked.append(up.done())

        def wait(self) -> None:
            up.set_result(None)
            super().wait()

    def refuse() -> None:
        raise UserError("the cluster has 1 CPUs")

    with pytest.raises(UserError, match="1 CPUs"):
        prepare(config, cluster=Late(up, refuse))
    assert looked
    assert not any(looked)
    up = Future()
    assert prepare(config, cluster=Late(up, lambda: None)).run == run
    assert up.done()
