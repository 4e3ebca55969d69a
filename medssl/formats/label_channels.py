"""Labels with a fourth axis: a channel a class, a frame of a film, or nothing that can be told."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medssl.errors import UnfitError
from medssl.formats.label_values import Numbers, label_numbers
from medssl.formats.reading import read
from medssl.formats.scan import Scan

__all__ = ["label_of_frames"]

_SUM_TO_ONE = 1e-2


def label_of_frames(
    path: Path,
    first: Scan,
    notes: list[str],
    *,
    image_frames: int,
    frame: int,
    classes: Mapping[int, str],
    known: Collection[int],
) -> Numbers:
    """Return the label that a file with several frames holds.

    Channels of 0 and 1 that sum to 1 in every voxel are one-hot: channel k is the value k. Frames as many as the
    image's are one label a frame. Of a 3D image, channels of 0 and 1 that never overlap are one mask a class, the
    background left out: channel k is the value k + 1. All else is refused.

    Args:
        path: The file.
        first: Its frame 0.
        notes: Gains a sentence that says how the channels were read.
        image_frames: Frames of the image; 1 for a 3D image.
        frame: Which frame of the image is taken.
        classes: Names of the values.
        known: Values that the data set names.

    Raises:
        UnfitError: It holds probabilities, overlapping masks, or frames that are not the image's.
    """
    frames = first.header.frames
    films = image_frames == frames
    binary, summed, argmax = True, np.zeros(first.values.shape, np.float32), np.zeros(first.values.shape, np.int16)
    greatest: npt.NDArray[np.float32] | None = None
    for number in range(frames):
        values = first.values if number == 0 else read(path, frame=number).values
        with np.errstate(invalid="ignore"):
            channel = values.astype(np.float32)
        if not np.isfinite(channel).all():
            raise UnfitError(path, f"Channel {number} of the label holds values that are not finite.", "label-frames")
        binary &= bool(((channel == 0) | (channel == 1)).all())
        summed += channel
        if greatest is None:
            greatest = channel
        else:
            larger = channel > greatest
            argmax[larger] = number
            greatest = np.where(larger, channel, greatest)
        if not binary and films:
            break
    if binary and (summed == 1).all():
        notes.append(f"label one-hot: {_channels(frames, 0, classes)}")
        return argmax
    if films:
        chosen = first.values if frame == 0 else read(path, frame=frame).values
        notes.append(f"label of {frames} frames: that of the image's frame {frame} is read")
        return label_numbers(path, chosen, notes, known=known)
    if binary and summed.max() <= 1:
        notes.append(f"label of one mask a channel: {_channels(frames, 1, classes)}")
        return np.where(summed > 0, argmax + 1, 0).astype(np.int16)
    if binary:
        found = f"{int(np.count_nonzero(summed > 1))} voxels belong to several channels"
    elif np.abs(summed - 1).max() <= _SUM_TO_ONE:
        found = "the channels are probabilities that sum to 1"
    else:
        found = "the channels are no masks of 0 and 1"
    raise UnfitError(
        path,
        f"The label has {frames} frames, the image {image_frames}, and {found}. Write one value a voxel "
        "(the likeliest class), in three axes.",
        "label-frames",
    )


def _channels(frames: int, shift: int, classes: Mapping[int, str]) -> str:
    """Say which channel is which class."""
    names = {0: "background", **classes}
    named = [
        f"channel {number} is {number + shift} ({names.get(number + shift, 'unnamed')})"
        for number in range(min(frames, 6))
    ]
    return ", ".join(named) + (", ..." if frames > 6 else "")
