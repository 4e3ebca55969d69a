"""What a method's views are fitted to, and the sizes that follow from it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Room"]

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Room:
    """What scans and encoder leave to views.

    Attributes:
        window: Voxels of a window that fits the scans, (z, y, x), multiples of ``multiple``.
        multiple: What the encoder divides by, (z, y, x).
    """

    window: Triple
    multiple: Triple

    @property
    def least(self) -> Triple:
        """The smallest view: two voxels of the coarsest level, for a normalisation needs more than one."""
        z, y, x = (2 * step if step > 1 else 1 for step in self.multiple)
        return z, y, x

    def share(self, share: float) -> list[int]:
        """Return a view of about this share of the window along each axis."""
        axes = zip(self.window, self.multiple, self.least, strict=True)
        return [min(length, max(least, round(share * length / step) * step)) for length, step, least in axes]

    def patch(self) -> list[int]:
        """Return patches to hide: the encoder's step, or half of it where that is long; they divide the window."""
        steps = [max(1, step // 2) if step > 8 else step for step in self.multiple]
        return [
            step if step > 1 else next(k for k in (4, 2, 1) if length % k == 0)
            for step, length in zip(steps, self.window, strict=True)
        ]
