"""Draws of a cloud's points: by its id, so that they are the same in any company, and how many make a vector."""

from __future__ import annotations

import hashlib

__all__ = ["POINT_DRAWS", "id_key"]

POINT_DRAWS = 3  # of embed and of probes alike, so that what one writes gives what the other says


def id_key(cloud: str) -> int:
    """Return a number that hangs on a cloud's id alone, by which draws of its points are named."""
    return int.from_bytes(hashlib.sha256(cloud.encode()).digest()[:7], "big")
