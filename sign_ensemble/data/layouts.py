"""What folders' names tell: people, splits of a data set, labels, or pictures without a sign."""

from __future__ import annotations

import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import PurePosixPath

PRESETS: dict[str, str] = {
    # <label>/hand<signer>_<label>_<light>_seg_<n>_cropped.jpeg
    "massey": r"(?:.*/)?(?P<label>[^/]+)/hand(?P<signer>\d+)_[^/]*",
    # <signer>/<label>/color_<n>_<n>.png; the depth images next to them do not match
    "surrey": r"(?:.*/)?(?P<signer>[^/]+)/(?P<label>[^/]+)/color_[^/]*\.png",
    # Person<signer>-<label>-<part>-<frame>.jpg
    "isl-hs": r"(?:.*/)?Person(?P<signer>\d+)-(?P<label>[^-/]+)-\d+-\d+\.jpe?g",
    "signer-label": r"(?P<signer>[^/]+)/(?P<label>[^/]+)/[^/]+",
    "label": r"(?P<label>[^/]+)/[^/]+",
}
OF_DATA_SETS = ("massey", "surrey", "isl-hs")
LEAST_OF_A_DATA_SET = 0.25  # share of its files: Surrey has a depth image for each picture

SPLIT = re.compile(  # as a word of its own: not in "trainer", "Valerie" or "Devon"
    r"(?<![^\W\d_])(train|training|trn|valid|validation|val|dev|testing|test|tst|evaluation|eval)"
    r"(?:set|data)?(?![^\W\d_])"
)
NO_SIGN = {  # without capitals, spaces and the like
    "nothing", "none", "blank", "empty", "background", "backgrounds", "nohand", "nohands", "nosign",
    "nosigns", "nogesture", "nogestures", "unknown", "unlabeled", "unlabelled", "other", "others",
    "negative", "negatives", "noise", "junk", "garbage", "misc",
}  # fmt: skip


def split_names(names: Iterable[str]) -> list[str]:
    """The names that mean splits of a data set, as ``train`` and ``asl_test`` do: all of them, or
    some that differ in that word alone and of which one is the training split. ``test1, test2``
    may be people.
    """
    groups: dict[str, dict[str, str]] = defaultdict(dict)  # what is left of a name → name → split
    every = set(names)
    for name in every:
        if found := SPLIT.search(name.casefold()):
            groups[name.casefold().replace(found[1], "", 1)][name] = found[1]
    for group in groups.values():
        with_training = any(split[:2] == "tr" for split in group.values()) and len(group) > 1
        if with_training or len(group) == len(every):
            return sorted(group)
    return []


def no_sign_names(labels: Iterable[str]) -> list[str]:
    """The labels that usually name pictures without a sign."""
    return sorted(name for name in labels if re.sub(r"[\W_]", "", name.casefold()) in NO_SIGN)


def is_part_of_surrey(paths: list[str]) -> bool:
    """Whether files are Surrey's pictures with other images, their depths, among them."""
    found = sum(re.fullmatch(PRESETS["surrey"], path) is not None for path in paths)
    return LEAST_OF_A_DATA_SET * len(paths) <= found < len(paths)


def fitting_settings(root: str, paths: list[str]) -> str:
    """The settings that fit most images, given by their paths below ``root``; "" if none do."""
    for preset in OF_DATA_SETS:
        found = sum(re.fullmatch(PRESETS[preset], path) is not None for path in paths)
        if found >= LEAST_OF_A_DATA_SET * len(paths):
            return f"--data.preset {preset}"
    labels: dict[PurePosixPath, set[str]] = defaultdict(set)  # of a folder of folders of images
    images: Counter[PurePosixPath] = Counter()  # of a folder of folders of images
    for path in map(PurePosixPath, paths):
        if path.parent.name:
            labels[path.parent.parent].add(path.parent.name)
            images[path.parent.parent] += 1
    if not images:
        return ""
    above = Counter[PurePosixPath]()  # images of a folder of such folders
    for folder, count in images.items():
        if folder.name:
            above[folder.parent] += count
    for top, count in above.most_common(1):
        people = {folder.name for folder in images if folder.name and folder.parent == top}
        if len(people) > 1 and 2 * count > len(paths):
            unknown = " --data.signers none" * (len(people) < 3 or bool(split_names(people)))
            return f"{_root(root, top)} --data.preset signer-label{unknown}"
    home = images.most_common(1)[0][0]
    if len(split_names(labels[home])) == len(labels[home]):
        return ""
    return f"{_root(root, home)} --data.preset label --data.signers none"


def _root(root: str, folder: PurePosixPath) -> str:
    return f"--data.root {shlex.quote(str(PurePosixPath(root) / folder))}"
