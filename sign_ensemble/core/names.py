"""Names of labels and signers: what was typed, in one spelling."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable

MOST_NAMED = 40  # names in one sentence: an alphabet and its controls; of more, only the first


class Name(str):
    """A label's or signer's name: accents composed (NFC), no space around it."""

    def __new__(cls, text: str = "") -> Name:
        """The name that a text means."""
        return super().__new__(cls, unicodedata.normalize("NFC", text).strip())


def listed(names: Collection[str], most: int = MOST_NAMED) -> str:
    """The sorted names in one line, the first of many."""
    shown = sorted(names)[:most]
    more = len(names) - len(shown)
    return ", ".join(shown) + f" and {more} more" * (more > 0) or "none"


def differing_by_case(names: Iterable[str]) -> list[list[str]]:
    """Groups of names that are the same but for capital letters."""
    groups: dict[str, set[str]] = {}
    for name in names:
        groups.setdefault(name.casefold(), set()).add(name)
    return [sorted(group) for _, group in sorted(groups.items()) if len(group) > 1]
