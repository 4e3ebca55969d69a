"""Finding every scan of a tree: files that are scans by themselves, DICOM series, and the labels of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from medssl.manifest.clouds import Arranged, CloudReader, cloud_sources, listed_clouds
from medssl.manifest.importers import Hints, bids_hints_below, bids_roots, dataset_json_hints, info_cfg_targets
from medssl.manifest.labels import BY_CASE, NO_IMAGE, Pairs, pair_labels
from medssl.manifest.listing import found_in_csv
from medssl.manifest.picture_folders import IMAGE_FOLDERS, PictureRule, Stack
from medssl.manifest.rules.channels import body_of
from medssl.manifest.rules.owners import Owner, owners_of
from medssl.manifest.rules.said import label_notes, owner_notes
from medssl.manifest.rules.splits import folder_splits
from medssl.manifest.sources import Found, Source, stem
from medssl.manifest.tree import Tree, find_files

__all__ = ["find_scans"]


def find_scans(
    scans: Path,
    clouds: CloudReader | None = None,
    *,
    keep_split: bool = True,
    pictures: PictureRule = "auto",
    only: Sequence[Path] | None = None,
) -> tuple[Found, Tree]:
    """Find the scans and clouds of a folder, of one file or of a CSV; DICOM files are left to `series.py`.

    Args:
        scans: The folder, file or CSV.
        clouds: Who knows clouds; without one they are passed over.
        keep_split: Keep the split of folders that are called train, val and test.
        pictures: Which folders of pictures are scans of several slices.
        only: Files below the folder that are looked at; None takes all.

    Raises:
        ManifestError: There is no such file or folder, or the CSV lists no paths.
    """
    scans = Path(scans).absolute()
    if scans.is_file() and scans.suffix.lower() in {".csv", ".tsv"}:
        found_there = found_in_csv(scans, lambda path: clouds is not None and clouds.claim(path) != "other")
        listed = listed_clouds(found_there, clouds)
        return listed, Tree(root=scans.parent, files=(), dicom=(), described=(), closed=())
    tree = find_files(scans, clouds, pictures=pictures, only=only)
    by_name = {_relative(path, tree.root): path for path in tree.files}
    hints = _hints(tree, by_name)
    named = [name for name in by_name if name not in hints.skipped]
    numbers = {name: said["number"] for name, said in hints.values.items() if said.get("number")}
    of_stack = {stack.slices: _stack_name(stack, tree.root) for stack in tree.stacks}
    owners = owners_of([*named, *of_stack.values()], channels=numbers)
    pairs = pair_labels((name for name in named if name not in hints.labels), owners)
    images = [name for name in sorted(named) if name not in hints.labels and name not in pairs.labels]
    free = [name for name in images if "split" not in hints.values.get(name, {})]
    labelled = {*hints.label_of, *pairs.label_of, *(of_stack[one.slices] for one in tree.stacks if one.label)}
    splits = folder_splits([*free, *sorted(set(of_stack.values()))], labelled, keep=keep_split)
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
    arranged = Arranged()
    if clouds:
        of_clouds, arranged = cloud_sources(tree.clouds, tree.beside, tree.root, clouds)
        sources += of_clouds
        if tree.clouds:
            tree.count_unread({path for path in tree.unread if _relative(path, tree.root) in arranged.accounted})
    for stack in tree.stacks:
        name = of_stack[stack.slices]
        source = Source(path=stack.folder, paths=stack.slices, relative=name, label_path=stack.label)
        owner = owners[name]
        source = replace(
            source, patient=owner.patient, patient_rule=owner.rule, study=owner.study, channel=owner.channel
        )
        sources.append(replace(source, **_split_of(name, splits.of)))
    sources += [Source(path=path, relative=_relative(path, tree.root), error=why) for path, why in tree.closed]
    shown = {name: owners[name] for name in [*images, *of_stack.values()]}
    notes = [*hints.notes, *splits.notes, *owner_notes(shown), *label_notes(pairs), *tree.notes()]
    found = Found(
        sources=tuple(sources),
        classes=hints.classes,
        ignored=hints.ignored,
        regions=hints.regions,
        notes=tuple(notes),
        layout=hints.layout or "tree",
        held=splits.held,
        of_clouds=arranged.kept(),
        channels=hints.channels,
    )
    return found, tree


def _split_of(name: str, splits: Mapping[str, str]) -> dict[str, Any]:
    return {"split": splits[name]} if name in splits else {}


def _relative(path: Path, root: Path) -> str:
    return PurePosixPath(path.relative_to(root)).as_posix() if path.is_relative_to(root) else path.name


def _stack_name(stack: Stack, root: Path) -> str:
    """Return the folder that tells whose the slices are: "images" within a patient's folder tells nothing."""
    folder = stack.folder
    if folder.name.lower() in IMAGE_FOLDERS and root in folder.parent.parents:
        folder = folder.parent
    return _relative(folder, root).strip(".") or folder.name


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
    orders = {hints.channels for hints in every if hints.channels}
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
        channels=orders.pop() if len(orders) == 1 else (),
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
        body=body_of(owner),
        flags=flags,
    )
    return replace(source, **values)  # type: ignore[arg-type]
