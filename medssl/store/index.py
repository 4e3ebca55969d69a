"""The two kinds of JSON in a store: one record beside each scan, and ``store.json``, which lists the records in use.

Each writer touches only its own records, so any number of processes and machines may fill one store; ``store.json``
is made from the records at the end and can be made again at any time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medssl.errors import CacheError
from medssl.listings import read_listing
from medssl.normalising import Statistics
from medssl.quoting import quoted
from medssl.regions import Region, regions_from, regions_json
from medssl.store.blocks import PART
from medssl.store.entry import ONE, Channel, Entry
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
        entries: The scans.
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

    entries: tuple[Entry, ...]
    settings: dict[str, Any]
    classes: dict[int, str]
    failed: dict[str, str]
    ignored: tuple[int, ...] = ()
    regions: tuple[Region, ...] = ()
    refused_labels: dict[str, str] = field(default_factory=dict)
    channels: tuple[str, ...] = (ONE,)
    manifest: str = ""
    statistics: dict[str, tuple[Statistics | None, ...]] = field(default_factory=dict)


def record_path(folder: Path, stem: str) -> Path:
    """Return where the record of a scan lies."""
    return folder / SCANS / f"{stem}.json"


def write_record(folder: Path, stem: str, record: Record) -> None:
    """Write a scan's record; the last step of writing the scan."""
    _write_json(record_path(folder, stem), {"version": FORMAT_VERSION, **asdict(record), "entry": _row(record.entry)})


def read_record(path: Path) -> Record:
    """Read a scan's record.

    Raises:
        CacheError: It is missing, damaged or of another version.
    """
    content = read_listing(path, FORMAT_VERSION)
    try:
        return Record(
            entry=_entry(content["entry"]),
            key=content["key"],
            checksums=content["checksums"],
            class_voxels={int(k): v for k, v in content["class_voxels"].items()},
            flags=tuple(content["flags"]),
            label_refused=content.get("label_refused", ""),
            statistics=_statistics(content.get("statistics", ())),
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
    channels = _agreed(folder, entries, entries[0].channel_names if entries else (ONE,))
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
    with atomic_write(path, suffix=PART) as aside, aside.open("w", encoding="utf-8") as file:
        # A line a scan, written one by one: indented and as one text, a million scans took gigabytes.
        file.write(json.dumps(content, indent=1, ensure_ascii=False).removesuffix("\n}"))
        file.write(',\n "statistics": {')
        for number, (name, each) in enumerate((statistics or {}).items()):
            row = [None if one is None else asdict(one) for one in each]
            file.write(f"{',' * bool(number)}\n  {_line(name)}: {_line(row)}")
        file.write('\n },\n "entries": [')
        for number, entry in enumerate(entries):
            file.write(f"{',' * bool(number)}\n  {_line(_row(entry))}")
        file.write("\n ]\n}\n")
    return path


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


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
    content = read_listing(path, FORMAT_VERSION)
    try:
        entries = tuple(_entry(row) for row in content["entries"])
        return Index(
            entries=entries,
            settings=content["settings"],
            classes={int(number): name for number, name in content["classes"].items()},
            failed=content.get("failed", {}),
            ignored=tuple(content.get("ignored", ())),
            regions=regions_from(content.get("regions", ())),
            refused_labels=content.get("refused_labels", {}),
            channels=_agreed(folder, entries, tuple(content.get("channels", (ONE,)))),
            manifest=str(content.get("manifest", "")),
            statistics={name: _statistics(each) for name, each in content.get("statistics", {}).items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CacheError(f"{path}: the index is damaged ({error!r}). Run `medssl cache` again.") from error


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=1, ensure_ascii=False)
    with atomic_write(path, suffix=PART) as aside:
        aside.write_text(text + "\n", encoding="utf-8")


def _agreed(folder: Path, entries: Sequence[Entry], channels: tuple[str, ...]) -> tuple[str, ...]:
    """Return the channels of a store, which every entry has in this order."""
    for entry in entries:
        if entry.channel_names != channels:
            raise CacheError(
                f"{folder}: the channels of {entry.id!r} are {', '.join(entry.channel_names)}, and those of the store "
                f"{', '.join(channels)}. All cases of a store have the same channels in the same order; one that a "
                "case lacks is marked as lacking. Store the others in a folder of their own."
            )
    return channels


def _row(entry: Entry) -> dict[str, Any]:
    """Return an entry as JSON has it; a single channel without a name leaves no trace: older versions read it too."""
    row = asdict(entry)
    for each in (row, *row["more"]):  # what a run says of its input is none of the store's
        del each["scheme"], each["numbers"]
    if entry.channel == ONE:
        del row["channel"]
    if not entry.more:
        del row["more"]
    return row


def _statistics(rows: Sequence[Mapping[str, Any] | None]) -> tuple[Statistics | None, ...]:
    kept = ({name: _tuples(value) for name, value in row.items()} if row is not None else None for row in rows)
    return tuple(None if row is None else Statistics(**row) for row in kept)


def _entry(row: Mapping[str, Any]) -> Entry:
    values = {name: _tuples(value) for name, value in row.items() if name != "more"}
    more = ({name: _tuples(value) for name, value in channel.items()} for channel in row.get("more", ()))
    return Entry(**values, more=tuple(Channel(**channel) for channel in more))


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
