"""From a scan to what the exported network was trained on, with NumPy alone: resampled, the body found, scaled.

It does what the training store did, of which ``input.preparing`` in the JSON beside the network is the description.
Arrays have axes (z, y, x) and run to the patient's head, front and right (RAS+); voxel sizes are (z, y, x), in mm.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

__all__ = ["Stored", "body_of", "in_hounsfield", "resampled", "seen", "to_stored", "weights_along"]

_POLE = math.sqrt(3.0) - 2.0  # of the cubic B-spline's prefilter
_MARGIN = 12  # edge values that are put before and behind, as SciPy does for the mode "nearest"
_STORED = 16384.0  # what the store makes of the upper percentile
_MOST = 2_000_000  # voxels that percentiles are taken of


def to_stored(channels, spacing_mm, said):
    """Return a case as the training store held it, and where it lies.

    Args:
        channels: One array a channel, in the order of ``said["channels"]``, on one grid.
        spacing_mm: Voxel size.
        said: ``input.preparing`` of the JSON.
    """
    sources = [np.where(np.isfinite(values), values, np.nanmin(values)) for values in channels]
    moments = _nonzero(sources)
    hounsfield = [c["modality"] == "CT" and in_hounsfield(v) for c, v in zip(said["channels"], sources, strict=True)]
    spacing = np.asarray(spacing_mm, float)
    ratio = np.ones(3) if said["spacing_mm"] is None else np.asarray(said["spacing_mm"], float) / spacing
    begin = np.zeros(3)
    if said["grid"] == "nnunet":
        sources, ratio, begin = _as_nnunet(sources, spacing, hounsfield, said)
    if (np.abs(ratio - 1.0) < 1e-3).all():
        ratio, images = np.ones(3), sources
    else:
        blur = said["grid"] != "nnunet"
        images = [resampled(values, ratio, order=said["order"], blur=blur) for values in sources]
    shape = images[0].shape
    boxes = [body_of(values, hounsfield=hu) for values, hu in zip(images, hounsfield, strict=True)]
    known = [box for box in boxes if not np.array_equal(box, ((0, 0, 0), shape))] or boxes
    box = np.array([np.min([b[0] for b in known], axis=0), np.max([b[1] for b in known], axis=0)])
    first = np.zeros(3, int)
    if said["crop_mm"] is not None:
        margin = np.ceil(said["crop_mm"] / (spacing * ratio)).astype(int)
        first, last = np.maximum(box[0] - margin, 0), np.minimum(box[1] + margin, shape)
        images, box = [values[_slices((first, last))] for values in images], box - first
    made = [
        _channel(values, box, how, hu, own)
        for values, how, hu, own in zip(images, said["channels"], hounsfield, moments, strict=True)
    ]
    values, fills, rows = (np.stack(parts) for parts in zip(*made, strict=True))
    return Stored(values, fills, rows, box, ratio, first + begin / ratio)


def _as_nnunet(sources, spacing, hounsfield, said):
    """Return channels in the box of all that is not 0, the ratio that makes whole voxels of it, and its first voxel."""
    box = _nonzero_box(sources)
    sources = [
        values[box].clip(*how["hu_range"]) if hu else values[box]
        for values, how, hu in zip(sources, said["channels"], hounsfield, strict=True)
    ]
    shape = sources[0].shape
    wanted = spacing if said["spacing_mm"] is None else said["spacing_mm"]
    whole = [max(1, round(o / s * n)) for n, o, s in zip(shape, spacing, wanted, strict=True)]
    return sources, np.asarray(shape) / whole, np.asarray([part.start for part in box], float)


def seen(image, said):
    """Return an image of axes (C, x, y, z), in RAS+ order and on the network's voxels, as the network takes it."""
    case = to_stored(list(image.transpose(0, 3, 2, 1)), (1.0, 1.0, 1.0), said)
    return np.ascontiguousarray(case.as_input(case.values).transpose(0, 3, 2, 1))


class Stored(NamedTuple):
    """A case as the training store held it.

    Attributes:
        values: float32, (C, z, y, x): HU, or units of which 0 and 16384 are the percentiles.
        fills: What lies outside of the scan, (C,).
        rows: How values become input, (C, 4): clipped to the first two, less the third, over the fourth.
        box: First and one-past-last voxel of the body, (2, 3).
        ratio: Voxel size over that of the file, (3,).
        first: First voxel of the resampled grid that was kept, (3,); of nnU-Net's grid between two of them.
    """

    values: np.ndarray
    fills: np.ndarray
    rows: np.ndarray
    box: np.ndarray
    ratio: np.ndarray
    first: np.ndarray

    def as_input(self, values):
        """Return stored values (C, ...) as the network takes them, float32."""
        rows = self.rows.astype(np.float32)  # as the network's training computed it
        low, high, less, over = rows.T.reshape(4, -1, *(1,) * (values.ndim - 1))
        return (values.astype(np.float32).clip(low, high) - less) / over


def _channel(values, box, how, hounsfield, whole):
    """Return one channel as it is stored, its fill, and how it becomes input."""
    fixed = hounsfield or (how["modality"] != "CT" and how["intensity"] is not None)
    if fixed:
        low, high = how["hu_range"] if hounsfield else (-32768, 32767)
        stored, scale, unit, offset = np.rint(values).clip(low, high), how["intensity"], 1.0, 0.0
    else:
        inside = values[_slices(box)].ravel()
        some = inside[:: max(1, inside.size // _MOST)].astype(np.float64)
        offset, top = (float(v) for v in np.percentile(some, how["percentiles"]))
        if top <= offset:
            offset, top = float(values.min()), float(values.max())
        top = top if top > offset else offset + 1.0
        unit, scale = (top - offset) / _STORED, (0.0, _STORED)
        stored = np.rint((values.astype(np.float64) - offset) / unit).clip(-32768, 32767)
    scale = scale or (0.0, _STORED)
    fill = how["hu_range"][0] if hounsfield else stored.min()
    if how["normalise"] == "unit":
        row = (*scale, scale[0], scale[1] - scale[0])
    elif how["numbers"] is not None:
        row = tuple(how["numbers"])
    else:
        body = stored[_slices(box)]
        less, over = float(body.mean()), float(body.std())
        if how["normalise"] == "nonzero":
            less, over = (whole[0] - offset) / unit, whole[1] / unit
        row = (-32768.0, 32768.0, less, max(over, 0.01 * (scale[1] - scale[0])))
    fill = row[2] if how["normalise"] == "nonzero" else fill
    return stored.astype(np.float32), float(fill), np.asarray(row, np.float64)


def _slices(box):
    return tuple(slice(int(a), int(b)) for a, b in zip(*box, strict=True))


def in_hounsfield(values):
    """Tell whether values of a CT are HU, as ``medssl index`` does of files that do not say it."""
    low, high = float(values.min()), float(values.max())
    middle, top = (float(v) for v in np.percentile(values, (50, 99.5)))
    if low == high:
        return True
    if low >= -1.5 and high <= 1.5:
        return False
    if low > -30.0 and high < 30.0 and values.dtype.kind == "f":
        return False
    soft = 850.0 <= middle <= 1250.0 or top >= 850.0
    return not ((low == 0 and high == 255.0) or (low >= 0 and (high > 2000.0 or soft)))


def body_of(values, *, hounsfield):
    """Return the first and one-past-last voxel of the body, ((z, y, x), (z, y, x)), found on block means."""
    whole = ((0, 0, 0), values.shape)
    if min(values.shape) < 2:
        return whole
    steps = [max(1, -(-n // 96)) for n in values.shape]
    coarse = np.asarray(values, np.float32)
    for axis, step in enumerate(steps):
        if step > 1:
            starts = np.arange(0, coarse.shape[axis], step)
            counts = np.diff(np.append(starts, coarse.shape[axis])).astype(np.float32)
            sums = np.add.reduceat(coarse, starts, axis=axis)
            coarse = sums / counts.reshape([-1 if a == axis else 1 for a in range(3)])
    mask = _hounsfield_mask(coarse) if hounsfield else _otsu_mask(coarse)
    if mask.mean() < 0.001 or not mask.any():
        return whole
    low, high = [], []
    for axis, step in enumerate(steps):
        rows = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        low.append(int(rows[0]) * step)
        high.append(min(int(rows[-1] + 1) * step, values.shape[axis]))
    return tuple(low), tuple(high)


def _hounsfield_mask(coarse):
    above = coarse > -500.0
    opened = _spread(_spread(above, all_of=True), all_of=False) if min(coarse.shape) >= 5 else above
    parts = _parts(opened if opened.any() else above)
    sizes = np.bincount(parts.ravel())
    if len(sizes) == 1:
        return above
    sizes[0] = 0
    largest = parts == sizes.argmax()
    return largest | (_spread(largest, all_of=False) & above)


def _otsu_mask(coarse):
    if float(np.ptp(coarse)) == 0.0:
        return np.zeros(coarse.shape, bool)
    low, high = (float(end) for end in np.quantile(coarse, (0.001, 0.999)))
    if low < high and float(np.ptp(coarse.astype(np.float64))) > 1000.0 * (high - low):
        coarse = np.clip(coarse, low, high)
    smooth = _blurred(coarse, (1.0, 1.0, 1.0), mode="symmetric")
    smooth = np.minimum(smooth, np.quantile(smooth, 0.99))
    if float(np.ptp(smooth)) == 0.0:
        return np.zeros(coarse.shape, bool)
    mask = smooth > _otsu(smooth)
    parts = _parts(mask)
    sizes = np.bincount(parts.ravel())
    if len(sizes) == 1:
        return mask
    sizes[0] = 0
    return (sizes >= 0.05 * sizes.max())[parts] & mask


def _otsu(values):
    """Return the threshold between two classes whose variance is the least, of 256 bins."""
    counts, edges = np.histogram(values, 256)
    centres, counts = (edges[:-1] + edges[1:]) / 2.0, counts.astype(np.float64)
    below, above = np.cumsum(counts), np.cumsum(counts[::-1])[::-1]
    mean_below = np.cumsum(counts * centres) / below
    mean_above = (np.cumsum((counts * centres)[::-1]) / above[::-1])[::-1]
    between = below[:-1] * above[1:] * (mean_below[:-1] - mean_above[1:]) ** 2
    return centres[:-1][np.argmax(between)]


def _spread(mask, *, all_of):
    """Erode (``all_of``) or dilate by the six neighbours; what is outside is not in the mask."""
    padded, found = np.pad(mask, 1), mask.copy()
    for axis in range(3):
        for shift in (-1, 1):
            moved = np.roll(padded, shift, axis)[1:-1, 1:-1, 1:-1]
            found = found & moved if all_of else found | moved
    return found


def _parts(mask):
    """Return the number of the part that each place is of, joined by its six neighbours; 0 outside."""
    numbers = np.arange(1, mask.size + 1).reshape(mask.shape) * mask
    while True:
        before = numbers.copy()
        for axis in range(3):  # along each row that is not interrupted, forwards and backwards, the largest goes on
            for turn in (slice(None), slice(None, None, -1)):
                along = np.moveaxis(numbers, axis, 0)[turn]
                for row in range(1, len(along)):
                    inside = along[row] > 0
                    along[row] = np.where(inside, np.maximum(along[row], along[row - 1]), 0)
        if np.array_equal(before, numbers):
            return np.unique(numbers, return_inverse=True)[1].reshape(mask.shape) + int(mask.all())


def resampled(values, ratio, *, order, blur=True):
    """Return an image on voxels of ``ratio`` times the size, first faces together; blurred where it shrinks."""
    plain = values.astype(np.float32)
    over = 2.0 * math.sqrt(2.0 * math.log(2.0))
    sigma = [math.sqrt(r * r - 1.0) / over if blur and r > 1.5 else 0.0 for r in ratio]
    found = _blurred(plain, sigma, mode="edge")
    for axis, step in enumerate(ratio):
        count = max(1, round(values.shape[axis] / step))
        places = (np.arange(count) + 0.5) * step - 0.5
        found = np.moveaxis(np.tensordot(weights_along(values.shape[axis], places, order), found, (1, axis)), 0, axis)
    return found.clip(plain.min(), plain.max()).astype(np.float32)


def weights_along(length, places, order):
    """Return (places, length): what each voxel of a line gives to the value at each place; the edge goes on beyond."""
    edge = _MARGIN if order == 3 else 1
    padded = length + 2 * edge
    at = np.clip(places, 0, length - 1) + edge if order == 1 else np.clip(places + edge, 0, padded - 1)
    base = np.floor(at).astype(int)
    t = at - base
    if order == 3:
        taps = [(1 - t) ** 3 / 6, (4 - 6 * t**2 + 3 * t**3) / 6, (1 + 3 * t + 3 * t**2 - 3 * t**3) / 6, t**3 / 6]
        spline = np.zeros((len(places), padded))
        for number, tap in enumerate(taps):
            np.add.at(spline, (np.arange(len(places)), (base - 1 + number).clip(0, padded - 1)), tap)
        samples = np.zeros((padded, padded))  # values of the spline at the voxels, from its coefficients
        rows = np.arange(padded)
        for shift, tap in ((-1, 1 / 6), (0, 4 / 6), (1, 1 / 6)):
            mirrored = np.abs(rows + shift)
            np.add.at(samples, (rows, np.where(mirrored >= padded, 2 * padded - 2 - mirrored, mirrored)), tap)
        wide = np.linalg.solve(samples.T, spline.T).T
    else:
        wide = np.zeros((len(places), padded))
        np.add.at(wide, (np.arange(len(places)), base), 1 - t)
        np.add.at(wide, (np.arange(len(places)), base + 1), t)
    found = wide[:, edge : edge + length].copy()
    found[:, 0] += wide[:, :edge].sum(axis=1)
    found[:, -1] += wide[:, edge + length :].sum(axis=1)
    return found


def _blurred(values, sigma, *, mode):
    """Return values under a Gaussian that is cut at four deviations, axis by axis."""
    found = values
    for axis, width in enumerate(sigma):
        if width > 0:
            radius = int(4.0 * width + 0.5)
            kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / width) ** 2)
            pads = [(radius, radius) if a == axis else (0, 0) for a in range(3)]
            padded = np.moveaxis(np.pad(found, pads, mode=mode), axis, 0)
            total = sum(w * padded[n : n + values.shape[axis]] for n, w in enumerate(kernel / kernel.sum()))
            found = np.moveaxis(total, 0, axis).astype(np.float32)
    return found


def _nonzero_box(channels):
    """Return the box of all that is not 0 in any channel."""
    some = np.any([values != 0 for values in channels], axis=0)
    return tuple(
        slice(rows[0], rows[-1] + 1) if len(rows) else slice(0, some.shape[axis])
        for axis in range(3)
        for rows in (np.flatnonzero(some.any(axis=tuple(a for a in range(3) if a != axis))),)
    )


def _nonzero(channels):
    """Return mean and deviation of each channel in the box of all that is not 0 in any."""
    box = _nonzero_box(channels)
    return [(float(v[box].mean(dtype=np.float64)), float(v[box].std(dtype=np.float64))) for v in channels]
