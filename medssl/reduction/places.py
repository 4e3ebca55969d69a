"""Where the scans of a folder of fingerprints lie and whose they are, so that a query can look at them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medssl.errors import CacheError
from medssl.quoting import quoted
from medssl.reduction.fingerprint import Target
from medssl.writing import written_aside

__all__ = ["CLOUD_PLACES", "PLACES", "Place", "read_places", "write_places"]

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
    rows: Sequence[Mapping[str, Any]], targets: Sequence[Target], folder: str | Path, name: str = PLACES
) -> None:
    """Write where the scans lie, sorted by id.

    Args:
        rows: Rows of the manifest; those without a target are left out.
        targets: See `fingerprint.targets_of`.
        folder: The folder of fingerprints.
        name: `PLACES`, or `CLOUD_PLACES` for clouds.
    """
    import polars as pl

    by_id = {row["id"]: row for row in rows}
    ordered = sorted(targets, key=lambda target: target.id)
    frame = pl.DataFrame(
        {
            "id": [target.id for target in ordered],
            "path": [target.path for target in ordered],
            "paths": [list(target.paths) for target in ordered],
            "channel": [target.channel for target in ordered],
            "item": [by_id[target.id].get("item") or 0 for target in ordered],
            "patient": [by_id[target.id]["patient"] for target in ordered],
            "split": [by_id[target.id]["split"] for target in ordered],
        },
        schema={"id": pl.String, "path": pl.String, "paths": pl.List(pl.String), "channel": pl.String, "item": pl.Int64,
                "patient": pl.String, "split": pl.String},
    )  # fmt: skip
    with written_aside(Path(folder) / name) as aside:
        frame.write_parquet(aside)


def read_places(folder: str | Path, name: str = PLACES) -> dict[str, Place]:
    """Read where the scans of an index lie, or with ``name=CLOUD_PLACES`` its clouds, of which there may be none.

    Raises:
        CacheError: The list is damaged, or that of the scans is missing.
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
        return {
            row["id"]: Place(
                target=Target(
                    id=row["id"], path=row["path"], paths=tuple(row["paths"]), channel=row.get("channel") or ""
                ),
                item=row.get("item", 0),  # indexes of earlier releases name none
                patient=row["patient"],
                split=row["split"],
            )
            for row in rows
        }
    except (pl.exceptions.PolarsError, OSError, KeyError, TypeError) as error:
        raise CacheError(f"{path}: cannot be read ({str(error).splitlines()[0]}). Run medssl reduce again.") from error
