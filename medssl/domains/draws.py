"""How many draws of a cloud's points make a vector."""

from __future__ import annotations

__all__ = ["POINT_DRAWS"]

POINT_DRAWS = 3  # of embed and of probes alike, so that what one writes gives what the other says
