"""What recurs from folder to folder: ``t2`` in 001, 002 and 003 names a contrast, and the folders name the patients."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import PurePosixPath

from medssl.manifest.rules.words import is_words

__all__ = ["Recurring", "starts_with"]

_GROUP = re.compile(
    r"(sites?|cent(er|re)|hospital|clinic|batch|set|part|fold|group|cohort|dataset|ds|vendor|scanner|class|task|v|"
    r"version|release)[-_ ]?[A-Za-z0-9]{0,3}",
    re.I,
)
_PATIENT = re.compile(r"\d+|[A-Za-z]{1,4}[-_]?\d+|(patient|subject|subj|case)[-_ ]?\d+", re.I)
_NUMBERED = re.compile(r"(?<![A-Za-z])(?:patient|subject|subj|case|pt)[-_ ]?\d+", re.I)
_FEW_FILES, _FEW_FOLDERS, _ENOUGH_FOLDERS = 12, 4, 3
Folders = tuple[str, ...]


def starts_with(name: str, beginning: str) -> bool:
    """Tell whether a name goes on after a beginning that is whole words of it.

    Example:
        >>> starts_with("10000_1000000_adc", "10000"), starts_with("100001", "10000")
        (True, False)
    """
    low, start = name.lower(), beginning.lower()
    return low.startswith(start) and len(low) > len(start) and not low[len(start)].isalnum()


class Recurring:
    """Knows which names of files and of folders recur so that they name no patient.

    Args:
        local: Path of every file -> its name without suffix and folders that it repeats, in lower case.
    """

    def __init__(self, local: Mapping[str, str]) -> None:
        """Count what recurs."""
        files: defaultdict[int, defaultdict[str, set[Folders]]] = defaultdict(lambda: defaultdict(set))
        folders: defaultdict[int, defaultdict[str, set[Folders]]] = defaultdict(lambda: defaultdict(set))
        self._home: dict[str, Folders] = {}
        for name, bare in local.items():
            solid = tuple(part for part in PurePosixPath(name).parts[:-1] if not is_words(part))
            self._home[name] = solid
            if solid:
                files[len(solid)][bare].add(solid)
            for place in range(1, len(solid)):
                folders[place][solid[place].lower()].add(solid[:place])
        self._local = dict(local)
        self._files = {depth: _judged(own, _FEW_FILES) for depth, own in files.items()}
        self._patients = {depth for depth, own in files.items() if _few_in_each(own)}
        self._folders = {depth: _judged(own, _FEW_FOLDERS) for depth, own in folders.items()}

    def file(self, name: str) -> bool:
        """Tell whether a file's name recurs in other patients' folders."""
        solid = self._home[name]
        if len(solid) in self._patients and not _NUMBERED.search(self._local[name]):
            return True
        return (self._local[name], solid) in self._files.get(len(solid), set())

    def folder(self, folders: Folders, place: int) -> bool:
        """Tell whether a folder's name recurs in other patients' folders.

        Args:
            folders: All folders of a path.
            place: Which of them.
        """
        above = tuple(part for part in folders[:place] if not is_words(part))
        return (folders[place].lower(), above) in self._folders.get(len(above), set())


def _judged(children: Mapping[str, set[Folders]], few: int) -> set[tuple[str, Folders]]:
    """Return (name, folders above) of names that recur and whose folders are rather patients than groups of them.

    Numbers recur in any groups of patients (site A has a 001 as site B has); so they name no one only where there are
    more folders than numbers, or where the folders are called as patients are.
    """
    recurring = {child: homes for child, homes in children.items() if len(homes) > 1}
    homes = set().union(*recurring.values()) if recurring else set()
    like_patients = all(_PATIENT.fullmatch(home[-1]) for home in homes)
    with_numbers = all(any(letter.isdigit() for letter in home[-1]) for home in homes)
    found = set()
    for child, own in recurring.items():
        numbered = any(letter.isdigit() for letter in child)
        enough = len(homes) > len(recurring) if numbered else len(homes) >= len(recurring) or with_numbers
        if enough or (like_patients and len(recurring) <= few):
            found |= {(child, home) for home in own if not _GROUP.fullmatch(home[-1])}
    # P01 has visits 1 and 2, P02 a 1 alone: the 2 names no one either.
    shapes = {(_shape(child), home) for child, home in found}
    found |= {(child, home) for child, own in children.items() for home in own if (_shape(child), home) in shapes}
    return found


def _shape(child: str) -> str:
    return re.sub(r"\d+", "0", child)


def _few_in_each(children: Mapping[str, set[Folders]]) -> bool:
    """Tell whether folders that are called as patients are hold a few files each, whatever those are called."""
    counts = Counter(home for own in children.values() for home in own)
    called = all(_PATIENT.fullmatch(home[-1]) and not _GROUP.fullmatch(home[-1]) for home in counts)
    return called and len(counts) >= _ENOUGH_FOLDERS and 1 < max(counts.values()) <= _FEW_FILES
