"""What is wrong, doubtful or worth knowing of one scan, by its row and its files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from medssl import geometry
from medssl.errors import FormatError
from medssl.manifest.check_labels import LABEL_FLAGS
from medssl.manifest.finding import Finding, Row, of_scan
from medssl.manifest.freshness import stamps_of
from medssl.manifest.rules.channels import split_names

__all__ = ["doubts_of_scan", "stale", "unreadable"]

_FEW_SLICES, _TOO_FEW_SLICES = 6, 2
_FAR_BEYOND = 1e5  # widths of the range of 99 % of the values; PET and metal stay far below
_SMALLEST_MM, _LARGEST_MM = 0.05, 20.0
_ANISOTROPY = 10.0
_NON_ORTHOGONAL = 1e-3  # cosine between axes: 0.06 degrees

# Flags of the row -> (severity, what, what to do).
_FLAGS = {
    "nonfinite": (
        "error",
        "{nonfinite} voxels are NaN or infinite",
        "Save the scan again, with numbers in their place.",
    ),
    "constant": ("error", "every voxel has the value {min:g}", "Leave the scan out, or find out what went wrong."),
    "ct-offset": (
        "warning",
        "a CT without negative values (from {min:g} to {max:g})",
        "It is probably stored with an offset; convert it to HU.",
    ),
    "ct-not-hu": (
        "warning",
        "a CT whose values go from {min:g} to {max:g} are not HU",
        "Convert it to HU; as it is, its values are scaled by percentiles, as those of MR are.",
    ),
    "looks-like-labels": (
        "warning",
        "the voxels look like a label map, but there is no image for it",
        "Name it like its image with _seg, put it into labelsTr, or list both in a CSV.",
    ),
    **LABEL_FLAGS,
    "modality-inferred": (
        "info",
        "the modality {modality} was guessed from voxels or names",
        "If it is wrong: medssl index ... modality=MR",
    ),
    "modality-unknown": (
        "info",
        "the modality is not known; intensities are treated as arbitrary",
        "Set it: medssl index ... modality=MR",
    ),
}
# Beginnings of a reader's notes -> (kind, severity, what to do).
_NOTES = (
    ("missing slices", "missing-slices", "error", "Export the series again; positions beyond a gap are wrong."),
    ("uneven rescale", "uneven-rescale", "error", "Export the series again; its values are not comparable."),
    ("uneven", "uneven-slices", "warning", "Look at the series; slices may be missing or mixed."),
    ("duplicate positions", "duplicate-positions", "warning", "Look at the series; several may be mixed."),
    ("spaced slices", "spaced-slices", "warning", "Check whether slices are missing; if so, export the series again."),
    ("several volumes", "several-volumes", "warning", "The first is used; split the file if you need the others."),
    ("part of a series", "part-of-series", "info", "Nothing, if this is intended."),
    ("padding in doubt", "padding-in-doubt", "warning", "Look at the scan's background."),
    ("structures with gaps", "structure-gaps", "warning", "Look at the label; contours may be missing."),
    ("structures in part", "structures-in-part", "warning", "Look at the label and its scan together."),
    (
        "structures hidden",
        "structures-hidden",
        "warning",
        "Check the label; nested structures need files of their own.",
    ),
    ("structures overlap", "structures-overlap", "warning", "Check whether the smaller structure is the one to keep."),
    ("copies", "copied-slices", "info", "Nothing; each slice is used once."),
    ("damaged files", "damaged-files", "error", "Export the series again."),
    ("no positions", "no-orientation", "warning", "The order and orientation are guesses; export with full headers."),
    ("no orientation", "no-orientation", "warning", "Left and right are guesses; convert the scan from its source."),
    ("no voxel size", "no-voxel-size", "error", "Write the true voxel size into the header."),
    ("negative voxel size", "negative-voxel-size", "warning", "Fix the header; compare the geometry with the source."),
    ("no HU", "no-hu", "warning", "The values are not Hounsfield units; export the series again."),
    (
        "voxel sizes disagree",
        "voxel-sizes-disagree",
        "warning",
        "Find out which is right, and write it to both places.",
    ),
    ("sform without voxel size", "sform-without-voxel-size", "info", "Nothing; the header's voxel sizes are used."),
    ("sform", "odd-header", "warning", "Compare the geometry with the source."),
    ("qform", "odd-header", "info", "Nothing, if the sform is right."),
    ("label", "", "", ""),  # told by the flag of the label
)


def doubts_of_scan(row: Row, notes: Sequence[tuple[str, str, str, str]] = ()) -> Iterator[Finding]:
    """Yield what its row says of a scan that can be read; of an item of another kind, what its reader noted.

    Args:
        row: Of a manifest.
        notes: What readers of its kind note, as `OwnChecks.notes`.
    """
    rules: list[Callable[[Row], Iterator[Finding]]] = [_flagged, _shape, _geometry, _intensities]
    yield from _noted(row, (*notes, *_NOTES))
    for rule in rules if row["kind"] == "volume" else []:
        yield from rule(row)


def unreadable(row: Row) -> Iterator[Finding]:
    """Yield why a scan cannot be read, where it cannot."""
    if row["error"] is None or {"label-without-image", "looks-like-labels"} & set(row["flags"]):
        return  # told of all together
    if "set-aside" in row["flags"]:
        yield of_scan(row, "info", "set-aside", row["error"], "Nothing.")
    else:
        yield of_scan(row, "error", "unreadable", row["error"], "Fix or remove the file, then: medssl index")


def _flagged(row: Row) -> Iterator[Finding]:
    details = [note for note in row["notes"] if note.startswith("label ")]
    for flag in row["flags"]:
        if flag not in _FLAGS:
            continue
        severity, what, todo = _FLAGS[flag]
        if flag == "nonfinite" and row["min"] is None:
            what = "every voxel is NaN or infinite"
        text = what.format_map(row)
        about = "; ".join(details) if flag.startswith("label-") and flag != "label-empty" else ""
        yield of_scan(row, severity, flag, f"{text}: {about}" if about else text, todo.format_map(row))


def _noted(row: Row, notes: Sequence[tuple[str, str, str, str]]) -> Iterator[Finding]:
    for note in row["notes"]:
        for start, kind, severity, todo in notes:
            if note.startswith(start):
                if kind:
                    yield of_scan(row, severity, kind, note, todo)
                break
        else:
            yield of_scan(row, "info", note.partition(":")[0].replace(" ", "-"), note, "Nothing, if this is intended.")


def _shape(row: Row) -> Iterator[Finding]:
    if row["format"] == "image":  # one slice, as it should be
        return
    smallest = min(row["shape"])
    shape = " x ".join(str(n) for n in row["shape"])
    if smallest <= _TOO_FEW_SLICES:
        yield of_scan(
            row,
            "error",
            "few-slices",
            f"{smallest} voxels along one axis ({shape})",
            "This is not a volume; leave it out, or find the missing slices.",
        )
    elif smallest < _FEW_SLICES:
        yield of_scan(
            row,
            "warning",
            "few-slices",
            f"only {smallest} voxels along one axis ({shape})",
            "Leave it out unless such thin stacks are what the model is for.",
        )
    if row["frames"] > 1 and split_names(row["channel"]):
        yield of_scan(
            row,
            "info",
            "frames-as-channels",
            f"its {row['frames']} frames are channels ({row['channel']}); intensities here are the first one's",
            "Nothing, if this is intended.",
        )
    elif row["frames"] > 1:
        yield of_scan(
            row,
            "info",
            "four-dimensional",
            f"{row['frames']} frames in one file; the first is used",
            "Split the file if you need the other frames.",
        )


def _geometry(row: Row) -> Iterator[Finding]:
    spacing, affine = np.array(row["spacing_mm"]), np.array(row["affine"]).reshape(4, 4)
    said = " x ".join(f"{s:g}" for s in spacing)
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    flat = not np.isfinite(affine).all() or not (sizes > 0).all()
    if (
        flat
        or not np.isfinite(spacing).all()
        or (spacing <= 0).any()
        or (abs(np.linalg.det(affine[:3, :3] / sizes)) < 1e-6)
    ):
        yield of_scan(row, "error", "bad-geometry", f"the voxel size is {said} mm (z, y, x)", "Fix the header.")
        return
    if (spacing < geometry.CREDIBLE_MM[0]).any() or (spacing > geometry.CREDIBLE_MM[1]).any():
        yield of_scan(
            row,
            "error",
            "bad-geometry",
            f"the voxel size is {said} mm (z, y, x), which no scanner makes",
            "Fix the header; is it in another unit?",
        )
        return
    if (spacing < _SMALLEST_MM).any() or (spacing > _LARGEST_MM).any():
        yield of_scan(
            row,
            "warning",
            "odd-spacing",
            f"the voxel size is {said} mm (z, y, x)",
            "Is the header in mm? If not, fix it.",
        )
    if spacing.max() / spacing.min() > _ANISOTROPY:
        yield of_scan(
            row,
            "info",
            "anisotropic",
            f"voxels are {spacing.max() / spacing.min():.0f} times longer than wide ({said} mm)",
            "Choose a spacing for the store that is not isotropic.",
        )
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    skew = np.abs(axes.T @ axes - np.eye(3)).max()
    if skew > _NON_ORTHOGONAL:
        degrees = float(np.degrees(np.arcsin(min(1.0, skew))))
        what = f"the axes are {degrees:.1f} degrees off a right angle (tilted gantry?)"
        yield of_scan(row, "warning", "non-orthogonal", what, "If shapes matter, resample it to a straight grid.")


def _intensities(row: Row) -> Iterator[Finding]:
    if row["content_hash"] is None:
        yield of_scan(row, "info", "voxels-not-read", "only the header was read", "medssl index ... depth=full")
    elif row["p005"] is not None and row["p005"] == row["p995"] and row["min"] != row["max"]:
        yield of_scan(
            row,
            "warning",
            "nearly-constant",
            f"99 % of the voxels have the value {row['p50']:g}",
            "Look at it: this is an almost empty scan.",
        )
    elif row["p005"] is not None and _beyond(row) > _FAR_BEYOND:
        yield of_scan(
            row,
            "warning",
            "odd-values",
            f"values range from {row['min']:g} to {row['max']:g}, and 99 % of them "
            f"lie within {row['p005']:g} to {row['p995']:g}",
            "A damaged voxel, or a mark for missing values: replace it by a value of its neighbours.",
        )


def _beyond(row: Row) -> float:
    """Return how far values lie beyond the range of 99 % of them, in widths of that range."""
    width = float(row["p995"]) - float(row["p005"])
    return max(float(row["max"]) - float(row["p995"]), float(row["p005"]) - float(row["min"])) / width if width else 0.0


def stale(row: Row) -> Iterator[Finding]:
    """Yield whether a scan's files are gone or changed."""
    try:
        now = stamps_of(row)
    except OSError:
        yield of_scan(row, "error", "gone", "its files no longer exist", "Bring them back, or: medssl index")
        return
    except FormatError as error:
        yield of_scan(row, "warning", "changed", f"its label's files changed: {error.reason}", "medssl index")
        return
    differs = {name for name, value in now.items() if row[name] is not None and row[name] != value}
    if any(name.endswith(("size_bytes", "mtime_ns")) for name in differs):
        yield of_scan(row, "warning", "changed", "its files changed after the index was made", "medssl index")
    elif differs:
        yield of_scan(
            row,
            "info",
            "touched",
            "its files were replaced, moved or given other rights since the index, and kept size and time",
            "medssl index compares their bytes.",
        )
