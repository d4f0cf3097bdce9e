"""A few training images that come with an exported ensemble, without anything but their pixels."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from sign_ensemble.core.atomic_files import atomic_write
from sign_ensemble.core.config import DataConfig
from sign_ensemble.core.errors import UserError
from sign_ensemble.data.images import SetAside, decode_rgb, read_file
from sign_ensemble.data.manifest import Manifest

LONGEST = 640  # pixels of the longer side; a larger picture is made smaller


def examples_of(listed: Manifest, count: int) -> list[tuple[Path, str]]:
    """The first training image of each of the first ``count`` labels, and its label."""
    found: dict[str, Path] = {}
    for row in listed.rows("train").select(["path", "label"]).to_pylist():
        found.setdefault(row["label"], listed.root / row["path"])
    return [(found[label], label) for label in sorted(found)[:count]]


def write_examples(
    examples: list[tuple[Path, str]], data: DataConfig, folder: Path
) -> tuple[tuple[str, str], ...]:
    """Write ``examples/NUMBER.png``: pixels alone, no EXIF, no name of a person.

    Returns:
        File in the folder and label of each.

    Raises:
        UserError: an image cannot be read any more.
    """
    written = []
    for number, (path, label) in enumerate(examples, 1):
        try:
            pixels_HW3, _ = decode_rgb(
                read_file(path)[0], max_pixels=data.max_pixels, min_side=data.min_side,
                name=path.name,
            )  # fmt: skip
        except SetAside as reason:
            raise UserError(f"{path}: was in order before, now it is not: {reason}") from None
        picture = Image.fromarray(pixels_HW3)
        picture.thumbnail((LONGEST, LONGEST))
        name = f"examples/{number}.png"
        with atomic_write(folder / name) as file:
            picture.save(file, "PNG")
        written.append((name, label))
    return tuple(written)
