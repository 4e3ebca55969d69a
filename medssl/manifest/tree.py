"""The files of a tree before any is read: scans, DICOM, pictures, clouds; and a count of all that is none of these."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medssl.errors import FormatError, ManifestError
from medssl.formats.parts import PAIRS, files_of, partner
from medssl.formats.table import format_of, is_dicom_name, is_scan_name
from medssl.manifest.clouds import CloudReader
from medssl.manifest.passed_over import SIDECARS, PassedOver, suffix_of
from medssl.manifest.picture_folders import PictureRule, Stack, stacks_of

__all__ = ["Tree", "find_files"]

_NEVER_DICOM = {*SIDECARS, ".zip", ".tar", ".gz", ".tgz", ".bz2", ".7z", ".raw", ".zraw", ".pt", ".pkl", ".db"}
_DETACHED = (".mhd", ".nhdr")


@dataclass(frozen=True, kw_only=True)
class Tree:
    """The files below a root, before any is read.

    Attributes:
        root: Where the walk began.
        files: Scans and labels that are files of their own.
        dicom: Files that are, or may be, slices of DICOM series.
        described: Every dataset.json.
        closed: Folders that could not be listed, with the reason.
        clouds: Files of point clouds.
        patient_cards: Every Info.cfg: what ACDC says of a patient.
        made: Runs and stores of medssl, which are passed over: their pictures, predictions and chunks are no scans.
        stacks: Folders of pictures that are slices of one scan.
        passed_over: What was left out, counted.
        beside: Files that are no clouds; among clouds, their labels and lists.
        unread: Among clouds, files that nothing here knows; who reads clouds may (see `count_unread`).
    """

    root: Path
    files: tuple[Path, ...]
    dicom: tuple[Path, ...]
    described: tuple[Path, ...]
    closed: tuple[tuple[Path, str], ...]
    clouds: tuple[Path, ...] = ()
    patient_cards: tuple[Path, ...] = ()
    made: tuple[Path, ...] = ()
    stacks: tuple[Stack, ...] = ()
    passed_over: PassedOver = field(default_factory=PassedOver)
    beside: tuple[Path, ...] = ()
    unread: tuple[Path, ...] = ()

    def count_unread(self, accounted: Collection[Path] = ()) -> None:
        """Count what lies among clouds as passed over, but for what who reads clouds has read or counted."""
        for path in self.unread:
            if path not in accounted:
                self.passed_over.add_file(path)

    def notes(self) -> list[str]:
        """Return what a person should know of the walk."""
        said = self.passed_over.notes()
        if self.stacks:
            one = self.stacks[0].folder.name
            said.append(
                f"stacks of pictures: {len(self.stacks)} folders, such as {one}, were taken as one scan each; "
                "pictures=single reads each picture by itself"
            )
        if self.made:
            shown = [path.relative_to(self.root).as_posix() for path in self.made[:3]]
            named = ", ".join(shown) + (", ..." if len(self.made) > 3 else "")
            said.append(f"Passed over, since medssl wrote them: {named} ({len(self.made)} in all).")
        return said


def find_files(
    root: Path,
    clouds: CloudReader | None = None,
    *,
    pictures: PictureRule = "auto",
    only: Sequence[Path] | None = None,
) -> Tree:
    """List what a tree holds. What is hidden, runs, stores and predictions are passed over, circles of links too.

    Nothing but plain files is ever opened: a pipe or a device is counted and left alone.

    Args:
        root: A folder, or one file.
        clouds: Who knows clouds; without one they are passed over.
        pictures: Which folders of pictures are scans of several slices; see `picture_folders`.
        only: Files below the root that are looked at; None walks over all of it.

    Raises:
        ManifestError: There is no such file or folder, or medssl wrote it.
    """
    if not root.exists():
        raise ManifestError(f"{root}: no such folder. Give the folder of scans, one scan, or a CSV that lists scans.")
    if _is_made(root):
        raise ManifestError(f"{root}: medssl wrote this, a run or a store. Give the folder of scans that it came from.")
    made: list[Path] = []
    closed: list[tuple[Path, str]] = []
    passed = PassedOver()
    walked = _walk(root, closed, made, passed) if only is None else sorted(set(only))
    claims = {path: clouds.claim(path) if clouds else "other" for path in walked}
    # A file that may be a damaged cloud is one where others lie.
    taken = {"cloud", "damaged"} if "cloud" in claims.values() else {"cloud"}
    plain = [path for path, claimed in claims.items() if claimed not in taken]
    kinds: dict[str, list[Path]] = {kind: [] for kind in ("described", "card", "scan", "dicom", "picture", "array", "")}
    for path in plain:
        kinds[_kind(path, claims)].append(path)
    files = kinds["scan"]
    others = kinds[""]
    stacks: list[Stack] = []
    # Beside scans, pictures are screenshots and previews, and arrays are made of scans; alone they are what is meant.
    alone = not files and not kinds["dicom"] and "cloud" not in claims.values()
    if alone:
        stacks, singles = stacks_of(kinds["picture"], root if root.is_dir() else root.parent, pictures)
        files = sorted([*singles, *kinds["array"]], key=plain.index) if kinds["array"] else singles
    else:
        near = "scans" if files or kinds["dicom"] else "clouds"
        passed.things[f"pictures beside {near}"] += len(kinds["picture"])
        passed.things[f"arrays (.npy) beside {near}"] += len(kinds["array"])
    named = _named_by_headers(files)
    passed.things = +passed.things
    tree = Tree(
        root=root if root.is_dir() else root.parent,
        files=tuple(files),
        dicom=tuple(kinds["dicom"]),
        described=tuple(kinds["described"]),
        closed=tuple(closed),
        clouds=tuple(path for path, claimed in claims.items() if claimed in taken),
        patient_cards=tuple(kinds["card"]),
        made=tuple(made),
        stacks=tuple(stacks),
        passed_over=passed,
        beside=tuple(plain),
        unread=tuple(path for path in others if path not in named),
    )
    if "cloud" not in claims.values():  # who reads clouds knows what labels and lists them
        tree.count_unread()
    return tree


def _kind(path: Path, known: Mapping[Path, str]) -> str:
    name = path.name.lower()
    if path.name == "dataset.json":
        return "described"
    if name == "info.cfg":
        return "card"
    if format_of(path) == "image":
        return "picture"
    if name.endswith(".npy"):
        return "array" if _is_volume(path) else ""
    if name.endswith(tuple(PAIRS)):  # the header stands for the pair
        header = name.endswith((".hdr", ".hdr.gz"))
        return "scan" if header and (partner(path) in known or _is_analyze(path)) else ""
    if is_scan_name(path):
        return "scan"
    return "dicom" if is_dicom_name(path) or _may_be_dicom(path) else ""


def _named_by_headers(files: list[Path]) -> set[Path]:
    """Return the files that belong to a scan and are named by its header, or by the other file of the pair."""
    named: set[Path] = set()
    for path in files:
        name = path.name.lower()
        if name.endswith((*_DETACHED, *PAIRS)):
            try:
                named.update(files_of(path))
            except (FormatError, OSError):
                continue  # the reader names it
    return named


def _is_volume(path: Path) -> bool:
    """Tell whether an .npy file holds an array of three or four axes."""
    from medssl.formats.arrays import read_header

    try:
        read_header(path)
    except FormatError:
        return False
    return True


def _is_analyze(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) in (
                b"\x5c\x01\x00\x00",
                b"\x00\x00\x01\x5c",
                b"\x1c\x02\x00\x00",
                b"\x00\x00\x02\x1c",
            )
    except OSError:
        return False


def _is_made(folder: Path) -> bool:
    """Return whether medssl wrote a folder: a run, or a store of scans or clouds."""
    try:
        run = (folder / "run.yaml").is_file() and (folder / "environment.json").is_file()
        return run or (folder / "store.json").is_file() or (folder / "clouds.json").is_file()
    except OSError:  # a path beyond what the system takes; listing it says so
        return False


def _holds_predictions(folder: Path) -> bool:
    """Return whether ``medssl predict`` writes here: its maps are no scans, unless somebody names their folder."""
    journal = folder / "journal.jsonl"
    try:
        if not journal.is_file():
            return False
        with journal.open("rb") as file:
            return b'"made_with"' in file.readline(500)
    except OSError:
        return False


def _walk(root: Path, closed: list[tuple[Path, str]], made: list[Path], passed: PassedOver) -> Iterator[Path]:
    """Yield plain files in a fixed order; note folders that may not be entered or that medssl wrote, and the rest."""
    if root.is_file():
        yield root
        return
    inside = root.resolve()
    entered = {inside}
    waiting = [root]
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            todo = "Give the user who runs this the right to."
            if error.errno == errno.ENAMETOOLONG:
                todo = "Shorten the names of the folders above it, or index it from a folder nearer to it."
            why = f"The folder cannot be listed ({error.strerror or error}). {todo}"
            closed.append((here, why))
            continue
        folders = []
        for entry in entries:
            path = here / entry.name
            if entry.name.startswith("."):
                passed.things["copies by macOS (._*)" if entry.name.startswith("._") else "hidden"] += 1
                continue
            what = _what(entry)
            if entry.is_symlink() and what in ("file", "folder") and not path.resolve().is_relative_to(inside):
                passed.followed += 1
            if what == "folder":
                real = path.resolve()
                if real in entered:
                    passed.things["links to a folder that was seen already (a circle, or twice)"] += 1
                elif _is_made(path) or _holds_predictions(path):
                    made.append(path)
                else:
                    entered.add(real)
                    folders.append(path)
            elif what == "file":
                yield path
            else:
                passed.things[what] += 1
        waiting += reversed(folders)


def _is_text(name: str) -> bool:
    """Tell whether a name can be written into a manifest, which holds UTF-8 alone."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _what(entry: os.DirEntry[str]) -> str:
    """Return "file", "folder", or in words what else it is. Nothing is opened."""
    if not _is_text(entry.name):
        return "names that are not UTF-8 (rename these files and folders)"
    try:
        if entry.is_file():
            return "file"
        if entry.is_dir():
            return "folder"
        mode = entry.stat().st_mode
    except OSError:
        return "broken links" if entry.is_symlink() else "files that cannot be looked at"
    kinds = ((stat.S_ISFIFO, "pipes"), (stat.S_ISSOCK, "sockets"))
    return next((word for holds, word in kinds if holds(mode)), "devices")


def _may_be_dicom(path: Path) -> bool:
    if suffix_of(path) in _NEVER_DICOM:
        return False
    from medssl.formats.dicom_slices import starts_as_dicom

    return starts_as_dicom(path)
