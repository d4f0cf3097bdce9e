"""Rows as read → rows with a split. Pure functions.

Splits: ``train`` and ``test`` share no signer; ``extra`` holds signers whom fine-tuning learns from
but who are neither tested nor calibrated on; ``near`` holds wrong gestures of the test signers and
``far`` their images without a sign; ``unused`` could be read but is not used; ``set-aside`` cannot
be used. The last two have a reason.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import Literal, get_args

import numpy as np

from sign_ensemble.core.config import DataConfig
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.names import listed
from sign_ensemble.data.layouts import no_sign_names, split_names
from sign_ensemble.data.sources import NEEDS_SIGNERS, Row

Split = Literal["train", "extra", "test", "near", "far", "unused", "set-aside"]
SPLITS: tuple[Split, ...] = get_args(Split)
ROLES = ("labels", "near_labels", "far_labels")  # settings that say what a label is for


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
    if data.signers == "known":
        _check_signers(usable, data)
    learned = _learned_labels(usable, data)
    is_held_out = _held_out(usable, learned, data)
    shown: dict[str, tuple[Split, str]] = {  # at the end, and only those of the test signers
        **dict.fromkeys(data.near_labels, ("near", "wrong gesture")),
        **dict.fromkeys(data.far_labels, ("far", "image without a sign")),
    }

    def decide(row: Row) -> Row:
        if row.reason:
            return replace(row, split="set-aside")
        if row.label in shown:
            split, what = shown[row.label]
            if data.signers == "none" or is_held_out(row):
                return replace(row, split=split)
            return replace(row, split="unused", reason=f"{what} of a training signer")
        if row.label not in learned:
            return replace(row, split="unused", reason="label not among data.labels")
        return replace(row, split="test" if is_held_out(row) else "train")

    split = _without_thin_labels([decide(row) for row in rows], data)
    labels = {row.label for row in split if row.split == "train"}
    if len(labels) < 2:
        raise UserError(
            f"{len(labels)} label(s) left to learn ({listed(labels)}): it takes 2, each shown by "
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
            f"{setting}: {listed(both)} is also the name of a signer of your own images; nobody "
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
            f"{setting}: it shows none of the labels learned ({listed(learned)}) "
            f"but {listed({row.label for row in extra if row.label})}"
        )
    return split


def _source(data: DataConfig) -> str:
    return f"data.table is {data.table}" if data.table else f"data.root is {data.root}"


def _check_signers(usable: list[Row], data: DataConfig) -> None:
    nameless = next((row.path for row in usable if not row.signer), None)
    if nameless is not None:
        raise UserError(f"{nameless} has no signer: {NEEDS_SIGNERS}")
    if splits := split_names(row.signer for row in usable):
        raise UserError(
            f"{_source(data)}: signers are called {listed(splits)}, as splits of a data set are "
            "and people are not; say --data.signers none, and test images are chosen anew from all"
        )


def _learned_labels(usable: list[Row], data: DataConfig) -> set[str]:
    found = {row.label for row in usable}
    roles = {name: set(getattr(data, name) or ()) for name in ROLES}
    for setting, named in roles.items():
        missing = named - found
        if missing:
            raise UserError(
                f"data.{setting} names {listed(missing)}: no usable image has that label; there "
                f"are {listed(found)}"
            )
    for one, other in combinations(ROLES, 2):
        if both := roles[one] & roles[other]:
            raise UserError(
                f"data.{one} and data.{other} both name {listed(both)}: a label is either learned "
                "or a wrong gesture or no sign"
            )
    learned = roles["labels"]
    if data.labels is None:
        learned = found - roles["near_labels"] - roles["far_labels"]
        _check_names(learned, data)
    if len(learned) < 2:
        raise UserError(f"{len(learned)} label(s) to learn ({listed(learned)}): it takes 2")
    return learned


def _check_names(learned: set[str], data: DataConfig) -> None:
    """Refuse labels whose names say that they are none, unless the user names them."""
    if len(learned) > 1 and split_names(learned) == sorted(learned):
        raise UserError(
            f"{_source(data)}: labels are called {listed(learned)}, as splits of a data set are; "
            "say by a pattern (--data.pattern) or a table (--data.table) what each image shows"
        )
    if empty := no_sign_names(learned):
        raise UserError(
            f"{_source(data)}: a label called {listed(empty)} usually holds images without a sign: "
            f"say --data.far_labels '[{listed(empty)}]', and they test the rejection at the end, "
            f"or say --data.labels '[{listed(learned)}]' to learn it like the others"
        )


def _held_out(usable: list[Row], learned: set[str], data: DataConfig) -> Callable[[Row], bool]:
    """Whether a row is kept from training."""
    if data.signers == "none":
        if data.test_signers:
            raise UserError(
                f"data.test_signers is {listed(data.test_signers)}: with data.signers none it "
                "must be empty"
            )
        paths = _last_images([row for row in usable if row.label in learned], data)
        return lambda row: row.path in paths
    test_signers = _test_signers({row.signer for row in usable if row.label in learned}, data)
    return lambda row: row.signer in test_signers


def _test_signers(signers: set[str], data: DataConfig) -> set[str]:
    if len(signers) < 3:
        count = "one signer only" if len(signers) == 1 else "two signers only"
        raise UserError(
            f"{count} ({listed(signers)}): it takes 3, one to test on and 2 to train on, each of "
            "whom is held out once; where nobody knows who signs, say --data.signers none"
        )
    if not data.test_signers:
        order = np.random.default_rng(data.seed % 2**64).permutation(sorted(signers))
        return {str(name) for name in order[: _held_out_count(len(signers), data.test_share)]}
    missing = set(data.test_signers) - signers
    if missing:
        raise UserError(
            f"data.test_signers names {listed(missing)}: no such signer shows a learned label; "
            f"there are {listed(signers)}"
        )
    training = signers - set(data.test_signers)
    if len(training) < 2:
        raise UserError(
            f"data.test_signers is {listed(data.test_signers)}: this leaves {len(training)} "
            f"training signer(s) ({listed(training)}), and it takes 2"
        )
    return set(data.test_signers)


def in_file_order(path: str) -> list[str | int]:
    """A key that sorts paths as people number them, 9 before 10."""
    parts = re.split(r"(\d+)", path)
    return [int(part) if i % 2 else part.casefold() for i, part in enumerate(parts)]


def _last_images(rows: list[Row], data: DataConfig) -> set[str]:
    """Paths of the last share of each label's images: neighbours in file order may be frames of one
    video, and drawn at random most test images would have a near twin in training.
    """
    paths_of: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        paths_of[row.label].append(row.path)
    held_out: set[str] = set()
    for paths in paths_of.values():
        first = len(paths) - _held_out_count(len(paths), data.test_share)
        held_out.update(sorted(paths, key=in_file_order)[first:])
    return held_out


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
            reason = f"only training signer {listed(shown_by)} shows this label: unchecked"
        return replace(row, split="unused", reason=reason)

    return [checked(row) for row in rows]
