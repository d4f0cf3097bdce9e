"""LICENSE and NOTICE of the package, which go with whatever holds parts of it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import sign_ensemble
from sign_ensemble.core.atomic_files import atomic_write

NAMES = ("LICENSE", "NOTICE")


def write_licences(folder: Path) -> None:
    """Write both files into a folder."""
    for name in NAMES:
        with atomic_write(folder / name) as file:
            file.write_bytes(licence_file(name).read_bytes())


def licence_file(name: str) -> Path:
    """One of NAMES: next to the package in a checkout, with its metadata where it is installed.

    Raises:
        FileNotFoundError: the installation has lost it.
    """
    checkout = Path(sign_ensemble.__file__).parents[1] / name
    if checkout.is_file():
        return checkout
    try:
        listed = files("sign-ensemble") or []
    except PackageNotFoundError:
        listed = []
    for each in listed:
        if each.name == name and "dist-info" in each.as_posix():
            return Path(str(each.locate()))
    raise FileNotFoundError(f"{name} of sign-ensemble is not installed with it")
