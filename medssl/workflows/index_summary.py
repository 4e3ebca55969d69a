"""What ``medssl index`` says of a manifest that it made: what was found, guessed, left out, and looks wrong."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medssl import geometry
from medssl.workflows import events

if TYPE_CHECKING:
    from medssl.manifest.build import Counts
    from medssl.manifest.schema import Manifest

__all__ = ["say_indexed"]

_SHOWN = 8
_LONGEST = 400  # characters of a path that are shown
_DOUBTFUL_CLOUDS = ("missing points", "strays", "no faces", "unsure columns")  # beginnings of notes on clouds
_DOUBTFUL_SCANS = ("no voxel size", "missing slices", "intensity function", "unit of length", "array:")
_FLAT = 2  # slices; a volume has more


def say_indexed(manifest: Manifest, counts: Counts) -> None:
    """Say what the manifest holds, in the order in which a user can act on it."""
    from medssl.manifest.channel_cases import case_lines
    from medssl.manifest.rules.said import rule_lines
    from medssl.manifest.series_cases import guess_lines

    summary: Mapping[str, Any] = manifest.summary()
    events.message(repr(manifest).splitlines()[0])
    if counts.reused or counts.gone:
        gone = f", {counts.gone} are gone" if counts.gone else ""
        events.message(f"{counts.read} scans were read, {counts.reused} had not changed{gone}")
    _say_freshness(counts)
    for note in manifest.notes:
        events.warning(note)
    for line in rule_lines(manifest.usable().rows()):
        events.message(line)
    for line in guess_lines(list(manifest.rows())):
        events.message(line)
    for line in case_lines(list(manifest.rows()), manifest.settings.get("channels", ())):
        events.message(line)
    _say_clouds(manifest)
    _say_targets(manifest, counts)
    _say_left_out(manifest)
    doubtful = [(row["path"], said) for row in manifest.usable().rows() if (said := _doubts(row))]
    _say_doubtful(doubtful)
    _say_labels(manifest)
    inferred = sum("modality-inferred" in row["flags"] for row in manifest.rows())
    if inferred:
        events.message(f"the modality of {inferred} scans was inferred; set it with modality=CT or modality=MR")
    for name, classes in _classes_of_clouds(manifest).items():
        shown = [f"{word} {count}" for word, count in classes[:_SHOWN]]
        shown += [f"... {len(classes) - _SHOWN} more"] if len(classes) > _SHOWN else []
        events.message(f"{name}: {len(classes)} ({', '.join(shown)})")
    units = {row["length_unit"] for row in manifest.usable().rows() if row["kind"] == "cloud"}
    if "unknown" in units:
        events.message("the unit of the clouds is not known; set it with unit=mm or unit=m, where it matters")
    unknown = summary["modalities"].get("unknown", 0)
    if unknown:
        events.warning(f"the modality of {unknown} scans is unknown; set it with modality=CT or modality=MR")


def _say_doubtful(doubtful: Sequence[tuple[str, str]]) -> None:
    """Say what is wrong with scans that can be read: what is said of several alike once, with their number."""
    kinds: dict[str, list[tuple[str, str]]] = {}
    for path, said in doubtful:
        kinds.setdefault(said if said.startswith("only") else said.partition(":")[0], []).append((path, said))
    for found in list(kinds.values())[:_SHOWN]:
        path, said = found[0]
        more = f" (so are {len(found) - 1} more; medssl check lists all)" if len(found) > 1 else ""
        events.warning(f"{path}: {said}{more}")
    left = sum(len(found) for found in list(kinds.values())[_SHOWN:])
    if left:
        events.warning(f"... and {left} more that can be read but look wrong; medssl check lists all")


def _say_labels(manifest: Manifest) -> None:
    """Say in one line that labels cannot be read, for the scans count as labelled."""
    bad = [row for row in manifest.usable().rows() if "label-unreadable" in row["flags"]]
    if bad:
        notes = [note for note in bad[0]["notes"] if note.startswith("label unreadable")] or ["label unreadable"]
        many = "1 label" if len(bad) == 1 else f"{len(bad)} labels"
        events.warning(f"{many} cannot be read, such as {bad[0]['label_path']}: {notes[0].partition(': ')[2]}")


def _say_aside(rows: Sequence[Mapping[str, Any]]) -> None:
    """Say in one line how many DICOM objects are no volumes, and of which kinds."""
    counted: Counter[str] = Counter()
    for row in rows:
        counted[row["error"].partition(" So are ")[0].rstrip(".")] += len(row["paths"])
    kinds = "; ".join(f"{count} x {reason}" for reason, count in counted.most_common())
    events.message(f"{counted.total()} DICOM objects are not volumes and were set aside: {kinds}")


def _say_left_out(manifest: Manifest) -> None:
    """Say what cannot be used: labels in a line each kind, files that cannot be read by name, DICOM objects counted."""
    from medssl.manifest.check_patients import aside_together

    failed = [row for row in manifest.rows() if row["error"] is not None]
    for _, _, what, todo in aside_together(failed):
        events.warning(f"{what}. {todo}")
    failed = [row for row in failed if not {"label-without-image", "looks-like-labels"} & set(row["flags"])]
    unreadable = [row for row in failed if "set-aside" not in row["flags"]]
    for row in unreadable[:_SHOWN]:
        events.warning(f"{_short(row['path'])}: {row['error']}")
    if len(unreadable) > _SHOWN:
        events.warning(f"... and {len(unreadable) - _SHOWN} more; medssl check lists all")
    if len(failed) > len(unreadable):
        _say_aside([row for row in failed if "set-aside" in row["flags"]])


def _short(path: str) -> str:
    return path if len(path) <= _LONGEST else f"{path[: _LONGEST // 2]} ... {path[-_LONGEST // 2 :]}"


def _say_freshness(counts: Counts) -> None:
    if counts.hashed:
        events.message(f"{counts.hashed} of them were hashed again and have not changed")
    if counts.trusted:
        events.message(
            f"{counts.trusted} of them were kept by size and time alone, for the index is of an earlier release; "
            "medssl index ... --verify compares their bytes"
        )
    for change in counts.silent[:_SHOWN]:
        events.warning(change)
    if len(counts.silent) > _SHOWN:
        events.warning(f"... and {len(counts.silent) - _SHOWN} more whose bytes changed while size and time stayed")


def _say_clouds(manifest: Manifest) -> None:
    """Say what was understood of the clouds as a whole: scenes, split, labels and guesses."""
    from medssl.manifest.unlabelled import unlabelled_numbers

    said = manifest.settings.get("of_clouds", {})
    for line in said.get("understood", ()):
        events.message(line)
    for severity, _, what, todo in said.get("findings", ()):
        (events.message if severity == "info" else events.warning)(f"{what}. {todo}")
    rows = [row for row in manifest.usable().rows() if row["kind"] == "cloud"]
    for mark in sorted(unlabelled_numbers(rows)):
        events.message(f"guess: the label {mark} of points means unlabelled, because no other label is near it")
    below = sum(min(row["label_values"] or [0]) < 0 for row in rows)
    if below:
        events.message(f"labels below 0 mean unlabelled points; {below} clouds have such")


def _say_targets(manifest: Manifest, counts: Counts) -> None:
    if counts.targets:
        for line in counts.targets.lines():
            events.message(line)
        for doubt in counts.targets.doubts():
            events.warning(doubt)
    else:
        volumes = manifest.with_frame(manifest.frame.filter(manifest.frame["kind"] == "volume"))
        for name, classes in volumes.targets().items():
            events.message(
                f"{name}: " + ", ".join(f"{label} {count}" for label, count in classes.items()) + " patients"
            )
    _say_spread(manifest)


def _say_spread(manifest: Manifest) -> None:
    """Say whether the split spreads classes of scans evenly."""
    spread, waiting = (manifest.settings.get(name, "") for name in ("stratify", "stratify_anew"))
    targets = manifest.with_frame(manifest.frame.filter(manifest.frame["kind"] == "volume")).targets()
    if waiting:
        events.warning(
            f"split: kept from the earlier manifest, in which the classes of {waiting} were not spread; "
            "fresh=true draws a new one"
        )
    elif spread and spread != "none":
        events.message(f"split: by patients, the classes of {spread} spread evenly (stratify=none spreads none)")
    elif spread != "none" and len(targets) > 1:
        events.warning(
            f"split: no classes were spread, for there are several targets; name one: stratify={min(targets)}"
        )


def _classes_of_clouds(manifest: Manifest) -> dict[str, list[tuple[str, int]]]:
    """Return target -> (class, clouds), the most frequent first."""
    counted: dict[str, Counter[str]] = {}
    for row in manifest.usable().rows():
        if row["kind"] == "cloud":
            for name, word in json.loads(row["targets"] or "{}").items():
                counted.setdefault("classes of clouds" if name == "class" else name, Counter())[word] += 1
    return {name: sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])) for name, counts in counted.items()}


def _doubts(row: Mapping[str, Any]) -> str:
    """Return what is wrong with a scan that can be read; "" where nothing is seen yet. ``check`` looks closer."""
    if row["kind"] == "cloud":
        return "; ".join(note.partition(": ")[2] for note in row["notes"] if note.startswith(_DOUBTFUL_CLOUDS))
    said = []
    if "nonfinite" in row["flags"]:
        said.append(f"{row['nonfinite']} voxels are NaN or infinite")
    if "constant" in row["flags"]:
        said.append(f"every voxel has the value {row['min']:g}")
    if row["frames"] and row["frames"] > 1:
        said.append(f"{row['frames']} volumes in one file; the first is used (medssl cache ... frame=N takes another)")
    if row["kind"] == "volume" and row["format"] != "image" and row["shape"] and min(row["shape"]) <= _FLAT:
        said.append(f"only {min(row['shape'])} slices")
    if row["spacing_mm"] and not all(
        geometry.CREDIBLE_MM[0] <= size <= geometry.CREDIBLE_MM[1] for size in row["spacing_mm"]
    ):
        said.append(f"the voxel size is {' x '.join(f'{size:g}' for size in row['spacing_mm'])} mm (z, y, x)")
    said += [note for note in row["notes"] if note.startswith(_DOUBTFUL_SCANS)]
    return "; ".join(said)
