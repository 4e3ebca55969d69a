"""What is wrong or doubtful in the labels of a manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medssl.manifest.label_doubts import STRAY_RULE, case_of, counts_of, stray_values

__all__ = ["LABEL_FLAGS", "label_doubts", "labels_together"]

Row = Mapping[str, Any]
Doubt = tuple[str, str, str, str]  # severity, kind, what, what to do

# Flags of the row -> (severity, what, what to do).
LABEL_FLAGS = {
    "several-labels": (
        "warning",
        "several files claim to be its label; {label_path} was used",
        "Keep one of them, or name it in a CSV with the columns path and label.",
    ),
    "label-unreadable": ("error", "the label cannot be read", "Fix or remove {label_path}."),
    "label-shape-differs": (
        "error",
        "the label has another shape than the image",
        "Resample {label_path} to the image, or: medssl cache ... accept=[label-shape-differs]",
    ),
    "label-affine-differs": (
        "error",
        "the label lies elsewhere than the image",
        "Look at both in a viewer; then copy the geometry, or resample the label; or: medssl "
        "cache ... accept=[label-affine-differs]",
    ),
    "label-empty": ("warning", "the label has no foreground", "Make sure that an empty label is correct."),
    "label-non-integer": (
        "error",
        "the label holds values that are not classes",
        "Write the classes as whole numbers.",
    ),
    "label-grey-levels": (
        "error",
        "the label holds grey levels, or an unexplained 255",
        "Name 255 in dataset.json ('ignore' where it is not known), or write classes as 0, 1, 2.",
    ),
    "label-frames": (
        "error",
        "the label has a fourth axis that is neither the image's nor one-hot",
        "Write one value a voxel, in three axes.",
    ),
    "label-is-image": ("error", "the label is the image itself", "Name the right file; the pairs may be mixed up."),
}


def label_doubts(row: Row, classes: Mapping[int, str]) -> Iterator[Doubt]:
    """Yield what is to be said of one scan's label, besides its flags.

    Args:
        row: The scan.
        classes: Value -> name, as the data set says.
    """
    values = row["label_values"] or ()
    if values and min(values) < 0:
        yield (
            "error",
            "label-negative",
            f"the label holds the value {min(values)}",
            "Classes count from 0. Fix the label, or: medssl cache ... accept=[label-negative]",
        )
    if not any(flag.startswith("label-") and flag != "label-empty" for flag in row["flags"]):
        for note in row["notes"]:
            if note.startswith("label "):
                yield "info", "label-understood", note, "Nothing, if this is intended."


def labels_together(
    rows: Sequence[Row], classes: Mapping[int, str], ignored: Sequence[int] = ()
) -> Iterator[tuple[Row | None, Doubt]]:
    """Yield what only all labels together show, with the scan that it is said of, None for all.

    Args:
        rows: Every readable scan.
        classes: Value -> name, as the data set says.
        ignored: Values that say "not known".
    """
    by_id = {row["id"]: row for row in rows}
    counts = counts_of(rows)
    strays = stray_values(counts, classes, case_of(rows))
    for value, scans in strays.items():
        for scan in scans:
            what = f"the label holds the stray value {value} in {counts[scan][value]} voxels"
            yield (
                by_id[scan],
                (
                    "error",
                    "label-stray",
                    f"{what} ({STRAY_RULE})",
                    "Fix the label, or name the value in dataset.json; or: medssl cache ... accept=[label-stray]",
                ),
            )
    for scan, values in counts.items():
        unknown = [v for v in values if classes and v not in classes and v >= 0 and v not in strays]
        if unknown:
            yield (
                by_id[scan],
                (
                    "warning",
                    "class-unnamed",
                    f"the label holds {unknown[:5]}, which dataset.json does not name",
                    "Name the classes in dataset.json, or fix the label.",
                ),
            )
    yield from _unlearnt(by_id, counts, strays, classes, ignored)
    seen = {value for values in counts.values() for value in values}
    for value, name in classes.items():
        if seen and value not in seen and value not in ignored:
            yield (
                None,
                (
                    "warning",
                    "class-never-occurs",
                    f"no label holds the class {value} ({name})",
                    "Make sure that the labels are complete.",
                ),
            )


def _unlearnt(
    by_id: Mapping[str, Row],
    counts: Mapping[str, Mapping[int, int]],
    strays: Mapping[int, Sequence[str]],
    classes: Mapping[int, str],
    ignored: Sequence[int],
) -> Iterator[tuple[Row | None, Doubt]]:
    """Yield the structures that val or test scans show and no scan to train on does."""
    splits: dict[int, dict[str, str]] = {}
    for scan, values in counts.items():
        for value in values:
            if value > 0 and value not in strays and value not in ignored:
                splits.setdefault(value, {}).setdefault(by_id[scan]["split"], scan)
    if not any("train" in where for where in splits.values()):
        return
    for value, where in sorted(splits.items()):
        if "train" in where or not set(where) & {"val", "test"}:
            continue
        sides = " and ".join(split for split in ("val", "test") if split in where)
        scan = next(where[split] for split in ("val", "test") if split in where)
        name = f"structure {value} ({classes[value]})" if value in classes else f"structure {value}"
        yield (
            None,
            (
                "warning",
                "class-not-in-training",
                f"{name} is marked only in {sides}, such as {scan}; it cannot be learned",
                "Draw a new split: medssl index ... seed=1 fresh=true, or leave the structure out of "
                "segmentation.structures.",
            ),
        )
