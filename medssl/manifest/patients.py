"""Whose scan it is, judged by its name: one key for all the scans of a patient, so that no split cuts through them."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from medssl.errors import ConfigError
from medssl.manifest.sources import stem

__all__ = ["compiled_pattern", "patient_key"]

_BIDS = re.compile(r"(?<![A-Za-z0-9])sub-[A-Za-z0-9]+")
_TCGA = re.compile(r"TCGA[-_.]([A-Z0-9]{2})[-_.]([A-Z0-9]{4})(?![A-Za-z0-9])", re.I)
_NUMBERED = re.compile(r"(?<![A-Za-z])(?:patient|subject|subj|case|pt)[-_ ]?\d+", re.I)


def compiled_pattern(pattern: str) -> re.Pattern[str] | None:
    """Return the user's rule for patient keys, None where there is none.

    Raises:
        ConfigError: It is not a regular expression, or has several groups and none is named ``patient``.
    """
    if not pattern:
        return None
    try:
        rule = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"patient_pattern: '{pattern}' is not a regular expression ({error}).") from error
    if rule.groups > 1 and "patient" not in rule.groupindex:
        raise ConfigError(
            f"patient_pattern: '{pattern}' has {rule.groups} groups. Name the one that holds the key: (?P<patient>...)"
        )
    return rule


def patient_key(relative: str, *, pattern: re.Pattern[str] | None = None, channel: bool = False) -> str:
    """Return the patient's key.

    The first rule that fits decides: the user's pattern; ``sub-`` of BIDS; a TCGA barcode; ``patient007``,
    ``case_0012`` and their kind, in the file's name first and then in the folders from the inside out; the file's
    name itself. A key that joins too many scans only makes a split coarser; one that joins too few would leak.

    Args:
        relative: Path of the scan as seen from the root of the index, with forward slashes.
        pattern: The user's rule: its group ``patient``, else its only group, else the whole match is the key.
        channel: The name ends in nnU-Net's channel number, which is not part of the key.

    Example:
        >>> patient_key("patient001/patient001_frame12.nii.gz"), patient_key("a/TCGA_CS_4941_19960909_flair.nii.gz")
        ('patient001', 'TCGA-CS-4941')
        >>> patient_key("imagesTr/hippocampus_001.nii.gz")
        'hippocampus_001'
    """
    if pattern and (match := pattern.search(relative)):
        if "patient" in pattern.groupindex:
            return match["patient"] or match[0]
        return (match[1] if pattern.groups else match[0]) or match[0]
    path = PurePosixPath(relative)
    name = stem(path.name, channel=channel)
    if match := _BIDS.search(relative):
        return match[0]
    if match := _TCGA.search(relative):
        return f"TCGA-{match[1].upper()}-{match[2].upper()}"
    for part in (name, *reversed(path.parts[:-1])):
        if match := _NUMBERED.search(part):
            return match[0]
    return name
