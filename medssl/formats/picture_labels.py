"""Masks that are pictures: indices of a palette, grey values, or colours that a table gives classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import FormatError
from medssl.formats import images
from medssl.formats.colour_table import NAMES, Colour, colour_table_of, read_colour_table
from medssl.formats.picture_stack import STACK, masks_of
from medssl.formats.scan import Scan, ScanHeader
from medssl.formats.table import format_of

__all__ = ["is_picture_label", "read_picture_label"]

_JPEG_SPREAD = 16  # how far compression may move the black and white of a mask of two values


def is_picture_label(path: Path, image: ScanHeader) -> bool:
    """Tell whether a label is a picture, or a folder of the masks of a stack of pictures."""
    return format_of(path) == "image" if path.is_file() else image.format == STACK and path.is_dir()


def read_picture_label(path: Path, image: ScanHeader) -> Scan:
    """Read masks that are pictures.

    A palette's indices are the classes, and so are grey values. Colours count as what ``label_colours.json``,
    ``label_colours.csv`` or ``class_dict.csv`` beside the masks, or in a folder above, says; without one they are
    refused.

    Args:
        path: The mask, or a folder that holds a mask for every slice of the scan.
        image: The scan.

    Raises:
        FormatError: A mask is missing, is in colours that no table names, or was compressed with loss.
    """
    table_file = colour_table_of(path)
    table = read_colour_table(table_file) if table_file else {}
    if path.is_dir():
        masks = masks_of(image.paths, path)
        missing = [slice_ for slice_, mask in zip(image.paths, masks, strict=True) if mask is None]
        if missing:
            raise FormatError(
                path, f"{len(missing)} of {len(masks)} slices have no mask, such as {missing[0].name}. Add empty masks."
            )
        planes = [plane for mask in masks if mask is not None for plane in _classes(mask, table)]
    else:
        planes = _classes(path, table)
    shapes = {plane.shape for plane in planes}
    if len(shapes) > 1:
        raise FormatError(path, f"The masks are of several sizes: {', '.join(map(str, sorted(shapes)[:4]))} (y, x).")
    values = np.stack(planes)
    affine = image.affine if values.shape == image.shape else images.picture_affine(values.shape[2], values.shape[1])
    header = ScanHeader(
        path=path,
        paths=(path,),
        format="image",
        shape=(values.shape[0], values.shape[1], values.shape[2]),
        affine=affine,
        dtype=values.dtype.name,
    )
    return Scan(header=header, values=values)


def _classes(path: Path, table: dict[Colour, int]) -> list[npt.NDArray[Any]]:
    """Return the classes (y, x) of every page of a mask."""
    with images.opened(path) as picture:
        found = []
        for page in range(getattr(picture, "n_frames", 1)):
            picture.seek(page)
            found.append(_page(path, picture, table))
        return found


def _page(path: Path, picture: Any, table: dict[Colour, int]) -> npt.NDArray[Any]:
    try:
        if picture.mode == "P":
            return np.asarray(picture)
        if picture.mode == "1":
            return np.asarray(picture).astype(np.uint8)
        if picture.mode not in ("RGB", "RGBA", "RGBX", "LA", "PA"):
            grey = images.grey_pixels(path, picture)[0]
            return _by_table(_settled(path, picture, grey), table)
        colours = np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise FormatError(path, f"The mask is damaged ({error}).") from error
    if (colours == colours[..., :1]).all():
        return _by_table(_settled(path, picture, colours[..., 0]), table)
    if picture.format in ("JPEG", "MPO"):
        raise FormatError(path, "A mask in colours was saved as JPEG, which changes them. Write masks as PNG.")
    if not table:
        raise FormatError(
            path,
            f"The mask is in colours, and nothing says which class each stands for. Write {NAMES[0]}.json beside the "
            'masks, such as {"0": [0, 0, 0], "1": [255, 0, 0]}, or write masks of whole numbers.',
        )
    codes = (colours[..., 0].astype(np.int64) << 16) | (colours[..., 1].astype(np.int64) << 8) | colours[..., 2]
    present, places, counts = np.unique(codes, return_inverse=True, return_counts=True)
    named = {(red << 16) | (green << 8) | blue: value for (red, green, blue), value in table.items()}
    unknown = [(int(code), int(count)) for code, count in zip(present, counts, strict=True) if int(code) not in named]
    if unknown:
        code, count = unknown[0]
        shown = (code >> 16, code >> 8 & 255, code & 255)
        raise FormatError(
            path,
            f"The mask holds {len(unknown)} colours that the table of colours does not name, such as {shown} "
            f"({count} pixels).",
        )
    classes: npt.NDArray[Any] = np.array([named[int(code)] for code in present], dtype=np.int16)
    mapped: npt.NDArray[Any] = classes[places].reshape(codes.shape)
    return mapped


def _by_table(grey: npt.NDArray[Any], table: dict[Colour, int]) -> npt.NDArray[Any]:
    """Return grey values as the classes that the table gives their greys, where it names all of them."""
    if not table or grey.dtype != np.uint8:
        return grey
    present = [int(value) for value in np.unique(grey)]
    if not all((value, value, value) in table for value in present):
        return grey
    lookup: npt.NDArray[Any] = np.zeros(256, np.int16)
    for value in present:
        lookup[value] = table[value, value, value]
    classes: npt.NDArray[Any] = lookup[grey]
    return classes


def _settled(path: Path, picture: Any, grey: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a mask without what JPEG did to its black and white."""
    if picture.format not in ("JPEG", "MPO"):
        return grey
    if ((grey > _JPEG_SPREAD) & (grey < 255 - _JPEG_SPREAD)).any():
        raise FormatError(path, "The mask was saved as JPEG, which made classes up at its edges. Write masks as PNG.")
    return np.where(grey > 127, 255, 0).astype(np.uint8)
