"""Where an ensemble is read from: a run's folder, or an exported one."""

from __future__ import annotations

import os
from functools import partial

from sign_ensemble.core.atomic_files import local_copy_of
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.core.storage import absolute_path
from sign_ensemble.serving import exported_ensemble
from sign_ensemble.serving.exported_ensemble import CARD
from sign_ensemble.serving.loaded_ensemble import LoadedEnsemble
from sign_ensemble.serving.onnx_backend import MODEL_FILE
from sign_ensemble.serving.run_backend import load_run


def load_ensemble(where: str | os.PathLike[str]) -> LoadedEnsemble:
    """A finished ensemble: a run's folder or URI, or an exported folder.

    Raises:
        UserError: there is none, it is not finished, or a file was damaged or changed.
    """
    path = absolute_path(os.fspath(where), "the run")
    if (path / MODEL_FILE).exists():
        with local_copy_of(path) as folder:
            return exported_ensemble.load_ensemble(folder)
    run = RunFolder(path)
    return LoadedEnsemble(load_run(run), partial(card_in, run))


def card_in(run: RunFolder) -> str:
    """The model card of an exported folder, or one made of a run's files."""
    if (run.path / CARD).is_file():
        return (run.path / CARD).read_text()
    from sign_ensemble.serving.model_card import card_of  # it need not be loaded to predict

    return card_of(run)
