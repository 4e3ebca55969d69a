"""Where the scans of a folder of fingerprints lie and whose they are, so that a query can look at them again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medssl.errors import CacheError
from medssl.manifest.pointer import manifest_of
from medssl.quoting import quoted
from medssl.reduction.fingerprint import Target, targets_of
from medssl.writing import atomic_write

__all__ = ["CLOUD_PLACES", "PLACES", "Place", "read_places", "same_places", "write_places"]

_MANIFEST = "medssl_manifest"
PLACES = "scans.parquet"
CLOUD_PLACES = "clouds.parquet"


@dataclass(frozen=True, kw_only=True)
class Place:
    """A scan of the index.

    Attributes:
        target: Its files.
        item: Which cloud of the file it is; 0 for volumes.
        patient: Pseudonymous key.
        split: "train", "val", "test" or "".
    """

    target: Target
    item: int
    patient: str
    split: str


def write_places(
    rows: Sequence[Mapping[str, Any]],
    targets: Sequence[Target],
    folder: str | Path,
    name: str = PLACES,
    *,
    manifest: str = "",
) -> None:
    """Write whose the scans are, sorted by id, and where the manifest is that says where they lie.

    Args:
        rows: Rows of the manifest; those without a target are left out.
        targets: See `fingerprint.targets_of`.
        folder: The folder of fingerprints.
        name: `PLACES`, or `CLOUD_PLACES` for clouds.
        manifest: Its file as seen from the folder, see `medssl.manifest.pointer`.
    """
    import polars as pl

    by_id = {row["id"]: row for row in rows}
    ordered = sorted(targets, key=lambda target: target.id)
    frame = pl.DataFrame(
        {
            "id": [target.id for target in ordered],
            "mark": [_mark(target.path) for target in ordered],
            "patient": [by_id[target.id]["patient"] for target in ordered],
            "split": [by_id[target.id]["split"] for target in ordered],
        },
        schema={"id": pl.String, "mark": pl.String, "patient": pl.String, "split": pl.String},
    )
    with atomic_write(Path(folder) / name) as aside:
        frame.write_parquet(aside, metadata={_MANIFEST: manifest})


def same_places(targets: Sequence[Target], folder: str | Path, name: str = PLACES, *, manifest: str = "") -> bool:
    """Tell whether a folder lists all of these scans already, at these places and by this manifest."""
    import polars as pl

    path = Path(folder) / name
    try:
        marks = dict(pl.read_parquet(path, columns=["id", "mark"]).iter_rows())
        there = pl.read_parquet_metadata(path).get(_MANIFEST, "")
    except (pl.exceptions.PolarsError, OSError):
        return False
    return there == manifest and all(marks.get(target.id) == _mark(target.path) for target in targets)


def read_places(folder: str | Path, name: str = PLACES) -> dict[str, Place]:
    """Read where the scans of an index lie, or with ``name=CLOUD_PLACES`` its clouds, of which there may be none.

    Raises:
        CacheError: The list is damaged, or that of the scans is missing, or the manifest that it names is not there.
    """
    import polars as pl

    path = Path(folder) / name
    if not path.is_file():
        if name == CLOUD_PLACES:
            return {}
        raise CacheError(
            f"{folder}: no index of scans is here. Make one with: medssl reduce MANIFEST --index {quoted(folder)}"
        )
    try:
        rows = pl.read_parquet(path).to_dicts()
        pointer = pl.read_parquet_metadata(path).get(_MANIFEST, "")
        named = _by_manifest(Path(folder), pointer) if rows and "path" not in rows[0] else None
        return {row["id"]: place for row in rows if (place := _place(row, named)) is not None}
    except (pl.exceptions.PolarsError, OSError, KeyError, TypeError) as error:
        raise CacheError(f"{path}: cannot be read ({str(error).splitlines()[0]}). Run medssl reduce again.") from error


def _by_manifest(folder: Path, pointer: str) -> dict[str, Mapping[str, Any]]:
    manifest = manifest_of(folder, pointer)
    if manifest is None:
        where = f"which is not at {pointer} as seen from there" if pointer else "which it does not know"
        raise CacheError(
            f"{folder}: the index finds its scans by their manifest, {where}. Put it back, or make the index again: "
            f"medssl reduce MANIFEST --index {quoted(folder)}"
        )
    return {row["id"]: row for row in manifest.rows()}


def _place(row: Mapping[str, Any], named: Mapping[str, Mapping[str, Any]] | None) -> Place | None:
    """Return one place: as an earlier release wrote it, or by the manifest's row, where that is still of this file."""
    if named is None:
        target = Target(id=row["id"], path=row["path"], paths=tuple(row["paths"]), channel=row.get("channel") or "")
        return Place(target=target, item=row.get("item", 0), patient=row["patient"], split=row["split"])
    found = named.get(row["id"])
    if found is None or _mark(found["path"]) != row["mark"]:
        return None
    (target,) = targets_of([found]) or (Target(id=row["id"], path=found["path"]),)
    return Place(target=target, item=found["item"] or 0, patient=row["patient"], split=row["split"])


def _mark(path: str) -> str:
    """Return a hash that tells one place from another; the place itself is the manifest's to say."""
    return hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:16]
