"""Whose signs figures speak of: every sentence about new people comes from here.

Only where signers are known does holding them out say anything about people whom the models have
not seen. Otherwise images are held out, and the people in them may be in training too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class WhoseSigns:
    """Words for the signs that a job holds out."""

    held_out: str  # what folds and test images are made of
    headline: str  # after "signs"
    new: str  # signs to come, after "of"
    others: str  # what the folds left out of a model are called, as a heading
    worst: str  # the fold read worst
    exchangeable: str  # why calibration images and new ones are not exchangeable
    about_one: str  # after "a distribution-free statement"; empty where none can be made


PEOPLE = WhoseSigns(
    "unseen signers",
    "by signers whom the models have not seen",
    "a new signer's signs",
    "training signers",
    "worst signer",
    "they are not: images of one signer are not exchangeable with another's",
    "about a whole new signer",
)
IMAGES = WhoseSigns(
    "held-out images",
    "held out, by people who may be in training too (signers are not known)",
    "further signs of the same people",
    "shares of the training images",
    "worst share",
    "they are if the same people go on in the same way; of others nothing is known",
    "",
)


def whose_signs(signers: Literal["known", "none"]) -> WhoseSigns:
    """The words for ``data.signers``."""
    return PEOPLE if signers == "known" else IMAGES


def of_signers(images: int, signers: Sequence[str]) -> str:
    """``60 images of 3 signers``; without signers, whose one name is empty, ``60 images``."""
    named = [name for name in signers if name]
    return f"{images} images of {len(named)} signers" if named else f"{images} images"
