"""Whether a store is whole: every file there, unchanged since it was written, and of the shape that it promises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from medssl.errors import CacheError
from medssl.file_sums import sha256_of
from medssl.store.blocks import open_array
from medssl.store.entry import Entry
from medssl.store.index import read_record, record_path
from medssl.store.read import Store

__all__ = ["Problem", "verify"]


@dataclass(frozen=True)
class Problem:
    """Something wrong with one scan of a store."""

    id: str
    file: str
    found: str

    def __str__(self) -> str:
        return f"{self.id}: {self.file}: {self.found}"


def verify(store: Store | str | Path, *, progress: Callable[[str], None] | None = None) -> list[Problem]:
    """Return everything that is wrong with a store; an empty list when it is whole.

    Args:
        store: The store, or its folder.
        progress: Called with a scan's id each time one is done.

    Raises:
        CacheError: There is no store, or its index cannot be read.
    """
    opened = store if isinstance(store, Store) else Store.open(store)
    problems: list[Problem] = []
    for entry in opened.entries:
        problems += _problems(opened.folder, entry)
        if progress is not None:
            progress(entry.id)
    return problems


def _problems(folder: Path, entry: Entry) -> list[Problem]:
    record_file = str(record_path(Path(), entry.stem))
    try:
        record = read_record(folder / record_file)
    except CacheError as error:
        return [Problem(entry.id, record_file, str(error))]
    problems = []
    if (record.entry.shape, record.entry.affine) != (entry.shape, entry.affine):
        problems.append(Problem(entry.id, record_file, "the record and store.json name different grids"))
    for file, promised in record.checksums.items():
        path = folder / file
        if not path.exists():
            problems.append(Problem(entry.id, file, "the file is missing"))
        elif sha256_of(path) != promised:
            problems.append(Problem(entry.id, file, "the file has changed since it was written (checksum)"))
        elif path.suffix == ".b2nd":
            shape = tuple(open_array(path).shape)
            if shape != entry.shape:
                problems.append(Problem(entry.id, file, f"has shape {shape}; the index says {entry.shape}"))
    return problems
