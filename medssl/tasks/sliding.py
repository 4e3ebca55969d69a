"""Windows over a whole scan, added up in place: one map of classes, and the stretch that is still open.

What MONAI's ``sliding_window_inference`` computes: logits of overlapping windows, averaged with Gaussian weights. That
holds all logits until the last window, and turning them to probabilities, mirroring or several networks each took
another map. Here windows go along one axis. What none of them reaches any more is averaged, turned to probabilities
and added to the result at once. The first pass needs no memory of its own: its sums lie in the result.

``even`` is nnU-Net's predictor as it computes on a CPU: its windows in its order, and weights and sums rounded to half
precision as its are. That rounding turns voxels where two classes are close: of nnU-Net's own label maps, with sums in
half and in single precision, up to 16 of 71,000 voxels of a coarse CT (Dice of small structures .995).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Pass", "add_pass"]

Triple = tuple[int, int, int]
Place = tuple[slice, slice, slice]
Probabilities = Callable[[Tensor], Tensor]
_SIGMA = 0.125  # of the window, as nnU-Net and MONAI have it
_LEAST = 1e-3
_GREATEST_HALF = 10.0  # nnU-Net's greatest weight, in half precision
_ON_DEVICE_BYTES = 4 << 30  # a larger result is kept on the host
_CHUNK_VALUES = 1 << 22  # numbers that are turned to probabilities at once: three such pieces lie beside the result


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One network going once over a scan.

    Attributes:
        network: Images (B, C, z, y, x) to logits (B, classes, z, y, x).
        probabilities: Logits (1, classes, ...) to probabilities of the same shape.
        window: Size of a window, (z, y, x).
        overlap: Share of a window that its neighbour covers too.
        batch_size: Windows that go through the network at once.
        outside: Value of the image beyond the scan.
        mirrored: Axes of (z, y, x) that are mirrored first, as 0, 1, 2.
        even: Whether windows are spread evenly, weighed and summed as nnU-Net has them, instead of one step apart as
            MONAI.
        share: What the pass adds to the result, times its probabilities.
    """

    network: nn.Module
    probabilities: Probabilities
    window: Triple
    overlap: float
    batch_size: int
    outside: float = 0.0
    mirrored: tuple[int, ...] = ()
    even: bool = False
    share: float = 1.0


@torch.no_grad()
def add_pass(result: Tensor | None, image: Tensor, one: Pass) -> Tensor:
    """Add a network's probabilities to the result and return it.

    Args:
        result: Float32 (classes, z, y, x), changed in place; None for the first pass, which makes it.
        image: Float32 (1, C, z, y, x), on the network's device.
        one: What is done.

    Returns:
        The result, on the image's device, or on the host where it would be too large there.
    """
    turned = image.flip([2 + axis for axis in one.mirrored]) if one.mirrored else image
    shape = (turned.shape[2], turned.shape[3], turned.shape[4])
    padded, before = _padded(turned, one.window, one.outside)
    size = (padded.shape[2], padded.shape[3], padded.shape[4])
    # sums in half precision depend on the order of windows: nnU-Net's is that of the first axis
    axis = 0 if one.even else max(range(3), key=lambda a: size[a] / one.window[a])
    places = _windows(size, one.window, one.overlap, first=axis, even=one.even)
    weight = _weight(one.window, image.device, even=one.even)
    stretch: _Stretch | None = None
    for first in range(0, len(places), one.batch_size):
        some = places[first : first + one.batch_size]
        logits = one.network(torch.cat([padded[(slice(None), slice(None), *place)] for place in some])).float()
        if stretch is None:
            fresh = result is None
            if result is None:
                result = torch.zeros(logits.shape[1], *shape, device=_where(logits.shape[1], shape, image.device))
            in_place = fresh and size == shape and not one.mirrored
            stretch = _Stretch(result, size, axis, before, one, in_place=in_place)
        for found, place in zip(logits, some, strict=True):
            stretch.close(place[axis].start)
            stretch.add(found * weight, weight, place)
    assert stretch is not None
    assert result is not None
    stretch.close(size[axis])
    return result


class _Stretch:
    """Sums of logits where windows may still come; what is behind them goes into the result.

    Args:
        result: What is added to, (classes, z, y, x) without padding.
        size: Voxels with padding.
        axis: Along which windows go.
        before: Padding before the first voxel of each axis.
        one: The pass.
        in_place: Whether the sums lie in the result itself, which is 0.
    """

    def __init__(self, result: Tensor, size: Triple, axis: int, before: Triple, one: Pass, *, in_place: bool) -> None:
        self._result, self._axis, self._before, self._one, self._in_place = result, axis, before, one, in_place
        open_size = [n if a != axis or in_place else one.window[a] for a, n in enumerate(size)]
        self._sums = result if in_place else result.new_zeros(len(result), *open_size)
        self._weights = result.new_zeros(1, *open_size)
        self._first = self._closed = 0  # where the sums begin; up to where the result is made

    def add(self, weighted: Tensor, weight: Tensor, place: Place) -> None:
        """Add the logits of a window, (classes, z, y, x), times its weight."""
        moved = [
            slice(p.start - self._first, p.stop - self._first) if a == self._axis else p for a, p in enumerate(place)
        ]
        for total, more in ((self._sums, weighted), (self._weights, weight)):
            part = total[(slice(None), *moved)]
            part += more.to(total.device)
            if self._one.even:
                part.copy_(_halved(part))

    def close(self, until: int) -> None:
        """Finish what lies before ``until`` on the axis: no window to come reaches it."""
        if until <= self._closed:
            return
        along = 1 + self._axis
        per_plane = max(1, self._sums.select(along, 0).numel())
        step = max(1, _CHUNK_VALUES // per_plane)
        for start in range(self._closed, until, step):
            count = min(step, until - start)
            sums = self._sums.narrow(along, start - self._first, count)
            sums /= self._weights.narrow(along, start - self._first, count)
            if self._one.even:
                sums.copy_(_halved(sums))
            found = self._one.probabilities(sums[None])[0]
            if self._in_place:
                sums.copy_(found if self._one.share == 1.0 else found * self._one.share)
            else:
                self._hand_over(found, start)
        self._closed = until
        if not self._in_place:
            self._move(until)

    def _hand_over(self, found: Tensor, start: int) -> None:
        """Add finished planes to the result: without padding, and turned back."""
        target, one = self._result, self._one
        for axis, before in enumerate(self._before):
            extent, along = self._result.shape[1 + axis], 1 + axis
            low = start if axis == self._axis else 0
            first, last = max(low, before), min(low + found.shape[along], before + extent)
            if first >= last:
                return
            found = found.narrow(along, first - low, last - first)
            place = first - before
            if axis in one.mirrored:
                place = extent - place - (last - first)
            target = target.narrow(along, place, last - first)
        dims = [1 + axis for axis in one.mirrored]
        target.add_(found.flip(dims) if dims else found, alpha=one.share)

    def _move(self, until: int) -> None:
        """Let the sums begin at ``until``: plane by plane, for a copy of the whole would take as much again."""
        for tensor in (self._sums, self._weights):
            along, shift = 1 + self._axis, until - self._first
            length = tensor.shape[along]
            for plane in range(length):
                to, of = tensor.select(along, plane), plane + shift
                if of < length:
                    to.copy_(tensor.select(along, of))
                else:
                    to.zero_()
        self._first = until


def _padded(image: Tensor, window: Triple, outside: float) -> tuple[Tensor, Triple]:
    """Return the image, at least as large as the window, and how much stands before its first voxel, (z, y, x)."""
    lacking = [max(0, w - n) for w, n in zip(window, image.shape[2:], strict=True)]
    before = (lacking[0] // 2, lacking[1] // 2, lacking[2] // 2)
    if not any(lacking):
        return image, before
    pads = [side for b, more in zip(before[::-1], lacking[::-1], strict=True) for side in (b, more - b)]
    return F.pad(image, pads, value=outside), before


def _windows(size: Triple, window: Triple, overlap: float, *, first: int, even: bool = False) -> list[Place]:
    """Return the windows that cover a scan, where MONAI or nnU-Net has them, in their order along axis ``first``.

    They are counted here, and weighed below, since importing MONAI for a few lines takes longer than most scans do;
    tests hold both to MONAI's ``dense_patch_slices`` and ``compute_importance_map``.
    """
    starts = []
    for length, own in zip(size, window, strict=True):
        widest = own * (1 - overlap)
        step = own if own == length else max(1.0, widest) if even else max(1, int(widest))
        count = 1 + max(0, math.ceil((length - own) / step))
        if even:
            step = (length - own) / max(1, count - 1)
        starts.append([min(round(number * step), length - own) for number in range(count)])
    places = [tuple(slice(at, at + own) for at, own in zip(place, window, strict=True)) for place in product(*starts)]
    return sorted(((z, y, x) for z, y, x in places), key=lambda place: place[first].start)


def _weight(window: Triple, device: torch.device, *, even: bool = False) -> Tensor:
    """Return the weight of each voxel of a window, float32, (z, y, x): a Gaussian, nowhere below a thousandth.

    With windows as nnU-Net has them its Gaussian too: about voxel n // 2, 10 at most, in half precision, where 0 is
    the least number above it that the Gaussian has.
    """
    found: Tensor | None = None
    for length in window:
        half = float(length // 2) if even else (length - 1) / 2.0
        x = torch.arange(length, dtype=torch.float32, device=device) - half
        x = torch.exp(x**2 / (-2 * (_SIGMA * length) ** 2))
        found = x if found is None else found[..., None] * x
    assert found is not None
    if even:
        found = _halved(found * (_GREATEST_HALF / found.max()))
        return torch.where(found > 0, found, found[found > 0].min())
    return found.clamp_(min=max(float(found.min()), _LEAST))


def _halved(values: Tensor) -> Tensor:
    """Round to half precision; what that cannot hold stays as it is, where nnU-Net ends with an error."""
    rounded = values.half().float()
    return torch.where(rounded.isfinite(), rounded, values)


def _where(classes: int, shape: Triple, device: torch.device) -> torch.device:
    """Return the image's device, or the host where a GPU has no room for the result."""
    if device.type == "cpu" or 4 * classes * shape[0] * shape[1] * shape[2] < _ON_DEVICE_BYTES:
        return device
    return torch.device("cpu")
