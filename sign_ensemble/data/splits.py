"""Rows as read → rows with a split. Pure functions.

Splits: ``train`` and ``test`` share no signer; ``extra`` holds signers whom fine-tuning learns from
but who are neither tested nor calibrated on; ``near`` holds wrong gestures of the test signers;
``unused`` could be read but is not used; ``set-aside`` cannot be used. The last two have a reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from sign_ensemble.core.config import DataConfig
from sign_ensemble.core.errors import UserError
from sign_ensemble.data.sources import NEEDS_SIGNERS, Row

Split = Literal["train", "extra", "test", "near", "unused", "set-aside"]
SPLITS: tuple[Split, ...] = get_args(Split)


def without_duplicates(rows: list[Row]) -> list[Row]:
    """Set aside files with the same bytes: the copies, or all if their label or signer differ."""
    copies: dict[str, list[int]] = defaultdict(list)
    for position, row in enumerate(rows):
        if not row.reason and row.sha256:
            copies[row.sha256].append(position)
    result = list(rows)
    for positions in copies.values():
        same = sorted((rows[position] for position in positions), key=lambda row: row.path)
        agree = len({(row.label, row.signer) for row in same}) == 1
        for position in positions:
            row, first = rows[position], same[0]
            if not agree:
                other = next(r for r in same if (r.label, r.signer) != (row.label, row.signer))
                signer = f" and signer {other.signer}" * bool(other.signer)
                reason = f"same image as {other.path}, which has label {other.label}{signer}"
                result[position] = replace(row, reason=reason)
            elif row is not first:
                result[position] = replace(row, reason=f"same image as {first.path}")
    return result


def assign(rows: list[Row], data: DataConfig) -> list[Row]:
    """Give every row its split; rows with a reason are set aside.

    Raises:
        UserError: the settings name missing labels or signers, or too few are left to train and
            test on.
    """
    usable = [row for row in rows if not row.reason]
    if not usable:
        raise UserError(
            f"no usable image: all {len(rows)} were set aside, for example {rows[0].path}: "
            f"{rows[0].reason}"
        )
    nameless = next((row.path for row in usable if not row.signer), None)
    if data.signers == "known" and nameless is not None:
        raise UserError(f"{nameless} has no signer: {NEEDS_SIGNERS}")
    learned = _learned_labels(usable, data)
    is_held_out = _held_out(usable, learned, data)
    near_labels = set(data.near_labels)

    def decide(row: Row) -> Row:
        if row.reason:
            return replace(row, split="set-aside")
        if row.label in near_labels:
            if data.signers == "none" or is_held_out(row):
                return replace(row, split="near")
            return replace(row, split="unused", reason="wrong gesture of a training signer")
        if row.label not in learned:
            return replace(row, split="unused", reason="label not among data.labels")
        return replace(row, split="test" if is_held_out(row) else "train")

    split = _without_thin_labels([decide(row) for row in rows], data)
    labels = {row.label for row in split if row.split == "train"}
    if len(labels) < 2:
        raise UserError(
            f"{len(labels)} label(s) left to learn ({_listed(labels)}): it takes 2, each shown by "
            f"2 training {'images' if data.signers == 'none' else 'signers'}"
        )
    if not any(row.split == "test" for row in split):
        raise UserError("no image is left to test on: no held-out image shows a learned label")
    return split


def assign_extra(extra: list[Row], own: list[Row], data: DataConfig) -> list[Row]:
    """Give the extra signers' rows their split, after all others have theirs.

    Raises:
        UserError: one of these signers is among the others, or none shows a learned label.
    """
    setting = f"data.extra_signers is {data.extra_signers}"
    known = {row.signer for row in own if row.signer}
    if both := known & {row.signer for row in extra}:
        raise UserError(
            f"{setting}: {_listed(both)} is also the name of a signer of your own images; nobody "
            "may be both an extra signer and one of yours"
        )
    learned = {row.label for row in own if row.split == "train"}

    def decide(row: Row) -> Row:
        if row.reason:
            return replace(row, split="set-aside")
        if row.label not in learned:
            return replace(row, split="unused", reason="label not learned")
        return replace(row, split="extra")

    split = [decide(row) for row in extra]
    if extra and not any(row.split == "extra" for row in split):
        raise UserError(
            f"{setting}: it shows none of the labels learned ({_listed(learned)}) "
            f"but {_listed({row.label for row in extra if row.label})}"
        )
    return split


def _learned_labels(usable: list[Row], data: DataConfig) -> set[str]:
    found = {row.label for row in usable}
    for setting, named in (("labels", data.labels), ("near_labels", data.near_labels)):
        missing = set(named or ()) - found
        if missing:
            raise UserError(
                f"data.{setting} names {_listed(missing)}: no usable image has that label; there "
                f"are {_listed(found)}"
            )
    near = set(data.near_labels)
    learned: set[str] = found - near if data.labels is None else set(data.labels)
    if learned & near:
        raise UserError(
            f"data.labels and data.near_labels both name {_listed(learned & near)}: a label is "
            "either learned or a wrong gesture"
        )
    if len(learned) < 2:
        raise UserError(f"{len(learned)} label(s) to learn ({_listed(learned)}): it takes 2")
    return learned


def _held_out(usable: list[Row], learned: set[str], data: DataConfig) -> Callable[[Row], bool]:
    """Whether a row is kept from training."""
    if data.signers == "none":
        if data.test_signers:
            raise UserError(
                f"data.test_signers is {_listed(data.test_signers)}: with data.signers none it "
                "must be empty"
            )
        paths = _drawn_images([row for row in usable if row.label in learned], data)
        return lambda row: row.path in paths
    test_signers = _test_signers({row.signer for row in usable if row.label in learned}, data)
    return lambda row: row.signer in test_signers


def _test_signers(signers: set[str], data: DataConfig) -> set[str]:
    if len(signers) < 3:
        count = "one signer only" if len(signers) == 1 else "two signers only"
        raise UserError(
            f"{count} ({_listed(signers)}): it takes 3, one to test on and 2 to train on, each of "
            "whom is held out once"
        )
    if not data.test_signers:
        order = np.random.default_rng(data.seed % 2**64).permutation(sorted(signers))
        return {str(name) for name in order[: _held_out_count(len(signers), data.test_share)]}
    missing = set(data.test_signers) - signers
    if missing:
        raise UserError(
            f"data.test_signers names {_listed(missing)}: no such signer shows a learned label; "
            f"there are {_listed(signers)}"
        )
    training = signers - set(data.test_signers)
    if len(training) < 2:
        raise UserError(
            f"data.test_signers is {_listed(data.test_signers)}: this leaves {len(training)} "
            f"training signer(s) ({_listed(training)}), and it takes 2"
        )
    return set(data.test_signers)


def _drawn_images(rows: list[Row], data: DataConfig) -> set[str]:
    """Paths of a random share of each label's images."""
    paths_of: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        paths_of[row.label].append(row.path)
    generator = np.random.default_rng(data.seed % 2**64)
    drawn: set[str] = set()
    for label in sorted(paths_of):
        paths = sorted(paths_of[label])
        order = generator.permutation(len(paths))
        drawn.update(paths[i] for i in order[: _held_out_count(len(paths), data.test_share)])
    return drawn


def _held_out_count(total: int, share: float) -> int:
    """The share of total: at least 1, but 2 stay to train on."""
    return max(0, min(max(1, round(share * total)), total - 2))


def _without_thin_labels(rows: list[Row], data: DataConfig) -> list[Row]:
    """Leave out labels with fewer than 2 training signers (images, without signers)."""
    sources: dict[str, set[str]] = defaultdict(set)  # label → training signers, or images
    for row in rows:
        if row.split == "train":
            sources[row.label].add(row.path if data.signers == "none" else row.signer)

    def checked(row: Row) -> Row:
        shown_by = sources.get(row.label, set())
        if row.split not in ("train", "test") or len(shown_by) >= 2:
            return row
        if not shown_by:
            reason = "no training signer shows this label"
        elif data.signers == "none":
            reason = "the only image to train this label on"
        else:
            reason = f"only training signer {_listed(shown_by)} shows this label: unchecked"
        return replace(row, split="unused", reason=reason)

    return [checked(row) for row in rows]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
