"""Taking the places of a machine out of what is shown: a report may leave the house, its paths may not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from medssl.nameless import Nameless

__all__ = ["Cleaner", "short_name"]

# An absolute path in running text: POSIX with two parts or more, a home, a drive or a share.
_ABSOLUTE = re.compile(
    r"""(?<![\w.:/\\~-])(?:~?/(?!/)[^\s'"<>|,;:()\[\]{}]+|~[\w-]+/[^\s'"<>|,;:()\[\]{}]*
                           |[A-Za-z]:[\\/][^\s'"<>|,;()\[\]{}]*|\\\\[^\s'"<>|,;()\[\]{}]+)""",
    re.VERBOSE,
)
_LEAST_KNOWN = 3  # a known place this short ("/", "/x") is left to the pattern


def short_name(path: str | Path) -> str:
    """Return the last part of a path of either system, "" of a root.

    Example:
        >>> short_name("/home/jane/stores/ct"), short_name("C:/data/ct/"), short_name("runs/ct")
        ('ct', 'ct', 'ct')
    """
    text = str(path).rstrip("/\\")
    name = PureWindowsPath(text).name if "\\" in text else PurePosixPath(text).name
    return "" if name == "~" else name


class Cleaner:
    """Shortens paths in texts to their last part.

    Args:
        known: Places that are known to occur, such as runs; they are found whole, spaces and all.
        nameless: What takes names of the sources out first; of those not even the last part stays.
    """

    def __init__(self, known: Iterable[str | Path] = (), nameless: Iterable[Nameless] = ()) -> None:
        self._nameless = tuple(nameless)
        places = {str(place).rstrip("/\\") for place in known}
        # the longest first: a file before the folder that it lies in
        self._known = sorted(
            (p for p in places if (len(p) > _LEAST_KNOWN and p[0] in "/\\~") or ":" in p[:3]), key=len, reverse=True
        )

    def text(self, text: str) -> str:
        """Return running text with every absolute path shortened.

        Example:
            >>> Cleaner().text("encoder of /home/jane/runs/ct, 3 scans")
            'encoder of ct, 3 scans'
        """
        for one in self._nameless:
            text = one.text(text)
        for place in self._known:
            if place in text:
                text = text.replace(place, short_name(place))
        return _ABSOLUTE.sub(lambda found: _shortened(found.group()), text)

    def word(self, word: str) -> str:
        """Return one word of a command, or one setting: a path is shortened whole, also behind ``key=``.

        Example:
            >>> Cleaner().word("data.store=/home/Jane Doe/ct"), Cleaner().word("../jane/ct"), Cleaner().word("1/4")
            ('data.store=ct', 'ct', '1/4')
        """
        key, equals, value = word.partition("=")
        if equals and re.fullmatch(r"-{0,2}[\w.-]+", key):
            return f"{key}={self.word(value)}"
        if re.match(r"[/\\~]|\.\.[/\\]|[A-Za-z]:[\\/]", word):
            return short_name(word)
        return self.text(word)

    def value(self, value: Any) -> Any:
        """Return a setting with the paths in it shortened, however deep they lie."""
        if isinstance(value, str):
            return self.word(value)
        if isinstance(value, Path):
            return short_name(value)
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.value(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(inner) for inner in value]
        return value


def _shortened(path: str) -> str:
    """Return the last part; punctuation that ends a sentence stays where it was."""
    body = path.rstrip(".")
    return short_name(body) + path[len(body) :]
