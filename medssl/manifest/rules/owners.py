"""Whose scan each file of a tree is, as far as all the names together tell.

One name says little: ``t2.nii.gz`` names no one, ``case_0003.nii.gz`` may be a fourth channel or a third patient. What
recurs from folder to folder names no one; what is left of a name without its contrast, visit and part is a patient.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from medssl.formats.privacy import hashed
from medssl.manifest.rules.recurring import Recurring, starts_with
from medssl.manifest.rules.words import Words, channel_of, is_words, read_words, split_of_folder
from medssl.manifest.sources import stem

__all__ = ["GUESSES", "Owner", "owners_of", "same_key"]

# Rules that are guesses from names; the others are what somebody or some standard says.
GUESSES = ("folder", "stem", "name")
BARCODES = (
    ("bids", re.compile(r"(?<![A-Za-z0-9])sub-[A-Za-z0-9]+"), "{0}"),
    ("barcode", re.compile(r"TCGA[-_.]([A-Z0-9]{2})[-_.]([A-Z0-9]{4})(?![A-Za-z0-9])", re.I), "TCGA-{1}-{2}"),
    ("barcode", re.compile(r"(?<!\d)(\d{3}_S_\d{4})(?!\d)"), "{1}"),  # ADNI
)
_NUMBERED = re.compile(r"(?<![A-Za-z])(?:patient|subject|subj|case|pt)[-_ ]?\d+", re.I)
_DISTINCT = re.compile(r"(?=(?:.*\d){3})(?=(?:.*[A-Za-z]){2})")
_COMMON = re.compile(
    r"(patient|subject|subj|sub|case|pt|pat|id|img|image|vol|volume|scan|label|seg|mask|[a-z]{1,2})"
    r"[-_ ]?\d+|\d+",
    re.I,
)
_BARE_NUMBER = re.compile(r"(img|image|vol|volume|scan|case|labels?|seg|mask|segmentation)?[-_ ]?\d+", re.I)
_DATE = re.compile(r"(?<!\d)(?:19|20)\d{6}(?:\d{6,9})?(?!\d)")
_CHANNEL_NUMBER = re.compile(r"(.+)_(\d{4})")
_DERIVED = ("derivatives", "sourcedata")
_MOST_CHANNELS = 64
_ENOUGH = 5


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Whose a file is.

    Attributes:
        patient: The key.
        rule: What gave it: "folder", "stem" or "name" (guesses), "bids" or "barcode".
        study: The visit; "" where nothing names one. Dates are hashes.
        channel: The contrast.
        part: Frame, side, run and the like.
        home: Folders above the patient that are no plain words, in lower case.
        bare: The patient's name as images and their labels share it.
        label: Whether the name says that it is a label: "yes", "maybe" or "".
        spelled: The key as this name writes it.
        extra: What the name says besides, such as a structure: ``OAR_Bladder``.
    """

    patient: str
    rule: str
    study: str = ""
    channel: str = ""
    part: str = ""
    home: tuple[str, ...] = ()
    bare: str = ""
    label: str = ""
    spelled: str = ""
    extra: str = ""


def same_key(key: str) -> str:
    """Return a key as it is compared: without case and leading zeros.

    Example:
        >>> same_key("Patient007"), same_key("0")
        ('patient7', '0')
    """
    return re.sub(r"(?<!\d)0+(?=\d)", "", key.casefold())


def owners_of(names: Iterable[str], channels: Mapping[str, str] | None = None) -> dict[str, Owner]:
    """Return the owner of every file.

    Args:
        names: Paths of images and labels as seen from the root, with forward slashes, in any order.
        channels: Image -> channel number that its name ends in, where a data set says so.

    Example:
        >>> found = owners_of([f"{p}/{c}.nii.gz" for p in ("001", "002") for c in ("t2", "adc")])
        >>> found["002/adc.nii.gz"].patient, found["002/adc.nii.gz"].channel, found["002/adc.nii.gz"].rule
        ('002', 'adc', 'folder')
    """
    ordered = sorted(set(names))
    numbers = _channel_numbers(ordered) | dict(channels or {})
    leads = _leading_channels(ordered)
    words = {name: _words(name, numbers, leads) for name in ordered}
    recurring = Recurring({name: _local(name, words[name]) for name in ordered})
    folders = {str(parent) for name in ordered for parent in PurePosixPath(name).parents}
    first = {name: _owner(name, words[name], recurring, numbers, folders) for name in ordered}
    return _distinguished(_not_all_in_one(first, words))


def _words(name: str, numbers: Mapping[str, str], leads: Mapping[str, str]) -> Words:
    bare = stem(PurePosixPath(name).name)
    if name in numbers:
        bare = bare[: -len(numbers[name]) - 1]
    return read_words(bare.removeprefix(leads.get(name, "")).lstrip("_-. "))


def _local(name: str, words: Words) -> str:
    """Return a file's name without the folders that it repeats; what recurs is compared by it."""
    bare = stem(PurePosixPath(name).name).lower()
    for folder in sorted(PurePosixPath(name).parts[:-1], key=len, reverse=True):
        if not is_words(folder) and starts_with(bare, folder.lower()):
            return bare[len(folder) :].lstrip("_-. ") or bare
    return bare


def _owner(name: str, words: Words, recurring: Recurring, numbers: Mapping[str, str], every: set[str]) -> Owner:
    path = PurePosixPath(name)
    folders = path.parts[:-1]
    solid = [place for place, folder in enumerate(folders) if not is_words(folder)]
    visits = [
        "" if _is_processing(folders[: place + 1], every) else read_words(folder).visit
        for place, folder in enumerate(folders)
    ]
    channel = numbers.get(name) or words.channel or next((c for f in reversed(folders) if (c := channel_of(f))), "")
    place, rule = len(folders), "name"
    for kind, pattern, form in BARCODES:
        if match := pattern.search(name):
            key = form.format(match[0], *(group.upper() for group in match.groups()))
            at = next((i for i, folder in enumerate(folders) if pattern.search(folder)), len(folders))
            date = _DATE.search(path.name)
            visit = _visit(words, visits) or (f"date-{hashed(date[0])[:8]}" if date else "")
            return _made(key, kind, words, channel, visit, folders, solid, at)
    equal = [i for i in solid if same_key(read_words(folders[i]).rest) == same_key(words.rest)]
    anonymous = not words.rest or recurring.file(name)
    if equal and words.rest:
        place, rule, key = equal[0], "folder", words.rest
    elif anonymous and solid:
        place = solid[-1]
        while recurring.folder(folders, place) and any(i < place for i in solid):
            place = max(i for i in solid if i < place)
        outer = [
            i for i in solid if i < place and (_is_numbered(folders[i]) or starts_with(folders[place], folders[i]))
        ]
        place = outer[0] if outer else place
        rule, key = "folder", read_words(folders[place]).rest or folders[place]
        if not channel and words.rest and not any(letter.isdigit() for letter in words.rest):
            channel = read_words(_local(name, words)).rest.lower()
    elif match := _NUMBERED.search(words.rest):
        rule, key = ("stem" if match[0] != stem(path.name) else "name"), match[0]
    elif any(_is_numbered(folders[i]) for i in solid):
        place = next(i for i in solid if _is_numbered(folders[i]))
        found = _NUMBERED.search(folders[place])
        assert found is not None
        rule, key = "folder", found[0]
    else:
        key = words.rest or stem(path.name)
        rule = "name" if key == stem(path.name) else "stem"
    below = list(range(place, len(folders)))
    passed = [folders[i] for i in below if i > place and i in solid]
    visit = _visit(words, [visits[i] for i in below] if place < len(folders) else visits) or "-".join(passed).lower()
    extra = ""
    if key != words.rest and words.rest:
        extra = read_words(_local(name, words)).bare
        extra = extra[len(key) :].strip("_-. ") if starts_with(extra, key) else extra
    extra = extra.lower() if any(letter.isalpha() for letter in extra) else ""
    return _made(key, rule, words, channel, visit, folders, solid, place, extra)


def _made(
    key: str,
    rule: str,
    words: Words,
    channel: str,
    visit: str,
    folders: tuple[str, ...],
    solid: list[int],
    place: int,
    extra: str = "",
) -> Owner:
    whole = words.rest == key and place >= len(folders)
    derived = next((i for i, folder in enumerate(folders) if folder in _DERIVED), len(folders))
    home = [folders[i] for i in solid if i < min(place, derived)]
    if rule in GUESSES and _BARE_NUMBER.fullmatch(key):
        # train/001 and test/001 are numbered anew.
        home = [split for folder in folders[:place] if (split := split_of_folder(folder))] + home
    return Owner(
        patient=key,
        rule=rule,
        study=visit,
        channel=channel,
        part=words.part,
        home=tuple(home),
        bare=same_key(words.bare if whole else key),
        label=words.label,
        spelled=key,
        extra=extra,
    )


def _visit(words: Words, visits: list[str]) -> str:
    found = words.visit or next((v for v in reversed(visits) if v), "")
    return _DATE.sub(lambda match: f"date-{hashed(match[0])[:8]}", found)


def _is_processing(folders: tuple[str, ...], every: set[str]) -> bool:
    """Tell whether a folder "pre" holds what was preprocessed: the original lies beside it."""
    beside = PurePosixPath(*folders[:-1])
    return folders[-1].lower() == "pre" and any(str(beside / other) in every for other in ("orig", "raw", "original"))


def _is_numbered(folder: str) -> bool:
    return bool(_NUMBERED.match(folder))


def _channel_numbers(names: list[str]) -> dict[str, str]:
    """Return the names that end in nnU-Net's channel number, with it: cases recur, or labels name them."""
    stems = {stem(PurePosixPath(name).name) for name in names}
    groups: defaultdict[str, dict[str, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
    for name in names:
        path = PurePosixPath(name)
        if match := _CHANNEL_NUMBER.fullmatch(stem(path.name)):
            groups[str(path.parent)][match[1]][match[2]] = name
    found: dict[str, str] = {}
    for folder, cases in groups.items():
        counts = {number for own in cases.values() for number in own}
        if max(map(int, counts)) >= _MOST_CHANNELS or any("0000" not in own for own in cases.values()):
            continue
        named = all(case in stems for case in cases)
        alike = counts == {"0000"} or (len(cases) > 1 and all(set(own) == counts for own in cases.values()))
        raw = PurePosixPath(folder).name.lower() in {"imagestr", "imagests"} and alike
        several = len(cases) > 1 and len(counts) <= len(cases) and all(any(c.isdigit() for c in case) for case in cases)
        if named or raw or several:
            found |= {name: number for own in cases.values() for number, name in own.items()}
    return found


def _leading_channels(names: list[str]) -> dict[str, str]:
    """Return the names that begin with a contrast, with it, where what follows recurs behind another contrast."""
    groups: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for name in names:
        bare = stem(PurePosixPath(name).name)
        lead = re.match(r"([A-Za-z0-9]+)[-_.]", bare)
        if lead and channel_of(lead[1]) and read_words(bare[lead.end() :]).rest:
            groups[bare[lead.end() :].lower()][name] = lead[1]
    return {
        name: lead
        for own in groups.values()
        if len({lead.lower() for lead in own.values()}) > 1
        for name, lead in own.items()
    }


def _not_all_in_one(owners: dict[str, Owner], words: Mapping[str, Words]) -> dict[str, Owner]:
    """Take visits for patients where a name without a number would make one patient of everything."""
    groups: defaultdict[tuple[tuple[str, ...], str], list[str]] = defaultdict(list)
    for name, owner in owners.items():
        groups[owner.home, owner.patient].append(name)
    if len(groups) > 1 or len(owners) < _ENOUGH:
        return owners
    result = dict(owners)
    for name, owner in owners.items():
        if owner.rule != "stem" or any(letter.isdigit() for letter in owner.patient) or not words[name].visit:
            return owners
        key = read_words(stem(PurePosixPath(name).name), keep_visit=True).rest
        result[name] = Owner(
            patient=key,
            rule="name",
            channel=owner.channel,
            part=owner.part,
            home=owner.home,
            bare=same_key(key),
            label=owner.label,
            spelled=key,
        )
    return result


def _distinguished(owners: dict[str, Owner]) -> dict[str, Owner]:
    """Write each key in one way, and name the folders above where a common name stands for several patients."""
    homes: defaultdict[str, set[tuple[str, ...]]] = defaultdict(set)
    keys: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
    spelled: dict[tuple[tuple[str, ...], str], str] = {}
    for name in sorted(owners):
        owner = owners[name]
        key = same_key(owner.patient)
        home = _folded(owner.home)
        homes[key].add(home)
        keys[home].add(key)
        if owner.rule != "bids":
            spelled.setdefault((home, key), owner.patient)
    apart = {
        key
        for key, places in homes.items()
        if len(places) > 1
        and _is_common(key)
        and (len(homes) == 1 or key.startswith("sub-") or any(len(keys[place]) > 1 for place in places))
    }
    one: dict[str, str] = {}
    result = {}
    for name in sorted(owners):
        owner = owners[name]
        key = same_key(owner.patient)
        patient = spelled[_folded(owner.home), key] if owner.rule != "bids" else owner.patient
        if key in apart:
            patient = "/".join((*owner.home, patient))
        elif owner.rule != "bids":
            patient = one.setdefault(key, patient)
        result[name] = Owner(**{**owner.__dict__, "patient": patient})
    return result


def _folded(home: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(folder.casefold() for folder in home)


def _is_common(key: str) -> bool:
    """Tell whether a name is one that many data sets have: 001, case_01, patient1, sub-01."""
    return bool(_COMMON.fullmatch(key)) or not _DISTINCT.match(key)
