"""What may be kept of a DICOM header: an allow-list, and identifiers as hashes."""

from __future__ import annotations

import hashlib
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
            fields[keyword] = "/".join(parts)[:64]
    return fields
