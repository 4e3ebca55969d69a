"""What travels from the store to a method: windows of scans, and where each lies in its body."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from medssl.batch import Batch

__all__ = ["WindowBatch", "WindowPlan"]


@dataclass(frozen=True, kw_only=True)
class WindowPlan:
    """Which windows a method wants from each scan.

    Attributes:
        size: Window size in voxels of the store, (z, y, x). Where a scan is smaller the window is padded.
        placement: "body" draws the window inside the scan's body box (centred on axes where the box is the smaller),
            "anywhere" inside the whole scan, "foreground" around a labelled voxel with probability
            ``foreground_share`` and "anywhere" otherwise.
        foreground_share: Share of windows forced to hold a labelled voxel, in [0, 1]; used by "foreground" only.
        labels: Whether the label window is read beside the image window.
    """

    size: tuple[int, int, int]
    placement: str = "body"
    foreground_share: float = 0.33
    labels: bool = False


@dataclass(frozen=True, kw_only=True)
class WindowBatch(Batch):
    """Windows of scans as they lie in the store, ready to be moved to a device. B items; axes (z, y, x).

    Attributes:
        values: int16, (B, 1, z, y, x), in stored units (HU for CT).
        origin: int64, (B, 3), the window's first voxel in its scan; negative where the window is padded.
        extent: int64, (B, 3), the scan's size in voxels.
        body_box: float32, (B, 2, 3), first and one-past-last voxel of the body in the scan.
        spacing_mm: float32, (B, 3).
        scale: float32, (B, 2), the stored values that become 0 and 1 in the network's input.
        item, patient, slot: See `medssl.batch.Batch`.
        labels: int16, (B, z, y, x), structure numbers; -1 where padded. None where the plan wants none.
    """

    values: Tensor
    origin: Tensor
    extent: Tensor
    body_box: Tensor
    spacing_mm: Tensor
    scale: Tensor
    labels: Tensor | None = None

    def network_input(self) -> Tensor:
        """Return the windows as the network sees them: float32, (B, 1, z, y, x), 0 and 1 at ``scale``, clipped."""
        low = self.scale[:, 0].view(-1, 1, 1, 1, 1)
        high = self.scale[:, 1].view(-1, 1, 1, 1, 1)
        return ((self.values.float() - low) / (high - low)).clamp_(0.0, 1.0)
