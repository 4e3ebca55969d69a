"""What is wrong, doubtful or worth knowing in a manifest, each with what to do about it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from medssl import geometry
from medssl.errors import FormatError
from medssl.manifest.check_channels import channels_together
from medssl.manifest.check_clouds import CLOUD_NOTES, cloud_doubts, clouds_together
from medssl.manifest.check_labels import LABEL_FLAGS, label_doubts, labels_together
from medssl.manifest.check_patients import aside_together, patients_together
from medssl.manifest.freshness import stamps_of
from medssl.manifest.rules.channels import split_names
from medssl.manifest.scales import mixed_scales, told
from medssl.manifest.schema import Manifest
from medssl.nameless import Nameless

__all__ = ["SEVERITIES", "CheckResult", "Finding", "check_manifest"]

SEVERITIES = ("error", "warning", "info")
Row = Mapping[str, Any]

_FEW_SLICES, _TOO_FEW_SLICES = 6, 2
_FAR_BEYOND = 1e5  # widths of the range of 99 % of the values; PET and metal stay far below
_SMALLEST_MM, _LARGEST_MM = 0.05, 20.0
_ANISOTROPY = 10.0
_NON_ORTHOGONAL = 1e-3  # cosine between axes: 0.06 degrees
_MANY_SCANS = 5

# Flags of the row -> (severity, what, what to do).
_FLAGS = {
    "nonfinite": ("error", "{nonfinite} voxels are NaN or infinite", "Write the scan anew, with numbers there."),
    "constant": ("error", "every voxel has the value {min:g}", "Leave the scan out, or look for what went wrong."),
    "ct-offset": ("warning", "a CT without negative values (from {min:g} to {max:g})",
                  "It is probably stored with an offset; convert it to HU."),
    "ct-not-hu": ("warning", "a CT whose values go from {min:g} to {max:g} are no HU",
                  "Convert it to HU; as it is, its values are scaled by percentiles, as those of MR are."),
    "looks-like-labels": ("warning", "the voxels look like a label map, and no image goes with it",
                          "Name it like its image with _seg, put it into labelsTr, or list both in a CSV."),
    **LABEL_FLAGS,
    "modality-inferred": ("info", "the modality {modality} was guessed from voxels or names",
                          "If it is wrong: medssl index ... modality=MR"),
    "modality-unknown": ("info", "nothing says what modality it is; intensities are treated as arbitrary",
                         "Say it: medssl index ... modality=MR"),
}  # fmt: skip
# Beginnings of a reader's notes -> (kind, severity, what to do).
_NOTES = (
    ("missing slices", "missing-slices", "error", "Export the series again; places beyond a gap are wrong."),
    ("uneven rescale", "uneven-rescale", "error", "Export the series again; values do not compare."),
    ("uneven", "uneven-slices", "warning", "Look at the series; slices may be missing or mixed."),
    ("duplicate positions", "duplicate-positions", "warning", "Look at the series; several may be mixed."),
    ("spaced slices", "spaced-slices", "warning", "Look whether slices are missing; export the series again if so."),
    ("several volumes", "several-volumes", "warning", "The first is used; divide the file where the others matter."),
    ("part of a series", "part-of-series", "info", "Nothing, where this is as meant."),
    ("padding in doubt", "padding-in-doubt", "warning", "Look at the scan's background."),
    ("structures with gaps", "structure-gaps", "warning", "Look at the label; contours may be missing."),
    ("structures in part", "structures-in-part", "warning", "Look at the label and its scan together."),
    ("structures hidden", "structures-hidden", "warning", "Look at the label; nested ones want files of their own."),
    ("structures overlap", "structures-overlap", "warning", "Look whether the smaller structure is the one to keep."),
    ("copies", "copied-slices", "info", "Nothing; each slice is used once."),
    ("damaged files", "damaged-files", "error", "Export the series again."),
    ("no positions", "no-orientation", "warning", "The order and orientation are guesses; export with full headers."),
    ("no orientation", "no-orientation", "warning", "Left and right are guesses; convert the scan from its source."),
    ("no voxel size", "no-voxel-size", "error", "Write the true voxel size into the header."),
    ("negative voxel size", "negative-voxel-size", "warning", "Mend the header; compare the geometry with the source."),
    ("no HU", "no-hu", "warning", "The values are no Hounsfield units; export the series again."),
    (
        "voxel sizes disagree",
        "voxel-sizes-disagree",
        "warning",
        "Find out which is right, and write it to both places.",
    ),
    ("sform without voxel size", "sform-without-voxel-size", "info", "Nothing; the header's voxel sizes are used."),
    ("sform", "odd-header", "warning", "Compare the geometry with the source."),
    ("qform", "odd-header", "info", "Nothing, where the sform is right."),
    *CLOUD_NOTES,
    ("label", "", "", ""),  # told by the flag of the label
)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the table of problems.

    Attributes:
        severity: "error", "warning" or "info".
        kind: Short name, equal for findings of one kind.
        scan: Id of the scan; empty for what concerns the manifest as a whole.
        path: Its file or folder.
        what: What was found.
        todo: What to do next.
    """

    severity: str
    kind: str
    scan: str
    path: str
    what: str
    todo: str


@dataclass(frozen=True)
class CheckResult:
    """Every finding, errors first.

    Attributes:
        findings: The findings.
        summary: Counts of the manifest.
    """

    findings: tuple[Finding, ...]
    summary: dict[str, Any]

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return self.count("error") == 0

    def count(self, severity: str) -> int:
        """Return how many findings are of a severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def by_kind(self) -> list[tuple[str, str, list[Finding]]]:
        """Return (severity, kind, findings), errors first, the most frequent kind first."""
        groups: defaultdict[tuple[str, str], list[Finding]] = defaultdict(list)
        for finding in self.findings:
            groups[finding.severity, finding.kind].append(finding)
        order = sorted(groups, key=lambda key: (SEVERITIES.index(key[0]), -len(groups[key]), key[1]))
        return [(severity, kind, groups[severity, kind]) for severity, kind in order]

    def to_dict(self) -> dict[str, Any]:
        """Return what the JSON beside the page holds."""
        return {
            "ok": self.ok,
            "counts": {severity: self.count(severity) for severity in SEVERITIES},
            "summary": self.summary,
            "findings": [asdict(finding) for finding in self.findings],
        }

    def nameless(self, names: Nameless) -> CheckResult:
        """Return the same without paths, and without names of files and folders: scans are named by their ids."""
        bare = (replace(f, path="", what=names.text(f.what), todo=names.text(f.todo)) for f in self.findings)
        return replace(self, findings=tuple(bare))


def check_manifest(manifest: Manifest, *, look_at_files: bool = True) -> CheckResult:
    """Return everything that a person should know before training on these scans.

    Args:
        manifest: What `medssl index` wrote.
        look_at_files: Whether to see if files are still there and unchanged.
    """
    rows = list(manifest.rows())
    good = [row for row in rows if row["error"] is None and row["keep"]]
    volumes = [row for row in good if row["kind"] == "volume"]
    findings: list[Finding] = []
    for row in rows:
        findings += _unreadable(row)
    per_scan: list[Callable[[Row], Iterator[Finding]]] = [_flagged, _noted, _shape, _geometry, _intensities]
    for row in good:
        if row["kind"] == "cloud":
            findings += [_of(row, *doubt) for doubt in cloud_doubts(row)]
        for rule in per_scan if row["kind"] == "volume" else [_noted]:
            findings += rule(row)
        if row["kind"] == "volume":
            findings += [_of(row, *doubt) for doubt in label_doubts(row, manifest.classes)]
        if look_at_files:
            findings += _stale(row)
    for rule_of_all in (_copies, _split_patients, _scales, _whole):
        findings += rule_of_all(good)
    findings += [_of_all(*doubt) for doubt in clouds_together([row for row in good if row["kind"] == "cloud"])]
    order = manifest.settings.get("channels", ())
    findings += [_of_all(*doubt) for doubt in channels_together(rows, order)]
    findings += [_of_all(*doubt) for doubt in patients_together(volumes, manifest.root)]
    findings += [_of_all(*doubt) for doubt in aside_together([row for row in rows if row["error"] is not None])]
    findings += [_of_all(*doubt) for doubt in manifest.settings.get("of_clouds", {}).get("findings", ())]
    findings += [_of_all("info", "dataset-note", note, "Nothing, where this is as meant.") for note in manifest.notes]
    left_out = sum(not row["keep"] for row in rows)
    if left_out:
        findings.append(_of_all("info", "left-out", f"{left_out} scans are left out by medssl reduce", "Nothing."))
    for scan, doubt in labels_together(good, manifest.classes, manifest.ignored):
        findings.append(_of(scan, *doubt) if scan is not None else _of_all(*doubt))
    findings.sort(key=lambda f: (SEVERITIES.index(f.severity), f.kind, f.scan, f.what))
    return CheckResult(tuple(findings), manifest.summary())


def _of(row: Row, severity: str, kind: str, what: str, todo: str) -> Finding:
    return Finding(severity=severity, kind=kind, scan=row["id"], path=row["path"], what=what, todo=todo)


def _of_all(severity: str, kind: str, what: str, todo: str) -> Finding:
    return Finding(severity=severity, kind=kind, scan="", path="", what=what, todo=todo)


def _unreadable(row: Row) -> Iterator[Finding]:
    if row["error"] is None or {"label-without-image", "looks-like-labels"} & set(row["flags"]):
        return  # told of all together
    if "set-aside" in row["flags"]:
        yield _of(row, "info", "set-aside", row["error"], "Nothing.")
    else:
        yield _of(row, "error", "unreadable", row["error"], "Mend or remove the file, then: medssl index")


def _flagged(row: Row) -> Iterator[Finding]:
    details = [note for note in row["notes"] if note.startswith("label ")]
    for flag in row["flags"]:
        if flag not in _FLAGS:
            continue
        severity, what, todo = _FLAGS[flag]
        if flag == "nonfinite" and row["min"] is None:
            what = "every voxel is NaN or infinite"
        text = what.format_map(row)
        about = "; ".join(details) if flag.startswith("label-") and flag != "label-empty" else ""
        yield _of(row, severity, flag, f"{text}: {about}" if about else text, todo.format_map(row))


def _noted(row: Row) -> Iterator[Finding]:
    for note in row["notes"]:
        for start, kind, severity, todo in _NOTES:
            if note.startswith(start):
                if kind:
                    yield _of(row, severity, kind, note, todo)
                break
        else:
            yield _of(row, "info", note.partition(":")[0].replace(" ", "-"), note, "Nothing, where this is as meant.")


def _shape(row: Row) -> Iterator[Finding]:
    if row["format"] == "image":  # one slice, as it should be
        return
    smallest = min(row["shape"])
    shape = " x ".join(str(n) for n in row["shape"])
    if smallest <= _TOO_FEW_SLICES:
        yield _of(row, "error", "few-slices", f"{smallest} voxels along one axis ({shape})",
                  "This is no volume; leave it out, or find the rest of it.")  # fmt: skip
    elif smallest < _FEW_SLICES:
        yield _of(row, "warning", "few-slices", f"only {smallest} voxels along one axis ({shape})",
                  "Leave it out unless such thin stacks are what the model is for.")  # fmt: skip
    if row["frames"] > 1 and split_names(row["channel"]):
        yield _of(row, "info", "frames-as-channels", f"its {row['frames']} frames are channels ({row['channel']}); "
                  "intensities here are the first one's", "Nothing, where this is as meant.")  # fmt: skip
    elif row["frames"] > 1:
        yield _of(row, "info", "four-dimensional", f"{row['frames']} frames in one file; the first is used",
                  "Split the file, where the other frames matter.")  # fmt: skip


def _geometry(row: Row) -> Iterator[Finding]:
    spacing, affine = np.array(row["spacing_mm"]), np.array(row["affine"]).reshape(4, 4)
    said = " x ".join(f"{s:g}" for s in spacing)
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    flat = not np.isfinite(affine).all() or not (sizes > 0).all()
    if (
        flat
        or not np.isfinite(spacing).all()
        or (spacing <= 0).any()
        or (abs(np.linalg.det(affine[:3, :3] / sizes)) < 1e-6)
    ):
        yield _of(row, "error", "bad-geometry", f"the voxel size is {said} mm (z, y, x)", "Mend the header.")
        return
    if (spacing < geometry.CREDIBLE_MM[0]).any() or (spacing > geometry.CREDIBLE_MM[1]).any():
        yield _of(row, "error", "bad-geometry", f"the voxel size is {said} mm (z, y, x), which no scanner makes",
                  "Mend the header; is it in another unit?")  # fmt: skip
        return
    if (spacing < _SMALLEST_MM).any() or (spacing > _LARGEST_MM).any():
        yield _of(row, "warning", "odd-spacing", f"the voxel size is {said} mm (z, y, x)",
                  "Is the header in mm? Mend it, where it is not.")  # fmt: skip
    if spacing.max() / spacing.min() > _ANISOTROPY:
        yield _of(row, "info", "anisotropic", f"voxels are {spacing.max() / spacing.min():.0f} times longer than wide "
                  f"({said} mm)", "Choose a spacing for the store that is not isotropic.")  # fmt: skip
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    skew = np.abs(axes.T @ axes - np.eye(3)).max()
    if skew > _NON_ORTHOGONAL:
        degrees = float(np.degrees(np.arcsin(min(1.0, skew))))
        what = f"the axes are {degrees:.1f} degrees off a right angle (tilted gantry?)"
        yield _of(row, "warning", "non-orthogonal", what, "Resample it to a straight grid, where shapes matter.")


def _intensities(row: Row) -> Iterator[Finding]:
    if row["content_hash"] is None:
        yield _of(row, "info", "voxels-not-read", "only the header was read", "medssl index ... depth=full")
    elif row["p005"] is not None and row["p005"] == row["p995"] and row["min"] != row["max"]:
        yield _of(row, "warning", "nearly-constant", f"99 % of the voxels have the value {row['p50']:g}",
                  "Look at it: this is an almost empty scan.")  # fmt: skip
    elif row["p005"] is not None and _beyond(row) > _FAR_BEYOND:
        yield _of(row, "warning", "odd-values", f"values reach from {row['min']:g} to {row['max']:g}, and 99 % of them "
                  f"lie within {row['p005']:g} to {row['p995']:g}",
                  "A damaged voxel or a mark for no value: put a value of its surroundings there.")  # fmt: skip


def _beyond(row: Row) -> float:
    """Return how far values lie beyond the range of 99 % of them, in widths of that range."""
    width = float(row["p995"]) - float(row["p005"])
    return max(float(row["max"]) - float(row["p995"]), float(row["p005"]) - float(row["min"])) / width if width else 0.0


def _stale(row: Row) -> Iterator[Finding]:
    try:
        now = stamps_of(row)
    except OSError:
        yield _of(row, "error", "gone", "its files are not there any more", "Bring them back, or: medssl index")
        return
    except FormatError as error:
        yield _of(row, "warning", "changed", f"its label's files changed: {error.reason}", "medssl index")
        return
    differs = {name for name, value in now.items() if row[name] is not None and row[name] != value}
    if any(name.endswith(("size_bytes", "mtime_ns")) for name in differs):
        yield _of(row, "warning", "changed", "its files changed after the index was made", "medssl index")
    elif differs:
        yield _of(row, "info", "touched", "its files were replaced, moved or given other rights since the index, "
                  "and kept size and time", "medssl index compares their bytes.")  # fmt: skip


def _scales(rows: Sequence[Row]) -> Iterator[Finding]:
    groups = mixed_scales(rows)
    if groups:
        yield _of_all(
            "error",
            "mixed-scales",
            f"CT on several scales: {told(groups)}",
            "Convert all to HU, or index them one by one; medssl cache ... mixed_scales=true takes them so.",
        )


def _copies(rows: Sequence[Row]) -> Iterator[Finding]:
    """Yield a finding for each scan that is a copy of another one, and for copies that leak between splits."""
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["content_hash"] and "constant" not in row["flags"]:
            groups[row["content_hash"]].append(row)
    for group in groups.values():
        if len(group) < 2:
            continue
        first, others = group[0], group[1:]
        content = "points" if first["kind"] == "cloud" else "voxels"
        splits = sorted({row["split"] for row in group if row["split"]})
        for row in others:
            same_file = row["file_hash"] == first["file_hash"] and row["path"] != first["path"]
            how = "is the same file as" if same_file else f"holds the same {content} as"
            yield _of(row, "warning", "duplicate", f"{how} {first['id']} ({first['path']})", "Keep one of them.")
            if row["patient"] != first["patient"]:
                yield _of(row, "warning", "copy-of-another-patient",
                          f"the same scan counts as patient {row['patient']} here and {first['patient']} there",
                          "Mend the names, or give patient_pattern to: medssl index")  # fmt: skip
        if len(splits) > 1:
            names = ", ".join(row["id"] for row in group[:4])
            yield _of(first, "error", "leak", f"the same {content} are in the splits {' and '.join(splits)}: {names}",
                      "Keep one of them, then: medssl index")  # fmt: skip


def _split_patients(rows: Sequence[Row]) -> Iterator[Finding]:
    splits: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row["split"]:
            splits[row["patient"]].add(row["split"])
    for row in {row["patient"]: row for row in reversed(rows)}.values():
        if len(splits[row["patient"]]) > 1:
            where = " and ".join(sorted(splits[row["patient"]]))
            yield _of(row, "error", "leak", f"patient {row['patient']} is in {where}",
                      "Give all scans of a patient one split, or let medssl index draw the split.")  # fmt: skip


def _whole(rows: Sequence[Row]) -> Iterator[Finding]:
    if not rows:
        yield _of_all("error", "nothing-readable", "no scan can be read", "See the reasons above.")
        return
    patients = {row["patient"] for row in rows}
    if len(patients) == 1 and len(rows) >= _MANY_SCANS:
        yield _of_all("warning", "one-patient", f"all {len(rows)} scans count as one patient ({patients.pop()})",
                      "If they are not, tell patients apart with: medssl index ... patient_pattern=...")  # fmt: skip
    splits = Counter(row["split"] for row in rows)
    for name in ("val", "test"):
        if splits["train"] and not splits[name]:
            yield _of_all("info", "empty-split", f"no patient is in the split '{name}'",
                          f"More patients, or a larger share: medssl index ... {name}=0.2")  # fmt: skip
    modalities = sorted({row["modality"] for row in rows})
    if len(modalities) > 1:
        yield _of_all("info", "mixed-modalities", f"several modalities: {', '.join(modalities)}",
                      "Index them one by one, where one model is not to learn all.")  # fmt: skip
