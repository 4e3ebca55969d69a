"""Words of file and folder names that name no patient: contrasts, visits, parts, processing, labels, plain folders.

A name is cut to tokens at ``_ - . +`` and spaces. Tokens are taken off its end while they are such words; what is left
is the patient's, as far as a name can tell.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["Words", "channel_of", "is_label_folder", "is_words", "joined", "read_words", "split_of_folder", "tokens_of"]

_CHANNEL = re.compile(
    r"t1(w|n|c|ce|cd|gd|km|post|pre|map|rho|wce|dual|w?ce|fs)?|t2(w|f|s|fs|star|spir|flair|map)?|flair|dwi|adc|hbv|"
    r"dti|fa|md|swi|pd|pdw|dce|dsc|asl|cbf|cbv|mtt|tmax|ttp|ktrans|ct|cta|ctp|cect|ncct|cbct|ctres|pt|pet|"
    r"suv|suvbw|mr|mri|mra|mrv|bold|cine|lge|mprage|spgr|tof|sag|cor|ax|tra|axial|coronal|sagittal|inphase|outphase|"
    r"water|fat|arterial|venous|portal|delayed|native|contrast|noncontrast|gd|sa|la|sax|lax|2ch|4ch|tse|gre|space"
)
_B_VALUE = re.compile(r"b\d{1,4}")
_MAY_BE_KEY = re.compile(r"(?!t[12])[a-z]{1,2}\d+")
_MODALITY = {"ct", "mr", "mri", "pt", "pet"}  # of several channel words the least telling
# A word that may carry a number of its own, glued (ses1) or as the next token (ses-01).
_VISIT = r"ses|session|visit|tp|timepoint|time|week|month|year|day|exam|fu|followup|follow|study"
_PART = r"frame|phase|slice|run|rep|repeat|scan|acq|echo|series|part|chunk|patch|crop|stack"
_VISIT_ALONE = re.compile(r"baseline|bl|pre|post|preop|postop|up|screening|initial|(m|v|y|w)\d{1,2}|d\d{4}|mr\d")
_ALONE = re.compile(
    r"r\d{1,2}|l|r|lh|rh|left|right|cropped|reg|registered|coreg|resampled|resample|res|iso|bet|stripped|skullstripped|"
    r"brain|n4|norm|normalized|normalised|preproc|preprocessed|processed|proc|denoised|corrected|defaced|copy|final|"
    r"orig|original|raw|ed|es|2d|3d|4d|mni|lps|ras|\d+mm|to|in|aligned|unbiased|biascorr"
)
_IMAGE = {
    "img",
    "imgs",
    "image",
    "images",
    "imaging",
    "vol",
    "volume",
    "volumes",
    "scan",
    "scans",
    "data",
    "nii",
    "nifti",
    "niftis",
    "dicom",
    "dicoms",
    "dcm",
    "mri",
    "mr",
    "ct",
    "case",
}
_LABEL = re.compile(
    r"seg|segm|segs|segmentation|segmentations|mask|masks|gt|groundtruth|label|labels|labelmap|dseg|"
    r"manualsegmentation|annotation|annotations|rtstruct|contours?"
)
_WEAK_LABEL = re.compile(
    r"lesions?|tumou?rs?|anatomy|wmh|roi|rois|consensus|prostate|zones|infarct|hematoma|structures?"
)
_RATER = re.compile(
    r"(reader|rater|expert|observer|annotator|manual|auto|truth|ground|consensus|staple|final)\d*|r?\d{1,2}"
)
_DATE = re.compile(r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(\d{6,9})?")
_LOOSE_DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)[-_.](0[1-9]|1[0-2])[-_.](0[1-9]|[12]\d|3[01])(?!\d)")
_GLUED = re.compile(r"(img|image|labels?|seg|mask|volume|vol|segmentation|case|scan)(\d+)", re.I)
_NUMBERED_VISIT = re.compile(rf"({_VISIT})(\d{{1,8}})")
_NUMBERED_PART = re.compile(rf"({_PART})(\d{{1,5}})")
_BETWEEN = re.compile(r"[_\-.+ ]+")
_SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "trainset": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "validating": "val",
    "test": "test",
    "testing": "test",
    "testset": "test",
    "imagests": "test",
    "imagestr": "train",
    "imagesva": "val",
    "labelstr": "train",
    "labelsts": "test",
    "labelsva": "val",
}
_PLAIN_FOLDERS = {
    "anat",
    "func",
    "dwi",
    "perf",
    "fmap",
    "files",
    "export",
    "output",
    "input",
    "source",
    "sourcedata",
    "derivatives",
    "rawdata",
    "labeled",
    "labelled",
    "unlabeled",
    "unlabelled",
    "imagestr",
    "imagests",
    "imagesva",
    "nii",
    "gz",
    "set",
    "sets",
    "all",
    "dataset",
    "datasets",
    "cases",
    "patients",
    "subjects",
}
_LABEL_FOLDERS = {
    "labelstr",
    "labelsts",
    "labelsva",
    "labels",
    "label",
    "masks",
    "mask",
    "segmentations",
    "segmentation",
    "segs",
    "seg",
    "annotations",
    "annotation",
    "gt",
    "groundtruth",
    "ground",
    "structures",
    "contours",
    "rois",
}


@dataclass(frozen=True, kw_only=True)
class Words:
    """What the tokens of a name are.

    Attributes:
        rest: What is left: the part of the name that may be a patient's, in its own spelling; "" where there is none.
        bare: ``rest`` without a leading ``img``, ``volume``, ``label`` and their kind, for comparing images and labels.
        channel: The contrast, in lower case, words joined by "_".
        visit: The session, visit or date, in lower case.
        part: Side, frame, run, processing: what differs between scans of one visit.
        label: "yes" where a word says that the file is a label, "maybe" where it may, "" where none does.
        numbered: Whether a part or a visit of it has a number.
    """

    rest: str
    bare: str
    channel: str = ""
    visit: str = ""
    part: str = ""
    label: str = ""
    numbered: bool = False


def tokens_of(name: str) -> list[tuple[str, str]]:
    """Return (token, what stands before it), with dates as one token.

    Example:
        >>> tokens_of("BraTS-GLI-00003-000")
        [('BraTS', ''), ('GLI', '-'), ('00003', '-'), ('000', '-')]
    """
    name = _LOOSE_DATE.sub(r"\1\2\3", name)
    found, start = [], 0
    before = ""
    for match in [*_BETWEEN.finditer(name), None]:
        end = match.start() if match else len(name)
        if end > start:
            found.append((name[start:end], before))
        if match:
            before, start = match[0], match.end()
    return found


def joined(tokens: Sequence[tuple[str, str]]) -> str:
    """Return tokens as the name that they came from, without what stood before the first."""
    return "".join((before if place else "") + text for place, (text, before) in enumerate(tokens))


@lru_cache(maxsize=1 << 16)
def read_words(name: str, *, keep_visit: bool = False) -> Words:
    """Return what a name without its suffix says.

    Args:
        name: Of a file or a folder.
        keep_visit: Leave visits in ``rest``.

    Example:
        >>> words = read_words("BraTS2021_00003_t1ce")
        >>> words.rest, words.channel
        ('BraTS2021_00003', 't1ce')
        >>> words = read_words("patient001_frame01_gt")
        >>> words.rest, words.part, words.label
        ('patient001', 'frame01', 'yes')
        >>> read_words("BraTS-GLI-00003-001-t1n").visit
        '001'
    """
    tokens = tokens_of(name)
    found: dict[str, list[str]] = {"channel": [], "visit": [], "part": [], "label": [], "image": []}
    numbered = False
    while tokens:
        kind, count = _last_word(tokens, after_channel=bool(found["channel"]))
        if not kind or (kind == "visit" and keep_visit):
            break
        word = "".join(text for text, _ in tokens[-count:]).lower()
        if len(tokens) == 1 and _MAY_BE_KEY.fullmatch(word):
            break  # M01 by itself is rather a patient than a month
        found[kind].insert(0, word)
        numbered |= (
            kind in {"visit", "part"} and any(letter.isdigit() for letter in word) and not _ALONE.fullmatch(word)
        )
        tokens = tokens[:-count]
    # example_seg_fast is a label of example, if there is one.
    inside = next((i for i in range(1, len(tokens)) if _LABEL.fullmatch(tokens[i][0].lower())), 0)
    if inside and all(text.isalpha() for text, _ in tokens[inside:]):
        found["part"] = [text.lower() for text, _ in tokens[inside + 1 :]] + found["part"]
        found["label"], tokens = [*found["label"], "roi"], tokens[:inside]
    bare, leading = _without_lead(tokens)
    if not any(letter.isalnum() for letter in bare):
        tokens = []
    label = "yes" if leading or any(_LABEL.fullmatch(word) for word in found["label"]) else ""
    telling = [word for word in found["channel"] if word not in _MODALITY] or found["channel"]
    return Words(
        rest=joined(tokens),
        bare=bare,
        channel="_".join(telling),
        visit="_".join(found["visit"]),
        part="_".join(found["part"]),
        label=label or ("maybe" if found["label"] else ""),
        numbered=numbered,
    )


def _last_word(tokens: Sequence[tuple[str, str]], *, after_channel: bool) -> tuple[str, int]:
    """Return what the end of a name is ("" for a patient's) and how many tokens it takes."""
    text = tokens[-1][0].lower()
    before = tokens[-2][0].lower() if len(tokens) > 1 else ""
    if text.isdigit() and len(text) <= 4 and (re.fullmatch(_VISIT, before) or before == "up"):
        return "visit", 2
    if text.isdigit() and len(text) <= 4 and re.fullmatch(_PART, before) and len(tokens) > 2:
        return "part", 2
    if _is_visit(text, before, tokens):
        # T1_post: after contrast medium; post_T1: after treatment.
        enhanced = text in {"pre", "post"} and not after_channel and _CHANNEL.fullmatch(before)
        return ("channel" if enhanced else "visit"), 1
    if _CHANNEL.fullmatch(text) or _B_VALUE.fullmatch(tokens[-1][0]):
        return "channel", 1
    if _LABEL.fullmatch(text) or _WEAK_LABEL.fullmatch(text):
        return "label", 1
    if _RATER.fullmatch(text) and _rated(tokens[:-1]) and (len(tokens) > 2 or not _numbers(before)):
        return "part", 1
    if _ALONE.fullmatch(text) or re.fullmatch(_PART, text) or _NUMBERED_PART.fullmatch(text):
        return "part", 1
    return ("image", 1) if text in _IMAGE and text != "case" else ("", 0)


def _is_visit(text: str, before: str, tokens: Sequence[tuple[str, str]]) -> bool:
    if _VISIT_ALONE.fullmatch(text) or _NUMBERED_VISIT.fullmatch(text) or _DATE.fullmatch(text):
        return len(tokens) > 1 or not text.isdigit()
    if re.fullmatch(_VISIT, text) and text not in {"study", "time"}:
        return True
    # BraTS-GLI-00003-001: a short number behind a long one; 10000_1000000: a study behind a patient.
    if not text.isdigit() or not before.isdigit():
        return False
    return (len(text) == 3 and len(before) >= 4) or (len(before) >= 4 and len(text) > len(before))


def _rated(tokens: Sequence[tuple[str, str]]) -> bool:
    """Tell whether a word for a label stands right before, raters left out: ``seg_manual_1`` is one of those."""
    while tokens and _RATER.fullmatch(tokens[-1][0].lower()) and not tokens[-1][0].isdigit():
        tokens = tokens[:-1]
    if not tokens:
        return False
    last = tokens[-1][0].lower()
    return bool(_LABEL.fullmatch(last) or _WEAK_LABEL.fullmatch(last))


def _numbers(word: str) -> bool:
    """Tell whether a number behind a word is the case's: segmentation-0, mask_001."""
    return word not in {"manualsegmentation", "consensus", "groundtruth"}


def _without_lead(tokens: Sequence[tuple[str, str]]) -> tuple[str, bool]:
    """Return a name without leading words for images and labels, and whether one of them was a label's."""
    kept = list(tokens)
    labelled = False
    while kept:
        text = kept[0][0].lower()
        glued = _GLUED.fullmatch(kept[0][0])
        if len(kept) > 1 and (text in _IMAGE or _LABEL.fullmatch(text)):
            labelled |= bool(_LABEL.fullmatch(text))
            kept = kept[1:]
        elif glued:
            labelled |= bool(_LABEL.fullmatch(glued[1].lower()))
            kept[0] = (glued[2], "")
            break
        else:
            break
    return joined(kept), labelled


def channel_of(name: str) -> str:
    """Return the contrast that a folder or a file is called after as a whole, "" where it is called otherwise."""
    words = read_words(name)
    return words.channel if not words.rest else ""


def is_words(folder: str) -> bool:
    """Tell whether a folder's name names no one: images, T1, anat, ses-01, train, fold0, Preprocessed_Data.

    Example:
        >>> is_words("T1"), is_words("Preprocessed_Data"), is_words("100"), is_words("GE3T")
        (True, True, False, False)
    """
    lower = folder.lower()
    if lower in _PLAIN_FOLDERS or lower in _SPLIT_FOLDERS or is_label_folder(folder):
        return True
    if re.fullmatch(r"(fold|cv|split)[-_ ]?\d*|(train|test|val|training|testing)[-_ ]?sets?", lower):
        return True
    return not read_words(folder).rest and not lower.isdigit()


def is_label_folder(folder: str) -> bool:
    """Tell whether a folder is called after labels.

    Example:
        >>> is_label_folder("labelsTr"), is_label_folder("images")
        (True, False)
    """
    return re.sub(r"[-_ ]", "", folder.lower()) in _LABEL_FOLDERS


def split_of_folder(folder: str) -> str:
    """Return "train", "val", "test" or "" for a folder's name.

    Example:
        >>> split_of_folder("Testing"), split_of_folder("imagesTs"), split_of_folder("tests")
        ('test', 'test', '')
    """
    lower = re.sub(r"[-_ ]?sets?$", "", folder.lower())
    return _SPLIT_FOLDERS.get(lower, "")
