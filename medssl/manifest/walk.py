"""Finding every scan of a tree: files that are scans by themselves, DICOM series, and the labels of both."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from medssl.errors import ManifestError
from medssl.formats.table import format_of, is_dicom_name, is_scan_name
from medssl.manifest.clouds import Arranged, CloudReader, cloud_sources, listed_clouds
from medssl.manifest.importers import Hints, bids_hints, dataset_json_hints, info_cfg_targets, is_bids
from medssl.manifest.labels import NO_IMAGE, Pairs, pair_labels
from medssl.manifest.listing import found_in_csv
from medssl.manifest.sources import Found, Source

__all__ = ["Tree", "find_files", "find_scans"]

_NOT_SCANS = {".json", ".csv", ".tsv", ".txt", ".md", ".cfg", ".xml", ".html", ".pdf", ".png", ".jpg", ".jpeg", ".py",
              ".yaml", ".yml", ".log", ".zip", ".tar", ".gz", ".bz2", ".7z", ".xlsx", ".docx", ".parquet", ".bval",
              ".bvec", ".raw", ".zraw", ".npy", ".pt", ".pkl"}  # fmt: skip


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
        beside: Files that are no clouds; among clouds, their labels and lists.
    """

    root: Path
    files: tuple[Path, ...]
    dicom: tuple[Path, ...]
    described: tuple[Path, ...]
    closed: tuple[tuple[Path, str], ...]
    clouds: tuple[Path, ...] = ()
    patient_cards: tuple[Path, ...] = ()
    made: tuple[Path, ...] = ()
    beside: tuple[Path, ...] = ()


def find_files(root: Path, clouds: CloudReader | None = None) -> Tree:
    """List what a tree holds. What is hidden, runs and stores are passed over; links are followed, circles are not.

    Args:
        root: A folder, or one file.
        clouds: Who knows clouds; without one they are passed over.

    Raises:
        ManifestError: There is no such file or folder, or medssl wrote it.
    """
    if not root.exists():
        raise ManifestError(f"{root}: no such folder. Give the folder of scans, one scan, or a CSV that lists scans.")
    if _is_made(root):
        raise ManifestError(f"{root}: medssl wrote this, a run or a store. Give the folder of scans that it came from.")
    made: list[Path] = []
    files: list[Path] = []
    dicom: list[Path] = []
    described: list[Path] = []
    pictures: list[Path] = []
    closed: list[tuple[Path, str]] = []
    cards: list[Path] = []
    claims = {path: clouds.claim(path) if clouds else "other" for path in _walk(root, closed, made)}
    # A file that may be a damaged cloud is one where others lie.
    taken = {"cloud", "damaged"} if "cloud" in claims.values() else {"cloud"}
    for path, claimed in claims.items():
        if claimed in taken:
            continue
        if path.name == "dataset.json":
            described.append(path)
        elif format_of(path) == "image":
            pictures.append(path)
        elif path.name.lower() == "info.cfg":
            cards.append(path)
        elif is_scan_name(path):
            files.append(path)
        elif is_dicom_name(path) or _may_be_dicom(path):
            dicom.append(path)
    if not files and not dicom and "cloud" not in claims.values():
        files = pictures  # beside scans they are screenshots and previews; alone they are what is meant
    return Tree(
        root=root if root.is_dir() else root.parent,
        files=tuple(files),
        dicom=tuple(dicom),
        described=tuple(described),
        closed=tuple(closed),
        clouds=tuple(path for path, claimed in claims.items() if claimed in taken),
        patient_cards=tuple(cards),
        made=tuple(made),
        beside=tuple(path for path, claimed in claims.items() if claimed not in taken),
    )


def find_scans(scans: Path, clouds: CloudReader | None = None) -> tuple[Found, Tree]:
    """Find the scans and clouds of a folder, of one file or of a CSV; DICOM files are left to `series.py`.

    Args:
        scans: The folder, file or CSV.
        clouds: Who knows clouds; without one they are passed over.

    Raises:
        ManifestError: There is no such file or folder, or the CSV lists no paths.
    """
    scans = Path(scans).absolute()
    if scans.is_file() and scans.suffix.lower() in {".csv", ".tsv"}:
        listed = listed_clouds(found_in_csv(scans), clouds)
        return listed, Tree(root=scans.parent, files=(), dicom=(), described=(), closed=())
    tree = find_files(scans, clouds)
    by_name = {_relative(path, tree.root): path for path in tree.files}
    hints = _hints(tree, by_name)
    pairs = pair_labels(name for name in by_name if name not in hints.labels and name not in hints.skipped)
    sources = [
        _source(name, path, by_name, hints, pairs)
        for name, path in sorted(by_name.items())
        if name not in hints.labels and name not in hints.skipped and name not in pairs.labels
    ]
    sources += [
        Source(
            path=by_name[name],
            relative=name,
            flags=(NO_IMAGE,),
            error="Its name says that it is a label, and there is no image of that name. Put the image in its place, "
            "or list scans and labels in a CSV.",
        )
        for name in pairs.orphans
    ]
    arranged = Arranged()
    if clouds:
        of_clouds, arranged = cloud_sources(tree.clouds, tree.beside, tree.root, clouds)
        sources += of_clouds
    sources += [Source(path=path, relative=_relative(path, tree.root), error=why) for path, why in tree.closed]
    notes = list(hints.notes)
    if tree.made:
        named = ", ".join(_relative(path, tree.root) for path in tree.made[:3]) + (
            ", ..." if len(tree.made) > 3 else ""
        )
        notes.append(f"Passed over, since medssl wrote them: {named} ({len(tree.made)} in all).")
    found = Found(
        sources=tuple(sources),
        classes=hints.classes,
        notes=tuple(notes),
        layout=hints.layout or "tree",
        of_clouds=arranged.kept(),
    )
    return found, tree


def _is_made(folder: Path) -> bool:
    """Return whether medssl wrote a folder: a run, or a store of scans or clouds."""
    run = (folder / "run.yaml").is_file() and (folder / "environment.json").is_file()
    return run or (folder / "store.json").is_file() or (folder / "clouds.json").is_file()


def _walk(root: Path, closed: list[tuple[Path, str]], made: list[Path]) -> Iterator[Path]:
    """Yield files in a fixed order, and note folders that may not be entered and those that medssl wrote."""
    if root.is_file():
        yield root
        return

    def refuse(error: OSError) -> None:
        why = f"The folder cannot be listed ({error.strerror or error}). Give the user who runs this the right to."
        closed.append((Path(error.filename or root), why))

    entered = {root.resolve()}
    for parent, folders, names in os.walk(root, onerror=refuse, followlinks=True):
        here = Path(parent)
        kept = []
        for name in sorted(folders):
            real = (here / name).resolve()
            if name.startswith(".") or real in entered:
                continue
            entered.add(real)
            if _is_made(here / name):
                made.append(here / name)
            else:
                kept.append(name)
        folders[:] = kept
        for name in sorted(names):
            if not name.startswith("."):
                yield here / name


def _may_be_dicom(path: Path) -> bool:
    if format_of(path) is not None or path.suffix.lower() in _NOT_SCANS or path.name.upper() == "DICOMDIR":
        return False
    from medssl.formats.dicom_slices import starts_as_dicom

    return starts_as_dicom(path)


def _relative(path: Path, root: Path) -> str:
    return PurePosixPath(path.relative_to(root)).as_posix() if path.is_relative_to(root) else path.name


def _hints(tree: Tree, by_name: dict[str, Path]) -> Hints:
    """Join what every data set of the tree says of itself."""
    every = [
        dataset_json_hints(path, "" if path.parent == tree.root else _relative(path.parent, tree.root), by_name)
        for path in tree.described
    ]
    if not any(hints.layout for hints in every) and is_bids(tree.root):
        every.append(bids_hints(by_name))
    notes = [note for hints in every for note in hints.notes]
    named = [hints.classes for hints in every if hints.classes]
    classes = named[0] if named else {}
    if any(other != classes for other in named[1:]):
        notes.append("Several data sets name their labels differently, so no names are kept. Index them one by one.")
        classes = {}
    said = {path.parent: found for path in tree.patient_cards if (found := info_cfg_targets(path))}
    layouts = {hints.layout for hints in every if hints.layout}
    return Hints(
        label_of={image: label for hints in every for image, label in hints.label_of.items()},
        values={image: values for hints in every for image, values in hints.values.items()},
        labels=frozenset().union(*(hints.labels for hints in every)),
        skipped=frozenset().union(*(hints.skipped for hints in every)),
        classes=classes,
        notes=tuple(notes),
        layout=layouts.pop() if len(layouts) == 1 else "+".join(sorted(layouts)),
        targets={name: said[path.parent] for name, path in by_name.items() if path.parent in said},
    )


def _source(name: str, path: Path, by_name: dict[str, Path], hints: Hints, pairs: Pairs) -> Source:
    label = hints.label_of.get(name) or pairs.label_of.get(name)
    values = dict(hints.values.get(name, {}))
    targets = tuple(sorted(hints.targets.get(name, {}).items()))
    source = Source(path=path, relative=name, label_path=by_name[label] if label else None, targets=targets)
    if values.pop("channel", ""):
        from medssl.manifest.patients import patient_key

        values["patient"] = patient_key(name, channel=True)
    if name in pairs.rivals and name not in hints.label_of:
        source = replace(source, flags=("several-labels",))
    return replace(source, **{key: value for key, value in values.items() if value})  # type: ignore[arg-type]
