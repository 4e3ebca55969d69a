"""Finding every scan of a tree: files that are scans by themselves, DICOM series, and the labels of both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

from medssl.manifest.clouds import CloudReader, cloud_sources
from medssl.manifest.importers import Hints, bids_hints, dataset_json_hints, info_cfg_targets, is_bids
from medssl.manifest.labels import NO_IMAGE, Pairs, pair_labels
from medssl.manifest.listing import found_in_csv
from medssl.manifest.picture_folders import PictureRule
from medssl.manifest.sources import Found, Source
from medssl.manifest.tree import Tree, find_files

__all__ = ["find_scans"]


def find_scans(scans: Path, clouds: CloudReader | None = None, *, pictures: PictureRule = "auto") -> tuple[Found, Tree]:
    """Find the scans and clouds of a folder, of one file or of a CSV; DICOM files are left to `series.py`.

    Args:
        scans: The folder, file or CSV.
        clouds: Who knows clouds; without one they are passed over.
        pictures: Which folders of pictures are scans of several slices.

    Raises:
        ManifestError: There is no such file or folder, or the CSV lists no paths.
    """
    scans = Path(scans).absolute()
    if scans.is_file() and scans.suffix.lower() in {".csv", ".tsv"}:
        listed = _told_apart(found_in_csv(scans), clouds)
        return listed, Tree(root=scans.parent, files=(), dicom=(), described=(), closed=())
    tree = find_files(scans, clouds, pictures=pictures)
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
    if clouds:
        sources += cloud_sources({_relative(path, tree.root): path for path in tree.clouds}, clouds)
    sources += [
        Source(
            path=stack.folder,
            paths=stack.slices,
            relative=_relative(stack.folder, tree.root).strip(".") or stack.folder.name,
            label_path=stack.label,
        )
        for stack in tree.stacks
    ]
    sources += [Source(path=path, relative=_relative(path, tree.root), error=why) for path, why in tree.closed]
    notes = [*hints.notes, *tree.notes()]
    found = Found(sources=tuple(sources), classes=hints.classes, notes=tuple(notes), layout=hints.layout or "tree")
    return found, tree


def _told_apart(found: Found, clouds: CloudReader | None) -> Found:
    """Say of every source of a CSV whether it is a cloud."""
    if clouds is None:
        return found
    sources = [
        replace(source, kind="cloud") if source.error is None and clouds.claim(source.path) != "other" else source
        for source in found.sources
    ]
    return replace(found, sources=tuple(sources))


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
