"""Every cloud of some files, or why not: what tests of damaged files ask for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from medssl.errors import FormatError
from pointcloud.cloud import Cloud
from pointcloud.formats.reading import SAMPLES, count, read


def read_many(paths: Iterable[Path], *, samples: int = SAMPLES, seed: int = 0) -> Iterator[Cloud | FormatError]:
    """Yield every cloud of every file in turn; a file that cannot be read yields its error, and the rest goes on."""
    for path in paths:
        try:
            items = count(path)
        except FormatError as error:
            yield error
            continue
        for item in range(items):
            try:
                yield read(path, item=item, samples=samples, seed=seed)
            except FormatError as error:
                yield error
