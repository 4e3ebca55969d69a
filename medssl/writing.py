"""Files that appear whole or not at all, and names for them that are safe on every system."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["stem_of", "written_aside"]

_KEY_LENGTH = 12


@contextmanager
def written_aside(path: Path, *, suffix: str | None = None) -> Iterator[Path]:
    """Give the name of a file beside ``path`` that takes its place once it is written in full.

    Args:
        path: The file that is to appear. Its folder is made where it is missing.
        suffix: Ending of the file beside it; libraries choose the format by it. By default that of ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    ending = suffix if suffix is not None else "".join(path.suffixes[-2:])
    handle, name = tempfile.mkstemp(prefix=".writing-", suffix=ending, dir=path.parent)
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        aside.chmod(0o666 & ~_umask())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def stem_of(item_id: str, key: str) -> str:
    """Return the file name, without suffix, of an item with this id and key.

    Example:
        >>> stem_of("a/b c", "0123456789abcdef")
        'a_b_c-0123456789ab'
    """
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", item_id).strip("._") or "scan"
    digest = hashlib.sha256(f"{item_id}\n{key}".encode()).hexdigest() if safe != item_id or len(safe) > 80 else key
    return f"{safe[:80]}-{digest[:_KEY_LENGTH]}"


def _umask() -> int:
    # The mask can only be read by setting it; mkstemp gave the file 0600, and colleagues should be able to read it.
    mask = os.umask(0)
    os.umask(mask)
    return mask
