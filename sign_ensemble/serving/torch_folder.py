"""A finished run without what only training needs: a folder that ``load_ensemble`` opens.

config.yaml keeps the settings that decide how images are read and what members and rule are, and
names no place on the machine that trained, and no person.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from sign_ensemble.core.atomic_files import atomic_write, read_json
from sign_ensemble.core.config import Config
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.run_folder import RunFolder, load_config, plain_dict
from sign_ensemble.core.storage import StoragePath

GROUPS = ("data", "member", "ensemble", "finetune", "rejection")  # the others say how, or where
OF_THE_MACHINE = ("root", "pattern", "table", "extra_signers", "cache", "engine", "test_signers")


def exported_config(config: Config) -> dict[str, Any]:
    """The settings that matter to whoever uses the ensemble."""
    groups = {name: plain_dict(config)[name] for name in GROUPS}
    groups["data"] = {k: v for k, v in groups["data"].items() if k not in OF_THE_MACHINE}
    return groups


def check_weights(config: Config) -> None:
    """Refuse a run whose convolutions come from a file of this machine.

    Raises:
        UserError: they do.
    """
    if config.data.weights != "shipped":
        raise UserError(
            f"data.weights is {config.data.weights}: with --format torch it must be shipped, since "
            "the folder does not hold the weights; --format onnx does"
        )


def write_torch(run: RunFolder, folder: Path) -> None:
    """Write config.yaml, members, the rule, and the evaluation if there is one.

    Raises:
        UserError: a file cannot be read or written.
    """
    with atomic_write(folder / "config.yaml") as file:
        file.write_text(yaml.safe_dump(exported_config(load_config(run)), sort_keys=False))
    arrays = read_json(run.rule)["arrays"]["file"]
    names = [
        "members/index.json",
        *(f"members/{member['file']}" for member in read_json(run.index)["members"]),
        "rule.json",
        arrays,
        *(path.name for path in (run.hands, run.metrics) if path.is_file()),
    ]
    for name in names:
        copy_file(run.path / name, folder / name)


def copy_file(source: StoragePath, to: Path) -> None:
    """Copy a file's bytes."""
    with atomic_write(to) as file:
        file.write_bytes(source.read_bytes())
