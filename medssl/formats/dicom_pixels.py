"""The voxels of a DICOM series: unpacked, rescaled slice by slice, padding made air."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import FormatError
from medssl.formats.dicom_slices import Pixels, Slice
from medssl.formats.rescale import apply_rescale

__all__ = ["PADDING_HU", "decode", "padding_in_doubt", "read_voxels", "to_invert"]

Array = npt.NDArray[Any]
PADDING_HU = -1024
_UNDEFINED_LENGTH = 0xFFFFFFFF  # packed pixels end with a mark of their own
_TISSUE_HU = (-900.0, 3071.0)  # a padding value that means one of these would take tissue with it


def read_voxels(slices: Sequence[Slice], shape: tuple[int, int, int], dtype: np.dtype[np.generic]) -> Array:
    """Return the values of slices in their order, (z, y, x).

    What the header marks as padding becomes -1024 in a CT with a rescale, and the lowest value of the rest elsewhere.

    Args:
        slices: One volume.
        shape: Slices, rows and columns.
        dtype: What holds every value.

    Raises:
        FormatError: A file cannot be decoded, or is another image than its header says.
    """
    values = np.empty(shape, dtype=dtype)
    padded: dict[int, npt.NDArray[np.bool_]] = {}
    places: dict[Path, list[int]] = defaultdict(list)
    for place, one in enumerate(slices):
        places[one.path].append(place)
    for path, where in places.items():
        pixels = decode(path)
        for place in where:
            one = slices[place]
            stored = pixels[one.index] if pixels.ndim == 3 else pixels
            if stored.shape != shape[1:] or stored.dtype.kind != one.pixels.stored_dtype.kind:
                raise FormatError(
                    path,
                    f"The pixels have shape {stored.shape} and type {stored.dtype}; the header says {shape[1:]} and "
                    f"{one.pixels.stored_dtype}.",
                )
            mask = _padding_of(stored, one)
            if mask is not None:
                padded[place] = mask
            if stored.dtype.kind in "iu":
                stored = _within_bits(stored, one.pixels)
            if to_invert(one):
                low, high = (-(1 << (one.pixels.bits - 1)), (1 << (one.pixels.bits - 1)) - 1)
                total = low + high if one.pixels.signed else (1 << one.pixels.bits) - 1
                stored = (total - stored.astype(np.int64)).astype(stored.dtype)
            values[place] = apply_rescale(stored, *(one.rescale or (1.0, 0.0)), dtype)
    if padded:
        _fill(values, padded, hounsfield=slices[0].pixels.modality == "CT" and slices[0].rescale is not None)
    return values


def to_invert(one: Slice) -> bool:
    """Tell whether a slice is stored bright for dark, and its numbers measure nothing that this would spoil."""
    return one.pixels.inverted and one.pixels.modality not in ("CT", "PT", "NM") and not one.pixels.floating


def padding_in_doubt(one: Slice) -> bool:
    """Tell whether the padding value of a CT means a number of HU that tissue has too; it is then left alone."""
    if one.pixels.padding is None or one.pixels.modality != "CT" or one.rescale is None:
        return False
    ends = [value * one.rescale[0] + one.rescale[1] for value in one.pixels.padding]
    return max(ends) > _TISSUE_HU[0] and min(ends) <= _TISSUE_HU[1]


def decode(path: Path, index: int | None = None) -> Array:
    """Return the stored pixels of a file: (y, x), or (frame, y, x) where there are several frames.

    Args:
        path: The file.
        index: Only this frame.

    Raises:
        FormatError: They cannot be unpacked.
    """
    import pydicom
    from pydicom.pixels import pixel_array

    dataset: Any = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path, force=True)
            _refuse_cut_off(path, dataset)
            # Bits beyond BitsStored stay, for padding may be marked there; ``_within_bits`` cuts them off afterwards.
            pixels: Array = pixel_array(dataset, index=index, correct_unused_bits=False)
    except FormatError:
        raise
    except PermissionError:
        raise FormatError(path, "Permission denied. Give the user who runs this the right to read it.") from None
    except (NotImplementedError, RuntimeError) as error:
        syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
        name = syntax.name if syntax is not None else "unknown"
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise FormatError(
            path,
            f"The pixels cannot be unpacked (transfer syntax {name}: {lines[0]}). Install "
            "pylibjpeg with its plugins, or convert the file with gdcmconv --raw.",
        ) from error
    except Exception as error:  # damaged pixel data raises whatever the decoder meets first
        raise FormatError(path, f"The pixels cannot be read ({type(error).__name__}: {error}).") from error
    return pixels


def _refuse_cut_off(path: Path, dataset: Any) -> None:
    """Refuse pixels of which the file holds fewer bytes than it says; pydicom takes what is there without a word."""
    raw = dataset.get_item("PixelData") if "PixelData" in dataset else None
    said, value = getattr(raw, "length", None), getattr(raw, "value", None)
    if said is None or said == _UNDEFINED_LENGTH or not isinstance(value, bytes | bytearray):
        return
    if said > len(value):
        raise FormatError(
            path,
            f"The pixels are cut off, or their header is damaged: {said:,} bytes are announced and {len(value):,} are "
            "there. Copy the file again.",
        )


def _padding_of(stored: Array, one: Slice) -> npt.NDArray[np.bool_] | None:
    if one.pixels.padding is None or padding_in_doubt(one):
        return None
    low, high = one.pixels.padding
    mask: npt.NDArray[np.bool_] = (stored >= low) & (stored <= high)
    return mask if mask.any() else None


def _within_bits(stored: Array, pixels: Pixels) -> Array:
    """Return the bits that hold the value: others may hold overlays, or copies of a sign that was never made."""
    shift = pixels.high + 1 - pixels.bits
    whole = pixels.allocated
    if pixels.bits >= whole or whole < 8:
        return stored
    limits = (-(1 << (pixels.bits - 1)), (1 << (pixels.bits - 1)) - 1) if pixels.signed else (0, (1 << pixels.bits) - 1)
    if not shift and limits[0] <= int(stored.min()) and int(stored.max()) <= limits[1]:
        return stored
    bits = (stored.astype(np.int64) >> shift) & ((1 << pixels.bits) - 1)
    if pixels.signed:
        bits = np.where(bits > limits[1], bits - (1 << pixels.bits), bits)
    return bits.astype(stored.dtype)


def _fill(values: Array, padded: dict[int, npt.NDArray[np.bool_]], *, hounsfield: bool) -> None:
    fill: Any = PADDING_HU
    if not hounsfield:
        rest = [values[place][~padded[place]] if place in padded else values[place] for place in range(len(values))]
        lowest = [part.min() for part in rest if part.size]
        fill = min(lowest) if lowest else 0
    for place, mask in padded.items():
        values[place][mask] = fill
