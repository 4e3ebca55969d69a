"""Names of files and folders out of texts: what says "/data/JANE_DOE/ct.nii.gz: ..." is kept as "this file: ...".

Folders and files of hospitals are often named after people. The manifest must say where the scans lie; nothing else
that is kept does (docs/privacy.md). A text that speaks of a scan names it by its id.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

__all__ = ["Nameless", "nameless_job", "nameless_rows", "places_as"]

_FILE, _FOLDER = "(a file)", "(a folder)"
# An absolute path in running text: POSIX with two parts or more, a drive or a share.
_ABSOLUTE = re.compile(
    r"""(?<![\w.:/\\~<)-])(?:/(?!/)[^\s'"<>|,;:()\[\]{}/]+/[^\s'"<>|,;:()\[\]{}]*
                           |[A-Za-z]:[\\/][^\s'"<>|,;()\[\]{}]*|\\\\[^\s'"<>|,;()\[\]{}]+)""",
    re.VERBOSE,
)
_LEAST = 4  # characters of a folder's name that is looked for by itself
_PLAIN = {  # names that say nothing of anybody
    *("images", "image", "imagestr", "imagests", "labels", "label", "labelstr", "labelsts", "masks", "mask", "scans"),
    *("train", "training", "valid", "validation", "test", "testing", "data", "dataset", "anat", "func", "perf", "fmap"),
    *("dicom", "nifti", "raw", "derivatives", "sourcedata", "clouds", "points", "meshes", "segmentations", "patients"),
    *("patient", "case", "cases", "series", "study", "studies", "visit", "scan", "volume", "home", "mnt", "users"),
}


class Nameless:
    """Takes known and absolute paths out of running text.

    Args:
        places: Path -> what is written in its stead, such as the id of the scan.
        words: Name of a file or folder -> the same, wherever it stands as a word of its own.

    Example:
        >>> Nameless({"/data/JANE/ct.nii": "scan-1"}).text("/data/JANE/ct.nii: 3 slices; see /home/jane/x.txt")
        'scan-1: 3 slices; see (a file)'
    """

    def __init__(self, places: Mapping[str, str], words: Mapping[str, str] | None = None) -> None:
        # The longest first: a file before the folder that it lies in.
        self._places = sorted(((p, to) for p, to in places.items() if p), key=lambda pair: -len(pair[0]))
        self._words = dict(words or {})
        named = sorted((word for word in self._words if word), key=len, reverse=True)
        self._word = (
            re.compile(r"(?<![\w.^-])(?:" + "|".join(map(re.escape, named)) + r")(?![\w^-]|\.\w)") if named else None
        )

    def also(self, words: Mapping[str, str]) -> Nameless:
        """Return one that takes further words out as well."""
        return Nameless(dict(self._places), {**self._words, **words})

    def text(self, text: str) -> str:
        """Return a text without the names."""
        for place, instead in self._places:
            if place in text:
                text = text.replace(place, instead)
        if self._word is not None:
            text = self._word.sub(lambda found: self._words[found.group()], text)
        return _ABSOLUTE.sub(lambda found: _FILE + _ending(found.group()), text)

    def value(self, value: Any) -> Any:
        """Return a value with the names taken out of every text in it, however deep; keys stay."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: self.value(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(inner) for inner in value]
        return value


def places_as(text: str, way: Callable[[str], str]) -> str:
    """Return a text with each absolute path in it as ``way`` has it.

    Example:
        >>> places_as("store: /home/jane/ct: 5 scans", lambda place: "../ct")
        'store: ../ct: 5 scans'
    """
    return _ABSOLUTE.sub(lambda found: way(found.group().rstrip(".")) + _ending(found.group()), text)


def nameless_job(scan: str, paths: Iterable[str | None]) -> Nameless:
    """Return what takes the files of one scan out of texts on it: its id stands in their stead.

    Args:
        scan: The id.
        paths: Its files and folders, those of its label too.
    """
    known = [path for path in paths if path]
    # A short path, such as the "." of a scan whose file is not known, may mean anything.
    places = [path for path in known if len(path) >= _LEAST and ("/" in path or "\\" in path)]
    return Nameless(dict.fromkeys(places, scan), {_name(path): scan for path in known if len(_name(path)) >= _LEAST})


def nameless_rows(rows: Sequence[Mapping[str, Any]], root: str = "", spoken: Iterable[str] = ()) -> Nameless:
    """Return what takes the files and folders of a manifest's rows out of texts.

    Args:
        rows: Rows of a manifest.
        root: The folder that was indexed.
        spoken: Words that stay where they are also the name of a folder: classes, channels and the like. Ids and keys
            of patients stay in any case.
    """
    kept = {word.casefold() for word in spoken} | _PLAIN
    kept |= {
        str(row.get(name)).casefold()
        for row in rows
        for name in ("id", "patient", "case", "channel", "study")
        if row.get(name)
    }
    places: dict[str, str] = {}
    words: dict[str, str] = {}
    root = root or _common(rows)
    for row in rows:
        own = [row["path"], row.get("label_path"), *(row.get("paths") or ())]
        for path in filter(None, own):
            places[path] = row["id"]
            relative = _relative(path, root)
            places.setdefault(relative, row["id"])
            *folders, name = PurePosixPath(relative.replace("\\", "/")).parts or ("",)
            if len(name) >= _LEAST and name.casefold() not in kept:
                words[name] = row["id"]
                stem = name.split(".")[0]
                if len(stem) >= _LEAST and stem.casefold() not in kept:
                    words.setdefault(stem, row["id"])
            for depth, folder in enumerate(folders):
                if len(folder) >= _LEAST and folder.casefold() not in kept and not folder.isdecimal():
                    words.setdefault(folder, _FOLDER)
                if depth:  # of one folder alone the word is enough
                    places.setdefault("/".join(folders[: depth + 1]), _FOLDER)
    if root:
        places[root] = "(the folder)"
        last = _name(root)
        if len(last) >= _LEAST and last.casefold() not in kept:
            words.setdefault(last, "(the folder)")
    # A short relative path, such as "1/2", may mean anything.
    return Nameless({place: to for place, to in places.items() if len(place) > _LEAST and "/" in place}, words)


def _common(rows: Sequence[Mapping[str, Any]]) -> str:
    folders = {str(PurePosixPath(row["path"]).parent) for row in rows if str(row["path"]).startswith("/")}
    return os.path.commonpath(folders) if folders and len(folders) == len({*folders} - {"/"}) else ""


def _relative(path: str, root: str) -> str:
    inside = path[len(root) :].lstrip("/\\") if root and path.startswith(root) else ""
    return inside or _name(path)


def _name(path: str) -> str:
    text = path.rstrip("/\\")
    return PureWindowsPath(text).name if "\\" in text else PurePosixPath(text).name


def _ending(path: str) -> str:
    """Return the punctuation that ends a sentence, which is no part of the path before it."""
    return path[len(path.rstrip(".")) :]
