"""Where the scans and labels of a store lie: by their ids in the manifest, for the store itself names no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from medssl.errors import DataError, MedSSLError
from medssl.manifest.pointer import manifest_of
from medssl.quoting import quoted
from medssl.store.index import Index, read_index
from medssl.store.options import StoreSettings
from medssl.store.plan_cases import cases_asked

if TYPE_CHECKING:
    from medssl.manifest.schema import Manifest

__all__ = ["CaseFiles", "files_of_store", "no_files"]


@dataclass(frozen=True, kw_only=True)
class CaseFiles:
    """The files of one case.

    Attributes:
        images: Channel -> its file or folder; channels that the case lacks are left out.
        series: Channel -> the files of a series or a stack.
        label: The label file; None where there is none.
    """

    images: Mapping[str, Path]
    series: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    label: Path | None = None

    @property
    def first(self) -> str:
        """The first channel that the case has."""
        return next(iter(self.images))


def files_of_store(folder: Path, index: Index | None = None, manifest: Manifest | None = None) -> dict[str, CaseFiles]:
    """Return the files of each scan or case of a store by its id; those that nobody knows are left out.

    Args:
        folder: The store.
        index: Its listing, read where left out.
        manifest: Whose rows name the files; by default the one that the store points to.

    Raises:
        CacheError: The store cannot be read.
    """
    index = read_index(folder) if index is None else index
    found: dict[str, CaseFiles] = {}
    for entry in index.entries:  # of earlier releases, or stored with privacy=paths
        images = {c.name: Path(c.source_path) for c in entry.channels if c.present}
        if entry.label_path or (not entry.label_file and any(c.source_path for c in entry.channels)):
            found[entry.id] = CaseFiles(images=images, label=Path(entry.label_path) if entry.label_path else None)
    if len(found) == len(index.entries):
        return found
    manifest = manifest_of(folder, index.manifest) if manifest is None else manifest
    if manifest is None:
        return found
    named = _of_rows(manifest) | _of_cases(manifest, index)
    shapes = {row["id"]: row["shape"] for row in manifest.rows()}
    for entry in index.entries:
        files = named.get(entry.id)
        shape = shapes.get(entry.id)
        if entry.id in found or files is None or (shape and tuple(shape) != entry.source_shape):
            continue  # of another shape: a scan of another data set under the same id
        found[entry.id] = CaseFiles(
            images=files.images, series=files.series, label=files.label if entry.label_file else None
        )
    return found


def no_files(folder: Path, index: Index) -> DataError:
    """Return the error that says why the files of a store's scans are not known, and what to do."""
    if index.manifest:
        where = f"its manifest, {index.manifest} as seen from there, is not there or no longer names its scans"
    else:
        where = "it does not say where its manifest is"
    return DataError(
        f"{folder}: the store keeps no path of a scan or label, and {where}. Name the manifest in its place: "
        f"--data MANIFEST. Or make the listing again: medssl cache MANIFEST --out {quoted(folder)}"
    )


def _of_rows(manifest: Manifest) -> dict[str, CaseFiles]:
    return {
        row["id"]: CaseFiles(
            images={row["channel"] or "image": Path(row["path"])},
            series={row["channel"] or "image": tuple(Path(path) for path in row["paths"] or ())},
            label=Path(row["label_path"]) if row["label_path"] else None,
        )
        for row in manifest.rows()
        if row["kind"] == "volume"
    }


def _of_cases(manifest: Manifest, index: Index) -> dict[str, CaseFiles]:
    """Return the files of cases of several channels, as the store put them together."""
    if len(index.channels) < 2 and not any(entry.more for entry in index.entries):
        return {}
    try:
        settings = StoreSettings.model_validate(
            {name: value for name, value in index.settings.items() if name in StoreSettings.model_fields}
            | {"missing": "fill"}
        )
        asked = cases_asked(manifest.kept(), settings)
    except (MedSSLError, ValueError):
        return {}
    found = {}
    for case in asked.cases:
        there = [member for member in case.members if member.row is not None]
        label = case.row["label_path"]
        found[case.row["id"]] = CaseFiles(
            images={one.name: Path(one.row["path"]) for one in there if one.row is not None},
            series={one.name: tuple(map(Path, one.row["paths"] or ())) for one in there if one.row is not None},
            label=Path(label) if label else None,
        )
    return found
