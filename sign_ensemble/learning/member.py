"""A member's file: its weights and all that is needed to use them, checked when loaded."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sign_ensemble.core.atomic_files import file_sha256, read_arrays, write_arrays
from sign_ensemble.core.config import FinetuneConfig, MemberConfig
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.storage import StoragePath
from sign_ensemble.data.backbone import convolution_shapes
from sign_ensemble.learning.network import FROZEN
from sign_ensemble.learning.task import Kind

HEAD_ALONE = FinetuneConfig(layers="none")


@dataclass(frozen=True)
class Card:
    """What is known of a member besides its weights."""

    labels: tuple[str, ...]  # label names in the order of the outputs
    recipe: MemberConfig  # hyperparameters
    seed: int  # seed of this training
    trial: int  # number of its trial
    fold: int  # the held-out fold; -1 if it was trained on all training signers
    weight: int  # its votes in the ensemble
    nll: float  # the trial's out-of-fold loss, nats per image
    # how features are computed, see ``feature_cache.preprocessing_of``
    preprocessing: dict[str, Any]
    manifest: str  # sha256 of the manifest it was trained on
    # how its convolutions were fine-tuned; by default they were not
    finetune: FinetuneConfig = HEAD_ALONE
    kind: Kind = "pixels"  # what it reads

    @property
    def learned(self) -> tuple[str, ...]:
        """Names of the fine-tuned convolutions' tensors."""
        frozen = FROZEN[self.finetune.layers]
        return tuple(name for name in convolution_shapes() if int(name.split(".")[1]) >= frozen)


@dataclass(frozen=True)
class Member:
    """A card and float32 arrays named as in the network: the head's six and those of the fine-tuned
    convolutions.
    """

    card: Card
    tensors: dict[str, NDArray[np.float32]]


def save(member: Member, path: StoragePath) -> str:
    """Write a member as safetensors, the card in its header.

    Returns:
        sha256 of the file.
    """
    return write_arrays(path, dict(member.tensors), {"card": asdict(member.card)})


def load(path: StoragePath, sha256: str | None = None) -> Member:
    """Read and check a member.

    Args:
        path: The safetensors file.
        sha256: Of the file, if known.

    Raises:
        UserError: the file is missing or damaged, has another sha256, or is not a member.
    """
    if sha256 is not None and path.is_file() and file_sha256(path) != sha256:
        raise UserError(f"{path}: its sha256 is not the one in index.json; it was changed")
    tensors, header = read_arrays(path)
    try:
        values = dict(header["card"])
        widths = tuple(values["recipe"]["widths"])
        values["recipe"] = MemberConfig(**{**values["recipe"], "widths": widths})
        values["labels"] = tuple(values["labels"])
        values["finetune"] = FinetuneConfig(**values["finetune"])
        card = Card(**values)
        h1, h2 = card.recipe.widths
        learned = card.learned
    except (KeyError, TypeError, ValueError) as fault:
        raise UserError(f"{path}: not a member of this version ({fault})") from None
    shapes = {
        "layers.0.weight": (h1, tensors.get("layers.0.weight", np.zeros((0, 0))).shape[-1]),
        "layers.0.bias": (h1,),
        "layers.3.weight": (h2, h1),
        "layers.3.bias": (h2,),
        "layers.6.weight": (len(card.labels), h2),
        "layers.6.bias": (len(card.labels),),
        **{name: convolution_shapes()[name] for name in learned},
    }
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if found != shapes:
        raise UserError(f"{path}: tensors {json.dumps(found)} do not fit its card")
    return Member(card, tensors)
