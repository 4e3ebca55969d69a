"""The fingerprints of a folder of scans: made in any number of processes and shards, kept in one Parquet file.

    folder/
      journal-1-of-1.jsonl     one line a scan, appended as scans are done; what a killed run leaves is not done again
      fingerprints.parquet     all of them sorted by id; the same bytes however many processes and shards there were

A scan is done again only where its files' size or time of change, or the version of the fingerprints, is another one.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medssl.errors import CacheError, DiskError
from medssl.manifest.describe import size_and_time
from medssl.pool import Engine, run_jobs
from medssl.reduction import hashes
from medssl.reduction.fingerprint import VERSION, Failure, Fingerprint, Target, fingerprint
from medssl.writing import atomic_write

if TYPE_CHECKING:
    import polars as pl

__all__ = ["TABLE", "Index", "Pass", "gather", "known_fingerprints", "make_fingerprints", "read_index"]

TABLE = "fingerprints.parquet"
_ARRAYS = {"field": "<f2", "box": "<f2", "slices": "<u8", "points": "<i2", "point_codes": "<u8"}
_SHAPES = {"field": (hashes.SIDE,) * 3, "box": (hashes.SIDE,) * 3, "points": (-1, 4)}
_TRIPLES = ("shape", "spacing_mm", "box_mm")
Outcome = Fingerprint | Failure


@dataclass(frozen=True)
class Index:
    """The fingerprints of a set of scans, sorted by id, and the scans that have none.

    Attributes:
        fingerprints: Sorted by id.
        failures: Sorted by id.
    """

    fingerprints: tuple[Fingerprint, ...]
    failures: tuple[Failure, ...] = ()

    def __len__(self) -> int:
        """Return the number of fingerprints."""
        return len(self.fingerprints)

    @property
    def ids(self) -> list[str]:
        """The ids in order."""
        return [one.id for one in self.fingerprints]

    def codes(self, which: str = "field") -> hashes.Code:
        """Return the packed 511-bit hashes, uint64 (n, 8), of "field" or "box"."""
        stored = [getattr(one, which) for one in self.fingerprints]
        return hashes.bits(np.stack(stored)) if stored else np.zeros((0, hashes.WORDS), dtype=np.uint64)


@dataclass(frozen=True, kw_only=True)
class Pass:
    """What one call came to.

    Attributes:
        read: Scans read by this call.
        reused: Scans that had a fingerprint of the same files.
        failed: id -> reason, of this call's share.
        waiting: Scans left to other shards.
        table: The Parquet file; None while scans are waiting.
    """

    read: int
    reused: int
    failed: dict[str, str]
    waiting: int
    table: Path | None


def make_fingerprints(
    targets: Sequence[Target],
    folder: str | Path,
    *,
    workers: int = 1,
    engine: Engine = "processes",
    shard: tuple[int, int] = (0, 1),
    progress: Callable[[int, int], None] | None = None,
) -> Pass:
    """Make the fingerprints that are not there yet, and the table once none is missing.

    Args:
        targets: The scans; ids must differ. See `fingerprint.targets_of` for those of a manifest.
        folder: Where journals and table lie; made if absent.
        workers: Processes that read.
        engine: Where they run, see `medssl.pool.run_jobs`.
        shard: (index from 0, count): this call takes every count-th of the scans, sorted by id.
        progress: Called with (scans done, scans of this shard).

    Raises:
        CacheError: Ids are repeated, or the shard does not exist.
        DiskError: The folder cannot be written to.
    """
    folder = Path(folder)
    if len({target.id for target in targets}) != len(targets):
        raise CacheError("Two scans have the same id. Ids must differ; run index on the folder again.")
    if not 0 <= shard[0] < shard[1]:
        raise CacheError(
            f"There is no shard {shard[0] + 1} of {shard[1]}. Shards are 1/{shard[1]} to {shard[1]}/{shard[1]}."
        )
    ordered = sorted(targets, key=lambda target: target.id)
    mine = ordered[shard[0] :: shard[1]]
    known = _known(mine, folder)
    todo = {place: (one,) for place, one in enumerate(mine) if not isinstance(known.get(one.id), Fingerprint)}
    done = len(mine) - len(todo)
    failed: dict[str, str] = {}
    if progress:
        progress(done, len(mine))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"journal-{shard[0] + 1}-of-{shard[1]}.jsonl").open("ab") as journal:
            outcomes = run_jobs(fingerprint, todo, workers=workers, crashed=_crashed, engine=engine)
            for count, (_, outcome) in enumerate(outcomes, 1):
                # A line that a killed run left unfinished ends here and is skipped when read.
                journal.write(b"\n" + json.dumps(_plain(outcome), sort_keys=True).encode() + b"\n")
                journal.flush()
                if isinstance(outcome, Failure):
                    failed[outcome.id] = outcome.reason
                if progress:
                    progress(done + count, len(mine))
    except OSError as error:
        raise DiskError.of(folder, error) from error
    table = gather(ordered, folder)
    waiting = 0 if table else len(ordered) - len(_known(ordered, folder))
    return Pass(read=len(todo), reused=done, failed=failed, waiting=waiting, table=table)


def gather(targets: Iterable[Target], folder: str | Path) -> Path | None:
    """Write the table of these scans out of all journals and the table before; None where a scan is still missing.

    Scans that could not be read are in the table with their reason, and are tried again by the next pass.
    """
    folder = Path(folder)
    ordered = sorted(targets, key=lambda target: target.id)
    known = _known(ordered, folder)
    if any(target.id not in known for target in ordered):
        return None
    chosen = [known[target.id] for target in ordered]
    path = folder / TABLE
    with atomic_write(path) as aside:
        _frame(chosen).write_parquet(aside, compression="zstd", metadata={"medssl_fingerprints": str(VERSION)})
    return path


def known_fingerprints(targets: Sequence[Target], folder: str | Path, *, table_only: bool = False) -> set[str]:
    """Return the ids of targets that have a fingerprint of their files as they are now.

    Args:
        targets: The scans.
        folder: The folder of fingerprints; it need not exist.
        table_only: Count those of the table alone, and scans that are in it with the reason why they have none.
    """
    folder = Path(folder)
    if not table_only:
        return {name for name, one in _known(targets, folder).items() if isinstance(one, Fingerprint)}
    try:
        index = read_index(folder)
    except CacheError:
        return set()
    outcomes: list[Outcome] = [*index.fingerprints, *index.failures]
    there = {one.id: (one.size_bytes, one.mtime_ns) for one in outcomes}
    return {target.id for target in targets if there.get(target.id) == _files_now(target)}


def read_index(path: str | Path) -> Index:
    """Read fingerprints from a table or from the folder that holds it.

    Raises:
        CacheError: It is missing, damaged or of another version.
    """
    import polars as pl

    path = Path(path)
    path = path / TABLE if path.is_dir() else path
    if not path.is_file():
        raise CacheError(f"{path}: there are no fingerprints here. Make them with make_fingerprints.")
    try:
        version = pl.read_parquet_metadata(path).get("medssl_fingerprints")
        rows = pl.read_parquet(path).to_dicts() if version == str(VERSION) else []
        outcomes = [_outcome(row) for row in rows]
    except (pl.exceptions.PolarsError, OSError, ValueError, KeyError, TypeError) as error:
        raise CacheError(
            f"{path}: the fingerprints cannot be read ({str(error).splitlines()[0]}). Make them again."
        ) from error
    if version != str(VERSION):
        raise CacheError(
            f"{path}: holds fingerprints of version {version}; this release has {VERSION}. Make them again."
        )
    return Index(
        tuple(one for one in outcomes if isinstance(one, Fingerprint)),
        tuple(one for one in outcomes if isinstance(one, Failure)),
    )


def _known(targets: Sequence[Target], folder: Path) -> dict[str, Outcome]:
    """Return what table and journals hold of the files as they are now; a fingerprint goes before a failure."""
    now = {target.id: _files_now(target) for target in targets}
    # Size and time may stay where the bytes change; the index has looked closer.
    bytes_now = {target.id: target.file_hash for target in targets if target.file_hash}
    outcomes: list[Outcome] = []
    if (folder / TABLE).is_file():
        try:
            index = read_index(folder)
            outcomes += [*index.fingerprints, *index.failures]
        except CacheError:
            pass  # damaged or of another version: it is made anew
    for journal in sorted(folder.glob("journal-*.jsonl")):
        outcomes += _entries(journal)
    known: dict[str, Outcome] = {}
    for outcome in outcomes:
        if now.get(outcome.id) != (outcome.size_bytes, outcome.mtime_ns):
            continue
        if isinstance(outcome, Fingerprint) and bytes_now.get(outcome.id, outcome.file_hash) != outcome.file_hash:
            continue
        if isinstance(outcome, Fingerprint) or not isinstance(known.get(outcome.id), Fingerprint):
            known[outcome.id] = outcome
    return known


def _files_now(target: Target) -> tuple[int, int]:
    try:
        return size_and_time(target.files)
    except OSError:
        return 0, 0  # as a failure to read it has it


def _entries(journal: Path) -> Iterator[Outcome]:
    with journal.open("rb") as lines:
        for line in lines:
            try:
                row = json.loads(line)
                if row["version"] == VERSION:
                    yield _outcome({name: _array(value) for name, value in row.items() if name != "version"})
            except (ValueError, KeyError, TypeError):
                continue  # empty, or cut short when its writer was killed


def _array(value: Any) -> Any:
    return base64.b64decode(value["base64"]) if isinstance(value, dict) and "base64" in value else value


def _crashed(job: tuple[Any, ...], why: str) -> Failure:
    size, changed = _files_now(job[0])
    return Failure(id=job[0].id, size_bytes=size, mtime_ns=changed, reason=why)


def _row(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as plain values: arrays as their bytes, statistics as JSON."""
    row: dict[str, Any] = {"reason": None}
    for one in fields(outcome):
        value = getattr(outcome, one.name)
        if one.name in _ARRAYS:
            value = np.ascontiguousarray(value, dtype=_ARRAYS[one.name]).tobytes()
        elif one.name in _TRIPLES:
            value = list(value)
        elif one.name == "statistics":
            value = json.dumps(value, sort_keys=True)
        row[one.name] = value
    return row


def _plain(outcome: Outcome) -> dict[str, Any]:
    row = _row(outcome)
    packed = {n: {"base64": base64.b64encode(v).decode()} if isinstance(v, bytes) else v for n, v in row.items()}
    return {"version": VERSION, **packed}


def _outcome(row: Mapping[str, Any]) -> Outcome:
    if row.get("reason") is not None:
        return Failure(**{one.name: row[one.name] for one in fields(Failure)})
    values = {one.name: row[one.name] for one in fields(Fingerprint)}
    for name, dtype in _ARRAYS.items():
        array: npt.NDArray[Any] = np.frombuffer(values[name], dtype=dtype)
        values[name] = array.reshape(_SHAPES.get(name, (-1,)))
    for name in _TRIPLES:
        values[name] = tuple(values[name])
    values["statistics"] = json.loads(values["statistics"])
    return Fingerprint(**values)


def _frame(outcomes: Sequence[Outcome]) -> pl.DataFrame:
    import polars as pl

    columns: dict[str, Any] = {
        "id": pl.String,
        "size_bytes": pl.Int64,
        "mtime_ns": pl.Int64,
        "file_hash": pl.String,
        "content_hash": pl.String,
        "shape": pl.List(pl.Int64),
        "spacing_mm": pl.List(pl.Float64),
        "field": pl.Binary,
        "box": pl.Binary,
        "box_mm": pl.List(pl.Float64),
        "slices": pl.Binary,
        "points": pl.Binary,
        "point_codes": pl.Binary,
        "statistics": pl.String,
        "reason": pl.String,
    }
    return pl.DataFrame([{name: _row(one).get(name) for name in columns} for one in outcomes], schema=columns)
