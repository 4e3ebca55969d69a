"""Texts that leave: words of a command line that is shown to be copied, and what files say without its hidden signs."""

from __future__ import annotations

import re
import shlex

__all__ = ["quoted", "visible"]

# Controls (C0, C1; ESC begins what moves a terminal's cursor), marks that turn the direction of text round, separators
# of lines and paragraphs, marks without width, and halves of pairs, which no file or terminal takes.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb"
    "\ud800-\udfff]"
)
_SEQUENCE = re.compile(
    r"\x1b(\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(\x07|\x1b\\)?|[ -/]*[0-~])|\x9b[0-?]*[ -/]*[@-~]"
)


def quoted(*words: object) -> str:
    """Return paths and other words as a shell takes them: those with spaces or signs in quotes.

    Example:
        >>> quoted("my scans/ct", "out")
        "'my scans/ct' out"
    """
    return shlex.join(str(word) for word in words)


def visible(text: str, *, lines: bool = False) -> str:
    r"""Return a text without what a terminal would obey, and without what hides or turns other text.

    Applied where text leaves (console, log, page), for names of files, classes and series come from whoever made them.
    Sequences that begin with ESC go as a whole; other hidden signs become "?", tabs and ends of lines a space.

    Args:
        text: Any.
        lines: Keep ends of lines, for texts of our own that have several.

    Example:
        >>> visible("liver\x1b[2J\u202egpj\nerror: none")
        'liver?gpj error: none'
    """
    plain = _SEQUENCE.sub("", text.replace("\r\n", "\n"))
    plain = plain.replace("\t", " ")
    return _HIDDEN.sub("?", plain if lines else plain.replace("\n", " "))
