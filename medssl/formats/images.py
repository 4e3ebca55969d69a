"""Plain 2D pictures (PNG, JPEG, BMP, TIFF) as scans of one slice: radiographs, and slices that somebody exported.

They hold no geometry: the longer side counts as 256 mm, so that a picture saved at another size is the same one. It is
taken to be seen as radiologists do, the patient's right on the left and the front on top. Colours become grey values by
their luminance.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import FormatError
from medssl.formats.files import first_bytes, looks_like_text
from medssl.formats.scan import Scan, ScanHeader

__all__ = ["read", "read_header"]

_LONGER_SIDE_MM = 256.0
_MOST_PIXELS = 1 << 28
_DEEP = ("I;16", "I;16B", "I;16L", "I", "F")  # grey values that would lose by 8 bits


def read_header(path: Path) -> ScanHeader:
    """Read what is known of a picture without its pixels.

    Raises:
        FormatError: The file is no picture.
    """
    path = Path(path)
    with _opened(path) as picture:
        return _header(path, picture)


def read(path: Path, *, frame: int = 0) -> Scan:
    """Read a picture; ``values`` has shape (1, y, x).

    Raises:
        FormatError: The file is no picture, is damaged, or has no such frame.
    """
    path = Path(path)
    if frame != 0:
        raise FormatError(path, f"There is no frame {frame}: a picture has 1, counted from 0.")
    with _opened(path) as picture:
        header = _header(path, picture)
        try:
            grey: npt.NDArray[Any] = np.asarray(picture if picture.mode in _DEEP else picture.convert("L"))
        except (OSError, SyntaxError, ValueError) as error:
            raise FormatError(path, f"The picture is damaged ({error}).") from error
    return Scan(header=header, values=np.ascontiguousarray(grey[None]))


def _header(path: Path, picture: Any) -> ScanHeader:
    width, height = picture.size
    if width * height > _MOST_PIXELS:
        raise FormatError(path, f"The picture has {width} x {height} pixels; {_MOST_PIXELS:,} at most are read.")
    pixel_mm = _LONGER_SIDE_MM / max(width, height)
    frames = getattr(picture, "n_frames", 1)
    warnings = (f"{frames} pictures in one file; the first is used",) if frames > 1 else ()
    deep = {"I": "int32", "F": "float32"}.get(picture.mode, "uint16") if picture.mode in _DEEP else "uint8"
    return ScanHeader(
        path=path,
        paths=(path,),
        format="image",
        shape=(1, height, width),
        affine=np.diag([-pixel_mm, -pixel_mm, pixel_mm, 1.0]),
        dtype=deep,
        warnings=warnings,
    )


def _opened(path: Path) -> Any:
    from PIL import Image, UnidentifiedImageError

    start = first_bytes(path, 64)
    try:
        return Image.open(path)
    except UnidentifiedImageError:
        what = "text" if looks_like_text(start) else "no picture of a kind that is known"
        raise FormatError(path, f"The file is {what}. Write it anew as PNG, JPEG, BMP or TIFF.") from None
    except (OSError, Image.DecompressionBombError) as error:
        raise FormatError(path, f"The picture cannot be opened ({error}).") from error
