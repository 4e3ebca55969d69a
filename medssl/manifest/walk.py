"""Finding every scan of a tree: files that are scans by themselves, DICOM series, and the labels of both."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from medssl.errors import ManifestError
from medssl.formats.table import format_of, is_dicom_name, is_scan_name
from medssl.manifest.clouds import CloudReader, cloud_sources
from medssl.manifest.importers import Hints, bids_hints_below, bids_roots, dataset_json_hints, info_cfg_targets
from medssl.manifest.labels import BY_CASE, NO_IMAGE, Pairs, pair_labels
from medssl.manifest.listing import found_in_csv
from medssl.manifest.rules.owners import Owner, owners_of
from medssl.manifest.rules.said import label_notes, owner_notes
from medssl.manifest.rules.splits import folder_splits
from medssl.manifest.sources import Found, Source, stem

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
    """

    root: Path
    files: tuple[Path, ...]
    dicom: tuple[Path, ...]
    described: tuple[Path, ...]
    closed: tuple[tuple[Path, str], ...]
    clouds: tuple[Path, ...] = ()
    patient_cards: tuple[Path, ...] = ()
    made: tuple[Path, ...] = ()


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
    )


def find_scans(scans: Path, clouds: CloudReader | None = None, *, keep_split: bool = True) -> tuple[Found, Tree]:
    """Find the scans and clouds of a folder, of one file or of a CSV; DICOM files are left to `series.py`.

    Args:
        scans: The folder, file or CSV.
        clouds: Who knows clouds; without one they are passed over.
        keep_split: Keep the split of folders that are called train, val and test.

    Raises:
        ManifestError: There is no such file or folder, or the CSV lists no paths.
    """
    scans = Path(scans).absolute()
    if scans.is_file() and scans.suffix.lower() in {".csv", ".tsv"}:
        listed = _told_apart(found_in_csv(scans), clouds)
        return listed, Tree(root=scans.parent, files=(), dicom=(), described=(), closed=())
    tree = find_files(scans, clouds)
    by_name = {_relative(path, tree.root): path for path in tree.files}
    hints = _hints(tree, by_name)
    named = [name for name in by_name if name not in hints.skipped]
    numbers = {name: said["number"] for name, said in hints.values.items() if said.get("number")}
    owners = owners_of(named, channels=numbers)
    pairs = pair_labels((name for name in named if name not in hints.labels), owners)
    images = [name for name in sorted(named) if name not in hints.labels and name not in pairs.labels]
    free = [name for name in images if "split" not in hints.values.get(name, {})]
    splits = folder_splits(free, {*hints.label_of, *pairs.label_of}, keep=keep_split)
    sources = [
        replace(_source(name, by_name[name], tree.root, hints, pairs, owners[name]), **_split_of(name, splits.of))
        for name in images
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
    if clouds:
        sources += cloud_sources({_relative(path, tree.root): path for path in tree.clouds}, clouds)
    sources += [Source(path=path, relative=_relative(path, tree.root), error=why) for path, why in tree.closed]
    shown = {name: owners[name] for name in images}
    notes = [*hints.notes, *splits.notes, *owner_notes(shown), *label_notes(pairs)]
    if tree.made:
        first = ", ".join(_relative(path, tree.root) for path in tree.made[:3])
        more = ", ..." if len(tree.made) > 3 else ""
        notes.append(f"Passed over, since medssl wrote them: {first}{more} ({len(tree.made)} in all).")
    found = Found(
        sources=tuple(sources),
        classes=hints.classes,
        ignored=hints.ignored,
        regions=hints.regions,
        notes=tuple(notes),
        layout=hints.layout or "tree",
        held=splits.held,
    )
    return found, tree


def _split_of(name: str, splits: Mapping[str, str]) -> dict[str, Any]:
    return {"split": splits[name]} if name in splits else {}


def _told_apart(found: Found, clouds: CloudReader | None) -> Found:
    """Say of every source of a CSV whether it is a cloud."""
    if clouds is None:
        return found
    sources = [
        replace(source, kind="cloud") if source.error is None and clouds.claim(source.path) != "other" else source
        for source in found.sources
    ]
    return replace(found, sources=tuple(sources))


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
    if format_of(path) is not None or path.suffix.lower() in _NOT_SCANS:
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
    known = {name for hints in every for name in (*hints.values, *hints.labels)}
    every += [bids_hints_below(place, set(by_name) - known) for place in bids_roots(tree.root, by_name)]
    notes = [note for hints in every for note in hints.notes]
    named = [(hints.classes, hints.ignored, hints.regions) for hints in every if hints.classes]
    classes, ignored, regions = named[0] if named else ({}, (), ())
    if any(other != named[0] for other in named[1:]):
        notes.append("Several data sets name their labels differently, so no names are kept. Index them one by one.")
        classes, ignored, regions = {}, (), ()
    said = {path.parent: found for path in tree.patient_cards if (found := info_cfg_targets(path))}
    layouts = {hints.layout for hints in every if hints.layout}
    return Hints(
        label_of={image: label for hints in every for image, label in hints.label_of.items()},
        values={image: values for hints in every for image, values in hints.values.items()},
        labels=frozenset().union(*(hints.labels for hints in every)),
        skipped=frozenset().union(*(hints.skipped for hints in every)),
        classes=classes,
        ignored=ignored,
        regions=regions,
        notes=tuple(notes),
        layout=layouts.pop() if len(layouts) == 1 else "+".join(sorted(layouts)),
        targets={name: said[path.parent] for name, path in by_name.items() if path.parent in said},
    )


def _source(name: str, path: Path, root: Path, hints: Hints, pairs: Pairs, owner: Owner) -> Source:
    label = hints.label_of.get(name) or pairs.label_of.get(name)
    values = {key: value for key, value in hints.values.get(name, {}).items() if value and key != "number"}
    # A case that a dataset.json names is no guess; a visit that was taken off its name is.
    case = stem(path.name, channel=bool(hints.values.get(name, {}).get("number")))
    stated = name in hints.values and owner.rule != "bids" and owner.spelled == case
    flags: tuple[str, ...] = ("several-labels",) if name in pairs.rivals and name not in hints.label_of else ()
    flags += (BY_CASE,) if name in pairs.by_case and name not in hints.label_of else ()
    source = Source(
        path=path,
        relative=name,
        label_path=root / label if label else None,
        targets=tuple(sorted(hints.targets.get(name, {}).items())),
        patient=owner.patient,
        patient_rule="dataset.json" if stated else owner.rule,
        study=owner.study,
        channel=owner.channel,
        flags=flags,
    )
    return replace(source, **values)  # type: ignore[arg-type]
