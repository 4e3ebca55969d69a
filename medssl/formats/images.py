"""Plain 2D pictures (PNG, JPEG, BMP, TIFF) as scans: radiographs, exported slices, and stacks of pages in one TIFF.

They hold no geometry: the longer side counts as 256 mm, so that a picture saved at another size is the same one. It is
taken to be seen as radiologists do, the patient's right on the left and the front on top. Grey saved in colours is
grey; one in colour is refused until the user names a channel, for its channels may be three scans, or none.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import FormatError
from medssl.formats.files import first_bytes, looks_like_text
from medssl.formats.scan import Scan, ScanHeader

__all__ = ["CHANNELS", "grey_pixels", "opened", "picture_affine", "read", "read_header"]

_PHOTOMETRIC = 262
CHANNELS = ("red", "green", "blue", "luminance")
_LONGER_SIDE_MM = 256.0
_MOST_PIXELS = 1 << 28
_DEEP = {"I;16": "uint16", "I;16B": "uint16", "I;16L": "uint16", "I": "int32", "F": "float32"}  # would lose by 8 bits
_GREY = {"L": "uint8", "1": "uint8", **_DEEP}
_JPEG_NOISE = 3  # by how much the colours of a grey pixel may differ after compression
_LUMINANCE = (0.299, 0.587, 0.114)
_MORE_THAN_SLICES = re.compile(rb"^(channels|frames)=(?!1\s*$)", re.M)


def read_header(path: Path, *, channel: str = "") -> ScanHeader:
    """Read what is known of a picture without its pixels; where it is in colour, with them.

    Args:
        path: The file.
        channel: What to take of a picture in colour, one of ``CHANNELS``; "" refuses it.

    Raises:
        FormatError: The file is no picture, or one in colour.
    """
    path = Path(path)
    with opened(path) as picture:
        if picture.mode in _GREY and not _bits_lost(picture):
            return _header(path, picture, "uint32" if _unsigned(picture) else _GREY[picture.mode], ())
    return read(path, channel=channel).header


def read(path: Path, *, frame: int = 0, channel: str = "") -> Scan:
    """Read a picture; ``values`` has shape (1, y, x), of a TIFF with pages of one size (page, y, x).

    Args:
        path: The file.
        frame: 0; there are no others.
        channel: As for `read_header`.

    Raises:
        FormatError: The file is no picture, is damaged, is in colour, or has no such frame.
    """
    path = Path(path)
    if frame != 0:
        raise FormatError(path, f"There is no frame {frame}: a picture has 1, counted from 0.")
    with opened(path) as picture:
        pages, warnings = [], set()
        for page in range(_pages(path, picture)[0]):
            picture.seek(page)
            grey, said = grey_pixels(path, picture, channel=channel)
            pages.append(grey)
            warnings |= set(said)
        kinds = {page.dtype for page in pages}
        if len(kinds) > 1:
            raise FormatError(path, f"Its pages are of several types ({', '.join(map(str, kinds))}). Split the file.")
        header = _header(path, picture, pages[0].dtype.name, sorted(warnings))
    return Scan(header=header, values=np.ascontiguousarray(np.stack(pages)))


def picture_affine(width: int, height: int, slice_mm: float | None = None) -> npt.NDArray[np.float64]:
    """Return the affine of pictures of this size; the thickness is that of a pixel where nothing says it."""
    pixel_mm = _LONGER_SIDE_MM / max(width, height)
    return np.diag([-pixel_mm, -pixel_mm, slice_mm or pixel_mm, 1.0])


def grey_pixels(path: Path, picture: Any, *, channel: str = "") -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """Return the grey values (y, x) of an opened picture, and what a person should know of how they came about.

    Raises:
        FormatError: It is in colour and nobody says which channel is meant, or it is damaged.
    """
    try:
        _refuse_unnamed_colours(path, picture)
        if picture.mode in _GREY and not _bits_lost(picture):
            return _grey(picture), ()
        colours, noise = _colours(path, picture)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise FormatError(path, f"The picture is damaged ({error}).") from error
    alpha = colours[..., 3] if colours.shape[-1] == 4 else None
    said = (
        ["transparency: the picture has see-through pixels, whose values were taken as they are"]
        if (alpha is not None and alpha.size and alpha.min() != alpha.max())
        else []
    )
    red, green, blue = (colours[..., n].astype(np.int32) for n in range(3))
    apart = np.maximum(np.abs(red - green), np.abs(green - blue))
    if int(apart.max()) <= noise:
        return colours[..., 1], (*said, "grey saved in colours: red, green and blue are equal, and count as one")
    if not channel:
        share = 100.0 * np.count_nonzero(apart > noise) / apart.size
        raise FormatError(
            path,
            f"The picture is in colour ({share:.1f} % of its pixels). Its channels may be scans of their own, so none "
            f"is taken unasked. Say which: medssl index ... picture_channel={'|'.join(CHANNELS)}; or write grey ones.",
        )
    said.append(f"colour: {channel} of the picture's colours was taken, as asked")
    if channel != "luminance":
        return colours[..., CHANNELS.index(channel)], tuple(said)
    mixed = sum(weight * plane for weight, plane in zip(_LUMINANCE, (red, green, blue), strict=True))
    return np.rint(mixed).astype(colours.dtype), tuple(said)


def _refuse_unnamed_colours(path: Path, picture: Any) -> None:
    """Refuse pixels that name a colour which the palette lacks: one library takes black, another the number."""
    there = _palette_size(path, picture)
    if there is None or there >= 256:
        return
    most = int(np.asarray(picture).max(initial=0))
    if most >= there:
        raise FormatError(
            path, f"The picture is damaged: its pixels name colour {most}, and its palette has {there} (from 0)."
        )


def _palette_size(path: Path, picture: Any) -> int | None:
    if picture.format == "BMP":
        head = first_bytes(path, 64)
        length, bits = int.from_bytes(head[14:18], "little"), int.from_bytes(head[28:30], "little")
        if length < 40 or bits > 8:
            return None
        room = (int.from_bytes(head[10:14], "little") - 14 - length) // 4
        return max(0, min(int.from_bytes(head[46:50], "little") or 1 << bits, room))
    return len(picture.palette.palette) // 3 if picture.mode == "P" and picture.format == "PNG" else None


def _colours(path: Path, picture: Any) -> tuple[npt.NDArray[Any], int]:
    """Return red, green, blue (and how opaque), (y, x, 3 or 4), and how far equal ones may differ."""
    if _bits_lost(picture):
        return _deep_colours(path, picture), 0
    mode = picture.mode
    if mode in ("LA", "La", "PA", "RGBA", "RGBa", "RGBX") or "transparency" in picture.info:
        return np.asarray(picture.convert("RGBA")), 0
    if mode in ("P", "RGB"):
        return np.asarray(picture.convert("RGB")), _JPEG_NOISE if picture.format in ("JPEG", "MPO") else 0
    raise FormatError(path, f"The picture has colours of the kind '{mode}'. Save it again in grey, or in RGB.")


def _grey(picture: Any) -> npt.NDArray[Any]:
    values = np.asarray(picture).astype(_GREY[picture.mode])
    return values.view(np.uint32) if _unsigned(picture) else values


def _unsigned(picture: Any) -> bool:
    """Tell whether these are unsigned numbers of 32 bits, which Pillow gives as signed ones."""
    if picture.mode != "I" or picture.format != "TIFF":
        return False
    tags = picture.tag_v2
    return bool(max(tags.get(258, (1,))) == 32 and max(tags.get(339, (1,))) == 1)


def _bits_lost(picture: Any) -> bool:
    """Tell whether Pillow would cut the colours of this picture to 8 bits, as it does without a word."""
    if picture.mode not in ("RGB", "RGBA", "LA", "RGBX"):
        return False
    if picture.format == "TIFF":
        return bool(max(picture.tag_v2.get(258, (8,))) > 8)
    tiles = getattr(picture, "tile", None) or ()
    return picture.format == "PNG" and any("16" in str(tile[3] if len(tile) > 3 else "") for tile in tiles)


def _deep_colours(path: Path, picture: Any) -> npt.NDArray[Any]:
    """Return colours of more than 8 bits, (y, x, 3 or 4)."""
    try:
        if picture.format == "TIFF":
            import tifffile

            with tifffile.TiffFile(path) as file:
                one = file.pages[picture.tell()]
                planar = int(getattr(one, "planarconfig", 1) or 1) == 2
                page = np.asarray(one.asarray())
            page = np.moveaxis(page, 0, -1) if planar and page.ndim == 3 else page
        else:
            import SimpleITK as sitk  # noqa: N813

            page = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    except Exception as error:  # what a decoder that is not installed, or a damaged file, raises
        reason = "The picture's colours of more than 8 bits cannot be read here. Save it again in grey."
        raise FormatError(path, reason) from error
    if page.ndim == 3 and page.shape[-1] == 2:  # grey, and how opaque
        page = page[..., [0, 0, 0, 1]]
    if page.ndim != 3 or page.shape[-1] not in (3, 4):
        raise FormatError(path, f"The picture's colours have the shape {page.shape}. Save it again in grey.")
    return page


def _says_black(picture: Any) -> bool:
    try:
        return picture.tag_v2.get(_PHOTOMETRIC) is not None
    except (KeyError, ValueError, TypeError):  # the tag is there, and its value is not
        return False


def _pages(path: Path, picture: Any) -> tuple[int, tuple[str, ...]]:
    """Return how many pages are slices, and what to say of that."""
    pages = int(getattr(picture, "n_frames", 1))
    if pages == 1:
        return 1, ()
    if picture.format != "TIFF":
        return 1, (f"{pages} pictures in one file; the first is used",)
    said = picture.tag_v2.get(270, "")
    said = said.encode("latin-1", "replace") if isinstance(said, str) else bytes(said)
    if said.startswith(b"ImageJ=") and _MORE_THAN_SLICES.search(said):
        raise FormatError(
            path, "Its pages are channels or times, and not slices alone (ImageJ). Write one file for each."
        )
    if b"<OME" in said and not (b'SizeC="1"' in said and b'SizeT="1"' in said):
        raise FormatError(path, "Its pages are channels or times, and not slices alone (OME). Write one file for each.")
    sizes = set()
    for page in range(pages):
        picture.seek(page)
        sizes.add(picture.size)
    picture.seek(0)
    if len(sizes) > 1:
        shown = ", ".join(f"{width} x {height}" for width, height in sorted(sizes)[:4])
        raise FormatError(
            path, f"Its {pages} pages are of several sizes ({shown}), so they are no slices. Split the file."
        )
    return pages, (
        f"stack: {pages} pages of one size count as slices, the first as the lowest",
        "no voxel size: pictures have none; 256 mm along the longer side and cubic voxels were taken",
    )


def _header(path: Path, picture: Any, dtype: str, warnings: Any) -> ScanHeader:
    width, height = picture.size
    pages, said = _pages(path, picture)
    return ScanHeader(
        path=path,
        paths=(path,),
        format="image" if pages == 1 else "image-stack",
        shape=(pages, height, width),
        affine=picture_affine(width, height),
        dtype=dtype,
        warnings=(*said, *warnings),
    )


def opened(path: Path) -> Any:
    """Open a picture with Pillow, its pixels still on disk.

    Raises:
        FormatError: The file is none, or too large.
    """
    from PIL import Image, UnidentifiedImageError

    start = first_bytes(path, 64)
    try:
        picture = Image.open(path)
    except UnidentifiedImageError:
        what = "text" if looks_like_text(start) else "no picture of a kind that is known"
        raise FormatError(path, f"The file is {what}. Save it again as PNG, JPEG, BMP or TIFF.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise FormatError(path, f"The picture cannot be opened ({error}).") from error
    if picture.format == "TIFF" and not _says_black(picture):  # libraries guess, and not alike
        picture.close()
        raise FormatError(path, "The TIFF does not say whether 0 is black or white (tag 262). Save it again.")
    if picture.format == "BMP":
        begin, least = int.from_bytes(start[10:14], "little"), 14 + int.from_bytes(start[14:18], "little")
        if begin < least:  # libraries look for the pixels in different places
            picture.close()
            raise FormatError(path, f"The BMP's pixels would begin at byte {begin}, in its header. Save it again.")
    width, height = picture.size
    if width * height > _MOST_PIXELS:
        picture.close()
        raise FormatError(path, f"The picture has {width} x {height} pixels; {_MOST_PIXELS:,} at most are read.")
    return picture
