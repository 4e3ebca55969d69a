"""The label of a scan on its way into the store: understood, judged, and laid on the image's grid."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from medssl import geometry
from medssl.errors import FormatError, UnfitError
from medssl.formats.label_grid import grid_gap, turned_alike
from medssl.formats.label_map import Label, label_of
from medssl.formats.scan import Scan, ScanHeader
from medssl.store.accepting import how_to_accept

__all__ = ["labels_on_grid", "labels_or_reason"]

Array = npt.NDArray[np.generic]


class _Labelled(Protocol):
    @property
    def label_path(self) -> str | None: ...
    @property
    def label_fault(self) -> str: ...
    @property
    def classes(self) -> tuple[tuple[int, str], ...]: ...
    @property
    def ignored(self) -> tuple[int, ...]: ...
    @property
    def strays(self) -> tuple[int, ...]: ...


def labels_or_reason(
    job: _Labelled, scan: Scan, flags: list[str], *, frame: int, accept: Collection[str]
) -> tuple[Array | None, str]:
    """Return the labels of a scan in canonical axes, or why it gets none; (None, "") where it has no label.

    Args:
        job: What is to be stored.
        scan: The scan as it was read.
        flags: Gains what was done to the label.
        frame: Which frame of a 4D image was read.
        accept: Kinds of faults that are stored all the same.
    """
    if not job.label_path:
        return None, ""
    if job.label_fault:
        return None, job.label_fault
    try:
        label = label_of(
            Path(job.label_path),
            scan.header,
            classes=dict(job.classes),
            ignored=job.ignored,
            frame=frame,
            voxels=scan.values,
        )
        labels = _without_strays(label, job.strays, accept, flags)
        return labels_on_grid(label, labels, scan.header, flags, accept=accept), ""
    except UnfitError as error:
        return None, f"{error.kind}: {error} {how_to_accept(error.kind)}".rstrip()
    except FormatError as error:
        return None, f"label-unreadable: {error}"
    except OSError as error:
        return None, f"label-unreadable: {job.label_path}: {error.strerror or error}"


def _without_strays(label: Label, strays: Collection[int], accept: Collection[str], flags: list[str]) -> Array:
    values, path = label.values, label.header.path
    if label.lowest < 0:
        if "label-negative" not in accept:
            raise UnfitError(path, f"The label holds the value {label.lowest}; classes count from 0.", "label-negative")
        flags.append("negative-labels-ignored")
        values = np.maximum(values, -1)
    if strays and (there := np.isin(values, list(strays))).any():
        if "label-stray" not in accept:
            said: Mapping[int, int] = {s: int(np.count_nonzero(np.equal(values, s))) for s in strays}
            words = ", ".join(f"{s} in {n} voxels" for s, n in said.items() if n)
            raise UnfitError(
                path, f"The label holds stray values that no class has and hardly another scan: {words}.", "label-stray"
            )
        flags.append("stray-labels-ignored")
        values = np.where(there, -1, values.astype(np.int32))
    flags += [f"label-note: {note}" for note in label.notes]
    return values.astype(np.int16)


def labels_on_grid(
    label: Label, values: Array, image: ScanHeader, flags: list[str], *, accept: Collection[str]
) -> Array:
    """Return labels on the grid of the image, both in canonical axes.

    Where the two hold the same voxels, in whatever order of axes, every voxel keeps its label. Labels of another
    grid, where they are accepted, are resampled to the nearest voxel, and ``flags`` gains "labels-resampled".

    Args:
        label: The label as it was read.
        values: Its numbers, int16, on its own grid.
        image: Header of the scan.
        flags: Gains what was done.
        accept: Kinds of faults that are stored all the same.

    Raises:
        UnfitError: The labels are of another grid, or lie outside the scan.
    """
    path = label.header.path
    gap = grid_gap(label.header, image)
    if gap is None:
        return turned_alike(values, label.header, image)
    moved = geometry.resample_to_grid(values, label.header.affine, image.shape, image.affine, order=0, fill=0)
    if np.greater(values, 0).any() and not np.greater(moved, 0).any():
        raise UnfitError(
            path,
            f"The labels (shape {label.header.shape}) lie outside the scan {image.path.name} (shape {image.shape}) in "
            "the world. Check the pair, and the affine of the labels.",
            "label-outside",
        )
    if gap.kind not in accept:
        raise UnfitError(path, f"The label is not on the grid of {image.path.name}: {gap.words}.", gap.kind)
    flags.append("labels-resampled")
    return geometry.to_canonical(moved, image.affine)[0]
