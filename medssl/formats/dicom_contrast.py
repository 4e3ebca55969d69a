"""Which contrast a DICOM image shows, by the field's words: t1, t1ce, t2, flair, adc, b800, ct, pet and their kind.

Machines write b-values, kinds of derived images and modalities; people write descriptions. Of these only words of the
list below leave a header, so that nothing that a person typed does. What a description or the times of a sequence
tell is a guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from medssl.formats.dicom_header import number

__all__ = ["SAID_BY", "TOLD_BY_FACTS", "TOLD_BY_PART", "TOLD_BY_TIMES", "TOLD_BY_WORDS", "Contrast", "contrast_of"]

SAID_BY = (
    "SeriesDescription",
    "ProtocolName",
    "SequenceName",
    "PulseSequenceName",
    "ContrastBolusAgent",
    "CorrectedImage",
)
TOLD_BY_FACTS = "facts"  # the machine says it
TOLD_BY_WORDS = "words"  # a description does: a guess
TOLD_BY_TIMES = "times"  # echo, repetition and inversion time do: a guess
TOLD_BY_PART = "part"  # one of several volumes of a series that show the same contrast: time points, echoes


def _by_name(rows: Iterable[tuple[str, str]]) -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((name, re.compile(f" ({words}) ")) for name, words in rows)


_BETWEEN = re.compile(r"[^a-z0-9+*]+")
_DIFFUSION = re.compile(r" (dwi|dti|dw|diff\w*|trace\w*|resolve|zoomit|hardi|ivim|ep b\d+\w*) ")
_B = re.compile(r" b(?:val|value)? ?(\d{1,4}) ")
_SEQUENCE_B = re.compile(r"ep_b(\d{1,4})")
# Maps and other images that are no plain weighting, the first that a description names.
_OWN = _by_name(
    (
        ("eadc", r"e ?adc|exponential adc"),
        ("adc", r"d?adc|adc ?map|apparent diffusion\w*"),
        ("fa", r"fa|fractional anisotropy|colfa"),
        ("cbf", r"r?cbf"),
        ("cbv", r"r?cbv"),
        ("mtt", r"mtt"),
        ("ttp", r"ttp"),
        ("tmax", r"t ?max"),
        ("ktrans", r"k ?trans"),
        ("t1map", r"t1 ?map\w*"),
        ("t2map", r"t2 ?map\w*"),
        ("subtraction", r"subs?|subtraction|subtracted"),
        ("mip", r"m ?ip|minip"),
        ("swi", r"swi\w*|swan|ven?o?bold|susceptibility"),
        ("asl", r"asl|pcasl|pasl"),
        ("bold", r"bold|fmri|rsfmri|resting state"),
        ("perfusion", r"perf\w*|dsc"),
        ("tof", r"tof\w*|mra|angio\w*"),
        ("ciss", r"ciss|fiesta\w*|drive"),
        ("stir", r"stir"),
    )
)
_FLAIR = re.compile(r" (\w*flair\w*|t2f|dark ?fluid|da fl|darkfl|tirm) ")
_T2_STAR = re.compile(r" (t2 ?\* ?\w*|t2 ?star|t2s|hemo|haemo|t2 (?:fl2d|gre|ffe|me2d)|(?:gre|ffe|medic) t2) ")
_T1 = re.compile(r" (t1\w{0,4}(\+\w*)?|mp ?rage|mprage\w*|bravo\S*|f?spgr\S*|vibe|lava\w*|thrive|[a-z]{0,3}t1w?) ")
_T2 = re.compile(r" (t2\w{0,4}|haste|[a-z]{0,3}t2w?) ")
_PD = re.compile(r" (pd|pdw|pdwi|pdfs|proton density) ")
_FAT = re.compile(r" (\w*fs|fat ?sat|spair|spir|fat supp?\w*|fsat) ")
_WITHOUT = re.compile(
    r" (pre|nativ\w*|unenhanced|plain|noncontrast|"
    r"(without|w o|wo|ohne|non|no|pre) ?(c|\w*contrast|gd|gad\w*|km|iv|ce)) "
)
_WITH = re.compile(
    r" (\S*\+ ?(c|gd|km|k|ce)|c ?\+|post(?! ?op)|gd|gad\w*|km|ce|mdc|\w*contrast|enhanced|t1w?(ce|c|gd|gad|km|post)) "
)
_PHASES = _by_name(
    (
        ("native", r"nativ\w*|unenhanced|ncct|(non|without|w o|wo|pre) ?contrast|ohne km"),
        ("arterial", r"art|arterial\w*|arteriell\w*|cta"),
        ("venous", r"ven|venous|portal\w*|portovenous|pv|pvp|venoes\w*|venos\w*"),
        ("delayed", r"delay\w*|late|equilibrium|excretory|nephrogenic|spaet\w*"),
    )
)
_DIXON = {
    "WATER": "water",
    "FAT": "fat",
    "IN_PHASE": "inphase",
    "OUT_PHASE": "outphase",
    "OPP_PHASE": "outphase",
    "W": "water",
    "F": "fat",
    "IP": "inphase",
    "OP": "outphase",
}
_DERIVED = {
    "ADC": "adc",
    "FA": "fa",
    "EXP": "eadc",
    "MTT": "mtt",
    "TTP": "ttp",
    "RCBV": "cbv",
    "RCBF": "cbf",
    "SWI": "swi",
    "MNIP": "mip",
    "PHASE": "phase",
    "P": "phase",
}
_NO_AGENT = re.compile(r"\s*(|no|none|n/?a|-+|0|not given|nein|kein\w*|without)\s*", re.I)


@dataclass(frozen=True)
class Contrast:
    """What an image shows.

    Attributes:
        name: Its channel: "t1ce", "b800", "ct"; "" where nothing tells.
        rule: What told it, one of ``TOLD_BY_FACTS``, ``TOLD_BY_WORDS``, ``TOLD_BY_TIMES``; "" where nothing does.
    """

    name: str = ""
    rule: str = ""


def contrast_of(dataset: Any, frame: Mapping[str, Any]) -> Contrast:
    """Return the contrast of an image, as a word of the field's list.

    Args:
        dataset: The header.
        frame: Values of this frame by keyword (`ImageType`, `DiffusionBValue`, `EchoTime`, ...).

    Example:
        >>> contrast_of({"Modality": "MR", "SeriesDescription": "Ax T2 FLAIR FS"}, {})
        Contrast(name='flair', rule='words')
        >>> contrast_of({"Modality": "PT"}, {})
        Contrast(name='pet', rule='facts')
    """
    modality = str(dataset.get("Modality") or "").upper()
    said = _words(str(dataset.get("SeriesDescription") or "")[:256], str(dataset.get("ProtocolName") or "")[:256])
    if modality == "PT":
        corrections = frame.get("CorrectedImage") or dataset.get("CorrectedImage") or ()
        parts = [corrections] if isinstance(corrections, str) else [str(part) for part in corrections]
        raw = bool(parts) and "ATTN" not in parts
        return Contrast("pet_nac" if raw else "pet", TOLD_BY_FACTS)
    if modality == "CT":
        phase = _phase(said)
        return Contrast(f"ct_{phase}", TOLD_BY_WORDS) if phase else Contrast("ct", TOLD_BY_FACTS)
    if modality != "MR":
        return Contrast()
    return _of_mr(dataset, frame, said)


def _of_mr(dataset: Any, frame: Mapping[str, Any], said: tuple[str, ...]) -> Contrast:
    kinds = _kinds(frame.get("ImageType") or dataset.get("ImageType"))
    derived = next((_DERIVED[kind] for kind in kinds if kind in _DERIVED), "")
    if derived:
        return Contrast(derived, TOLD_BY_FACTS)
    # A Philips scanner writes b = 0 of every image; only a diffusion image means it.
    sequence = str(dataset.get("SequenceName") or dataset.get("PulseSequenceName") or "").lower()[:64]
    diffusion = "DIFFUSION" in kinds or bool(_SEQUENCE_B.search(sequence)) or any(map(_DIFFUSION.search, said))
    found = next((name for words in said for name, pattern in _OWN if pattern.search(words)), "")
    b = number(frame, "DiffusionBValue", strict=False)
    if b is None and (match := _SEQUENCE_B.search(sequence)):
        b = float(match[1])
    if b is not None and (b > 0 or diffusion) and not found:
        return Contrast(f"b{round(b)}", TOLD_BY_FACTS)
    if found:
        return Contrast(found, TOLD_BY_WORDS)
    if diffusion:
        written = next((match[1] for words in said if (match := _B.search(words))), "")
        return Contrast(f"b{int(written)}" if written else "dwi", TOLD_BY_WORDS)
    agent = dataset.get("ContrastBolusAgent")
    name = next((name for words in said if (name := _weighting(words, given=_given(agent)))), "")
    rule = TOLD_BY_WORDS
    if not name:
        name, rule = _by_times(frame, dataset, given=_given(agent)), TOLD_BY_TIMES
    fat = next((_DIXON[kind] for kind in kinds if kind in _DIXON), "")
    if fat:
        return Contrast(f"{name}_{fat}" if name else fat, rule if name else TOLD_BY_FACTS)
    return Contrast(name, rule) if name else Contrast()


@lru_cache(maxsize=4096)
def _words(*texts: str) -> tuple[str, ...]:
    """Return texts as words with one space between and around them, in lower case; empty ones left out."""
    plain = [_BETWEEN.sub(" ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).lower()).strip() for text in texts]
    return tuple(f" {text} " for text in plain if text)


def _weighting(words: str, *, given: bool) -> str:
    if not _T1.search(words) and _FLAIR.search(words):
        return "flair"
    if _T2_STAR.search(words):
        return "t2s"
    if _T2.search(words):
        return "t2fs" if _FAT.search(words) else "t2"
    if _T1.search(words):
        plain = bool(_WITHOUT.search(words)) and " post " not in words
        phase = next((name for name, pattern in _PHASES[1:] if pattern.search(words)), "")
        if phase:
            return f"t1_{phase}"
        return "t1ce" if not plain and (given or _WITH.search(words)) else "t1"
    if _PD.search(words):
        return "pdfs" if _FAT.search(words) else "pd"
    return ""


def _by_times(frame: Mapping[str, Any], dataset: Any, *, given: bool) -> str:
    """Guess the weighting of a spin echo, or of a gradient echo after inversion, from its times in ms."""
    echo, repetition, inversion = (
        number({key: frame.get(key) or dataset.get(key)}, key, strict=False)
        for key in ("EchoTime", "RepetitionTime", "InversionTime")
    )
    if not echo or not repetition:
        return ""
    t1 = "t1ce" if given else "t1"
    if inversion and inversion > 1500:
        return "flair" if echo > 70 else ""
    if inversion and 500 <= inversion <= 1300 and echo < 30:
        return t1
    if inversion:
        return ""
    if 300 <= repetition <= 1000 and echo < 30:
        return t1
    if repetition > 2000:
        return "t2" if 70 <= echo <= 150 else "pd" if echo < 40 else ""
    return ""


def _phase(said: tuple[str, ...]) -> str:
    return next((name for words in said for name, pattern in _PHASES if pattern.search(words)), "")


def _given(agent: Any) -> bool:
    return agent is not None and not _NO_AGENT.fullmatch(str(agent))


def _kinds(image_type: Any) -> list[str]:
    parts = [image_type] if isinstance(image_type, str) else list(image_type or ())
    return [str(part).upper() for part in parts[2:]]
