"""Whose hands are mirrored: by the majority of a signer's, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sign_ensemble.core.config import DataConfig
from sign_ensemble.data.handedness import mirrored_rows
from sign_ensemble.hands.finder import Hands

DATA = DataConfig()


def hands(which: str) -> Hands:
    """L a left hand, R a right one, - none."""
    n = len(which)
    right = {"L": 0.2, "R": 0.8, "-": 0.0}
    return Hands(
        np.array([letter != "-" for letter in which], np.int64),
        np.ones(n, np.float32),
        np.array([right[letter] for letter in which], np.float32),
        np.ones((n, 42), np.float32),
        np.ones((n, 63), np.float32),
    )


def mirrored(which: str, signers: str, data: DataConfig = DATA) -> str:
    """m where it is mirrored; each signer's name is a letter, _ is none."""
    names = [name.replace("_", "") for name in signers]
    found = mirrored_rows(hands(which), names, data)
    assert found.dtype == bool
    return "".join("m" if each else "." for each in found)


@pytest.mark.parametrize(
    "which, signers, expected",
    [
        ("LLR", "aaa", "mmm"),  # most are left: the right one was misread
        ("LRR", "aaa", "..."),
        ("LR", "aa", ".."),  # as many of each: as they are
        ("LRLRRL", "ababab", "m.m.m."),  # each signer for itself: a has L L R, b has R R L
        ("LL-", "aaa", "mmm"),  # no hand: as the signer's others
        ("L-----", "aaaaaa", "mmmmmm"),  # pictures without a hand have no vote
        ("---", "aaa", "..."),
        ("LRLL-", "_____", "m.mm."),  # no signer: one by one
        ("LLRLR-", "aa_b_b", "mm.m.m"),
    ],
)
def test_the_majority_of_a_signers_hands(which: str, signers: str, expected: str) -> None:
    assert mirrored(which, signers) == expected


def test_as_is_mirrors_nothing() -> None:
    assert mirrored("LLR-", "aa__", DataConfig(handedness="as-is")) == "...."


def test_the_order_of_the_images_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    which = "".join(rng.choice(list("LLR-"), 60))
    signers = "".join(rng.choice(list("abcde_"), 60))
    found, order = mirrored(which, signers), rng.permutation(60)
    which, signers = ("".join(text[i] for i in order) for text in (which, signers))
    assert mirrored(which, signers) == "".join(found[i] for i in order)


def test_no_images() -> None:
    assert mirrored("", "") == ""
