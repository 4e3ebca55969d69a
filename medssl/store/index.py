"""The two kinds of JSON in a store: one record beside each scan, and ``store.json``, which lists the records in use.

Each writer touches only its own records, so any number of processes and machines may fill one store; ``store.json``
is made from the records at the end and can be made again at any time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from medssl.errors import CacheError
from medssl.listings import checked_listing, read_listing
from medssl.normalising import Statistics
from medssl.quoting import quoted
from medssl.regions import Region, regions_from, regions_json
from medssl.store.blocks import PART
from medssl.store.entry import ONE, Entry
from medssl.store.lines import LINES, LINES_FROM, Lines, LinesWriter, ListedEntries, ListedStatistics, open_lines
from medssl.store.rows import Packed, Parsed, entry_of, line_of, row_of, statistics_of_rows, statistics_rows
from medssl.writing import atomic_write, stem_of

__all__ = [
    "FORMAT_VERSION",
    "INDEX",
    "SCANS",
    "Index",
    "Record",
    "read_index",
    "read_record",
    "record_path",
    "stem_of",
    "write_index",
    "write_record",
]

FORMAT_VERSION = 1
INDEX = "store.json"
SCANS = "scans"


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is kept beside one scan of a store.

    Attributes:
        entry: What training needs to know.
        key: Hash of the source bytes and of the settings; names the files, so a stale file is never taken.
        checksums: SHA-256 of each file of the scan, by its path relative to the store.
        class_voxels: Voxels of each structure on the store's grid; empty without labels.
        flags: What was noticed and mended (non-finite voxels, labels on another grid, ...).
        label_refused: Why the scan's label was not stored, "kind: reason"; "" where it was, or there is none.
        statistics: Of each channel, None of one that the case lacks; empty in stores of earlier releases.
    """

    entry: Entry
    key: str
    checksums: dict[str, str]
    class_voxels: dict[int, int] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    label_refused: str = ""
    statistics: tuple[Statistics | None, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Index:
    """The contents of ``store.json``.

    Attributes:
        entries: The scans; of large stores each is read where it is asked for (`medssl.store.lines`).
        settings: How they were made.
        classes: Names of the structures by their number.
        failed: Scans that could not be stored, id -> reason.
        ignored: Label values of the sources that say "not known"; -1 in the store.
        regions: Unions of structures that are segmented in their place.
        refused_labels: Scans that are stored without the label that they have, id -> "kind: reason".
        channels: The names that every entry has, in this order.
        manifest: Where its manifest is, as seen from the store; "" where it is not known.
        statistics: As `Record` has them, by the scan's id; scans of earlier releases are not in it.
    """

    entries: Sequence[Entry]
    settings: dict[str, Any]
    classes: dict[int, str]
    failed: dict[str, str]
    ignored: tuple[int, ...] = ()
    regions: tuple[Region, ...] = ()
    refused_labels: dict[str, str] = field(default_factory=dict)
    channels: tuple[str, ...] = (ONE,)
    manifest: str = ""
    statistics: Mapping[str, tuple[Statistics | None, ...]] = field(default_factory=dict)


def record_path(folder: Path, stem: str) -> Path:
    """Return where the record of a scan lies."""
    return folder / SCANS / f"{stem}.json"


def write_record(folder: Path, stem: str, record: Record) -> None:
    """Write a scan's record; the last step of writing the scan."""
    _write_json(record_path(folder, stem), {"version": FORMAT_VERSION, **asdict(record), "entry": row_of(record.entry)})


def read_record(path: Path) -> Record:
    """Read a scan's record.

    Raises:
        CacheError: It is missing, damaged or of another version.
    """
    content = read_listing(path, FORMAT_VERSION)
    try:
        return Record(
            entry=entry_of(content["entry"]),
            key=content["key"],
            checksums=content["checksums"],
            class_voxels={int(k): v for k, v in content["class_voxels"].items()},
            flags=tuple(content["flags"]),
            label_refused=content.get("label_refused", ""),
            statistics=statistics_of_rows(content.get("statistics", ())),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise CacheError(f"{path}: the record is damaged ({error!r}). Run `medssl cache` again.") from error


def write_index(
    folder: Path,
    entries: Sequence[Entry],
    *,
    settings: Mapping[str, Any],
    classes: Mapping[int, str],
    failed: Mapping[str, str] | None = None,
    ignored: Sequence[int] = (),
    regions: Sequence[Region] = (),
    refused_labels: Mapping[str, str] | None = None,
    manifest: str = "",
    statistics: Mapping[str, Sequence[Statistics | None]] | None = None,
) -> Path:
    """Write ``store.json``.

    Args:
        folder: The store.
        entries: The scans to list, in the order that their rows will have.
        settings: How the scans were made.
        classes: Names of the structures by their number.
        failed: Scans that could not be read, id -> reason.
        ignored: See `Index`, as for those that follow.
        regions: ...
        refused_labels: ...
        manifest: ...
        statistics: ...

    Raises:
        CacheError: The entries do not all have the same channels in the same order.
    """
    path = folder / INDEX
    channels = entries[0].channel_names if entries else (ONE,)
    _agreed(folder, entries, channels)
    content = {
        "version": FORMAT_VERSION,
        "settings": dict(settings),
        "classes": {str(number): name for number, name in sorted(classes.items())},
        "failed": dict(failed or {}),
        "ignored": list(ignored),
        "regions": regions_json(regions),
        "refused_labels": dict(refused_labels or {}),
        **({} if channels == (ONE,) else {"channels": list(channels)}),
        **({"manifest": manifest} if manifest else {}),
    }
    lines, columns = LinesWriter(), path.with_name(LINES)
    columns.unlink(missing_ok=True)  # of the listing that this one takes the place of
    # A line a scan, written one by one: indented and as one text, a million scans took gigabytes.
    with atomic_write(path, suffix=PART) as aside, aside.open("wb") as file:
        text = _Hashed(file)
        text.write(json.dumps(content, indent=1, ensure_ascii=False).removesuffix("\n}"))
        head = text.written
        text.write(',\n "statistics": {')
        known: Mapping[str, Sequence[Statistics | None]] = {} if statistics is None else statistics
        for number, name in enumerate(known):
            row = known.line(name) if isinstance(known, Packed) else line_of(statistics_rows(known[name]))
            text.write(f"{',' * bool(number)}\n  ")
            lines.statistics(name, *text.write(f"{line_of(name)}: {row}"))
        text.write('\n },\n "entries": [')
        for number, entry in enumerate(entries):
            text.write(f"{',' * bool(number)}\n  ")
            lines.entry(entry, *text.write(line_of(row_of(entry))))
        text.write("\n ]\n}\n")
    if len(entries) >= LINES_FROM:
        lines.write(path, head, text.sha256())
    return path


class _Hashed:
    """Writes text, counts its bytes and hashes them."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._hash, self.written = file, hashlib.sha256(), 0

    def write(self, text: str) -> tuple[int, int]:
        """Write, and return where it begins and ends."""
        packed, begin = text.encode(), self.written
        self._file.write(packed)
        self._hash.update(packed)
        self.written += len(packed)
        return begin, self.written

    def sha256(self) -> str:
        return self._hash.hexdigest()


def read_index(folder: Path) -> Index:
    """Read ``store.json``.

    Raises:
        CacheError: The folder is no store, or one of another version, or its index is damaged, or its entries have
            other channels than it names.
    """
    path = folder / INDEX
    if not path.exists():
        if folder.suffix in (".parquet", ".csv") and folder.is_file():
            raise CacheError(
                f"{folder} is a file, and a store is a folder. If it is the manifest, `medssl cache {quoted(folder)} "
                f"--out {quoted(Path('stores') / folder.stem)}` makes a store of it."
            )
        raise CacheError(
            f"{folder} is not a store: it has no {INDEX}. For a folder of scans, `medssl index SCANS --out x.parquet` "
            "lists them and `medssl cache x.parquet --out FOLDER` makes a store of them."
        )
    lines = open_lines(folder, path)
    content = (
        read_listing(path, FORMAT_VERSION) if lines is None else checked_listing(path, lines.head(), FORMAT_VERSION)
    )
    try:
        return _index_of(folder, content, lines)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CacheError(f"{path}: the index is damaged ({error!r}). Run `medssl cache` again.") from error


def _index_of(folder: Path, content: Mapping[str, Any], lines: Lines | None) -> Index:
    channels = tuple(content.get("channels", (ONE,)))
    entries: Sequence[Entry]
    if lines is None:
        entries = _agreed(folder, tuple(entry_of(row) for row in content["entries"]), channels)
    else:
        entries = ListedEntries(lines)  # whose channels were seen to agree when they were written
    return Index(
        entries=entries,
        settings=content["settings"],
        classes={int(number): name for number, name in content["classes"].items()},
        failed=content.get("failed", {}),
        ignored=tuple(content.get("ignored", ())),
        regions=regions_from(content.get("regions", ())),
        refused_labels=content.get("refused_labels", {}),
        channels=channels,
        manifest=str(content.get("manifest", "")),
        statistics=Parsed(content.get("statistics", {}), str(folder / INDEX))
        if lines is None
        else ListedStatistics(lines),
    )


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=1, ensure_ascii=False)
    with atomic_write(path, suffix=PART) as aside:
        aside.write_text(text + "\n", encoding="utf-8")


def _agreed(folder: Path, entries: Sequence[Entry], channels: tuple[str, ...]) -> Sequence[Entry]:
    """Return the entries, each of which has the channels of the store in their order."""
    for entry in entries:
        if entry.channel_names != channels:
            raise CacheError(
                f"{folder}: the channels of {entry.id!r} are {', '.join(entry.channel_names)}, and those of the store "
                f"{', '.join(channels)}. All cases of a store have the same channels in the same order; one that a "
                "case lacks is marked as lacking. Store the others in a folder of their own."
            )
    return entries
