"""What may be kept of a DICOM header: an allow-list, and identifiers as hashes."""

from __future__ import annotations

import hashlib
import re
from typing import Any

__all__ = ["ALLOWED", "hashed", "kept_fields"]

# Nothing outside this list leaves a header. Free text that a person typed (descriptions, comments, names of
# protocols and institutions) is left out on purpose: names and dates are found in it.
ALLOWED = (
    "Modality",
    "Manufacturer",
    "KVP",
    "ConvolutionKernel",
    "SliceThickness",
    "MagneticFieldStrength",
    "EchoTime",
    "RepetitionTime",
    "InversionTime",
    "FlipAngle",
    "Units",  # of PET: a code, such as BQML
)
# Of fields that a person or a site may have typed into, known words and codes alone are kept.
_MAKERS = (
    "SIEMENS",
    "GE",
    "Philips",
    "Canon",
    "TOSHIBA",
    "HITACHI",
    "FUJIFILM",
    "Shimadzu",
    "UIH",
    "United Imaging",
    "Neusoft",
    "Hologic",
    "Bruker",
    "Elscint",
    "Picker",
    "Marconi",
    "Varian",
    "Elekta",
    "Accuray",
    "Imatron",
    "NeuroLogica",
    "Carestream",
    "Esaote",
    "Mediso",
    "MinFound",
    "Agfa",
)
_KERNEL_WORDS = "STANDARD|STND|SOFT|SMOOTH|SHARP|BONE|BONEPLUS|DETAIL|LUNG|EDGE|CHEST|BRAIN|HEAD|BODY|NORMAL|HIGH|LOW"
_CODED = {
    "Manufacturer": re.compile(""),
    # B30f, Br40d/3, I31f/2, Qr36d, FC08, YA, L, EB: letters and digits as makers number their kernels, or a word.
    "ConvolutionKernel": re.compile(
        rf"([A-Za-z]{{0,2}}\d{{1,3}}[a-z]{{0,2}}|[A-Z]{{1,2}}|{_KERNEL_WORDS})(/\d)?", re.ASCII
    ),
    "Units": re.compile(
        "CNTS|NONE|CM2|CM2ML|PCNT|CPS|BQML|MGMINML|UMOLMINML|MLMING|MLG|1CM|UMOLML|PROPCNTS|PROPCPS|"
        "MLMINML|MLML|GML|STDDEV"
    ),
}
_IDENTIFIERS = {
    "patient": "PatientID",
    "study": "StudyInstanceUID",
    "series": "SeriesInstanceUID",
    "frame_of_reference": "FrameOfReferenceUID",
}


def hashed(identifier: str) -> str:
    """Return 16 hexadecimal digits that stand for an identifier, or "" for an empty one.

    The same patient has the same key in every folder, so splits by patient work. The key is no secret: who has a list
    of identifiers can hash them too, so a manifest with keys is still to be handled as pseudonymous data.

    Example:
        >>> hashed("  "), len(hashed("4711"))
        ('', 16)
    """
    clean = identifier.strip()
    return hashlib.sha256(clean.encode("utf-8")).hexdigest()[:16] if clean else ""


def kept_fields(dataset: Any) -> dict[str, str]:
    """Return the header values that may be kept: ``ALLOWED``, and identifiers of patient, study and series as hashes.

    Args:
        dataset: A pydicom dataset.
    """
    fields = {}
    for name, keyword in _IDENTIFIERS.items():
        key = hashed(str(dataset.get(keyword) or ""))
        if key:
            fields[name] = key
    for keyword in ALLOWED:
        value = dataset.get(keyword)
        if value not in (None, ""):
            parts = [str(value)] if isinstance(value, (str, int, float)) else [str(part) for part in value]
            text = "/".join(parts)[:64]
            fields[keyword] = _coded(keyword, text) if keyword in _CODED else text
    return {name: value for name, value in fields.items() if value}


def _coded(keyword: str, text: str) -> str:
    """Return what a field that a person may have typed into says, where it is a known word or code; "" otherwise.

    Example:
        >>> _coded("Manufacturer", "SIEMENS Healthineers"), _coded("ConvolutionKernel", "Br40d/3")
        ('SIEMENS', 'Br40d/3')
    """
    if keyword == "Manufacturer":
        found = [maker for maker in _MAKERS if re.search(rf"\b{maker}", text, re.IGNORECASE)]
        return found[0] if found else ""
    return text if _CODED[keyword].fullmatch(text) else ""
