"""Paths are of this machine's file systems: an address of an object store is refused before a folder is named by it."""

from __future__ import annotations

import re
from pathlib import PurePath

__all__ = ["remote_fault"]

_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):/+")  # one letter is a drive of Windows; Path drops a "/"


def remote_fault(place: object) -> str | None:
    """Return why a place is none that can be read or written here; None where nothing speaks against it.

    Args:
        place: Text or a path. ``s3://bucket/scans`` is an address, ``./s3:/bucket`` a folder.

    Example:
        >>> remote_fault("scans/ct"), remote_fault("C:/scans")
        (None, None)
        >>> remote_fault("file:///scans/ct")
        "'file:///scans/ct' is an address. Give the path alone: /scans/ct"
    """
    if not isinstance(place, str | PurePath):
        return None
    text = str(place)
    found = _ADDRESS.match(text)
    if found is None:
        return None
    rest = text[found.end() :]
    if found["scheme"].lower() == "file":
        return f"'file:///{rest}' is an address. Give the path alone: /{rest}"
    shown = f"{found['scheme']}://{rest}"
    return (
        f"'{shown}' is an address, and only files and folders of this machine are read and written. Mount it "
        f"(rclone mount, s3fs, gcsfuse) or copy it (rclone copy, aws s3 sync), and give that folder."
    )
