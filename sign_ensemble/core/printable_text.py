"""Text of users, such as names of files, as terminals and tables can hold it."""

from __future__ import annotations

from unicodedata import category

ESCAPED = {"Cc", "Cs", "Zl", "Zp"}  # control characters, lone surrogates, line separators


def storable(text: str) -> str:
    r"""The text with what is not UTF-8 escaped: the byte E9 of a file's name becomes ``\xe9``."""
    return "".join(_escape(c) if category(c) == "Cs" else c for c in text)


def printable(text: str) -> str:
    """The text on one line: control characters, and what is not UTF-8, are escaped."""
    if text.isprintable():
        return text
    return "".join(_escape(c) if category(c) in ESCAPED else c for c in text)


def one_line(text: str) -> str:
    """The text with line breaks as spaces, and :func:`printable`."""
    return printable(" ".join(text.splitlines()))


def _escape(character: str) -> str:
    """A byte that is not UTF-8, which Python keeps as a surrogate, as itself."""
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
