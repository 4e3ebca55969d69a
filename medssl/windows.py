"""What travels from the store to a method: windows of scans, and where each lies in its body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from medssl.batch import Batch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Apart", "Relation", "WindowBatch", "WindowPlan", "as_input"]

Apart = Literal["patients", "slices"]  # what a contrast pushes apart
Relation = Literal["independent", "partitions", "gap", "frame"]


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
        count: Windows of each scan in a batch. Rows come scan-major: row i * count + k is window k of scan i.
        relation: Where the windows of a scan lie relative to each other. "independent": each by itself. "partitions":
            the body box ("anywhere": the scan) is cut into ``count`` equal parts along ``axis``, and window k has its
            centre in part k. "gap": two windows whose distance along ``axis`` follows a decreasing distribution, at
            one place on the other axes. "frame": like "gap", with the second window from another scan of the same
            patient, at the same relative place; from the same scan where the patient has no other.
        axis: The axis of "partitions", "gap" and "frame": 0 is z.
        gap_mm: Largest distance of "gap" and "frame"; None allows the whole length.
        gap_power: How fast the distribution of distances falls; 1 is linear. See ``placement.draw_gap``.
    """

    size: tuple[int, int, int]
    placement: str = "body"
    foreground_share: float = 0.33
    labels: bool = False
    count: int = 1
    relation: Relation = "independent"
    axis: int = 0
    gap_mm: float | None = None
    gap_power: float = 1.0


@dataclass(frozen=True, kw_only=True)
class WindowBatch(Batch):
    """Windows of cases as they lie in the store, ready to be moved to a device. B items; C channels; axes (z, y, x).

    Attributes:
        values: int16, (B, C, z, y, x), in stored units (HU for CT).
        origin: int64, (B, 3), the window's first voxel in its scan; negative where the window is padded.
        extent: int64, (B, 3), the scan's size in voxels.
        body_box: float32, (B, 2, 3), first and one-past-last voxel of the body in the scan.
        spacing_mm: float32, (B, 3).
        scale: float32, (B, C, 2), the stored values that become 0 and 1 in the network's input; or (B, C, 5) where
            it is normalised otherwise. See `as_input`.
        part: int64, (B,), the window's number among those of its scan, in [0, ``count``).
        item, patient, slot: See `medssl.batch.Batch`.
        labels: int16, (B, z, y, x), structure numbers; -1 where padded. None where the plan wants none.
        present: bool, (B, C), the channels that are there; the others, which the case lacks or training drops, are 0
            to the network. None where all are there.
        pair: int64, (B, 2), the channels that the two views of a contrast show; None where views show all.
    """

    values: Tensor
    origin: Tensor
    extent: Tensor
    body_box: Tensor
    spacing_mm: Tensor
    scale: Tensor
    part: Tensor
    labels: Tensor | None = None
    present: Tensor | None = None
    pair: Tensor | None = None

    @property
    def channels(self) -> int:
        """Number of channels, C."""
        return int(self.scale.shape[1])

    def starts(self) -> list[int]:
        """Return the first row of every scan: its windows stay together."""
        starts: list[int] = (self.part == 0).nonzero().flatten().tolist()
        return starts

    def network_input(self) -> Tensor:
        """Return the windows as the network sees them: float32, as ``values``; see `as_input`."""
        return as_input(self.values, self.scale, self.present)

    def unit(self, views: int = 1) -> Tensor | None:
        """Return how much of the input of each channel of each view what becomes 0 and 1 in ``unit`` lies apart.

        Float32, (B * views, C): by it changes of intensity are the same however the input is normalised. None for 1.
        """
        return None if self.scale.shape[-1] == 2 else self.scale[..., 4].repeat_interleave(views, dim=0)

    def shown(self, views: int = 1) -> Tensor | None:
        """Return the channels that each of ``views`` views of each item shows, bool, (B * views, C); None for all.

        Views of a pair of channels take turns: of one window its views, of windows that belong together one after the
        other.
        """
        if self.pair is None:
            return None if self.present is None else self.present.repeat_interleave(views, dim=0)
        import torch

        turn = (self.part[:, None] + torch.arange(views, device=self.part.device)) % 2
        chosen = self.pair.gather(1, turn).reshape(-1, 1)
        return chosen == torch.arange(self.channels, device=chosen.device)


def as_input(values: Tensor, scale: Tensor, present: Tensor | None = None) -> Tensor:
    """Return stored values as a network sees them, float32; 0 in lacking channels.

    Args:
        values: (B, ..., C, z, y, x), in stored units.
        scale: (B, C, 2), the values that become 0 and 1, clipped; or (B, C, 5), rows of `medssl.normalising.input_row`.
        present: (B, C), or None where no channel is missing.
    """
    shape = (scale.shape[0], *(1,) * (values.ndim - 5), scale.shape[1], 1, 1, 1)
    low, high = scale[..., 0].reshape(shape), scale[..., 1].reshape(shape)
    if scale.shape[-1] == 2:
        images = ((values.float() - low) / (high - low)).clamp_(0.0, 1.0)
    else:
        less, over = scale[..., 2].reshape(shape), scale[..., 3].reshape(shape)
        images = (values.float().clamp(low, high) - less) / over
    return images if present is None else images.masked_fill_(~present.reshape(shape), 0.0)
