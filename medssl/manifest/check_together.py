"""What only all scans together show: mixed scales, copies, patients in two splits."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from medssl.manifest.finding import Finding, Row, of_all, of_scan
from medssl.manifest.scales import mixed_scales, told

__all__ = ["doubts_together"]

_MANY_SCANS = 5


def doubts_together(rows: Sequence[Row]) -> Iterator[Finding]:
    """Yield what the rows of all scans that can be read show together."""
    for rule in (_copies, _split_patients, _scales, _whole):
        yield from rule(rows)


def _scales(rows: Sequence[Row]) -> Iterator[Finding]:
    groups = mixed_scales(rows)
    if groups:
        yield of_all(
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
            yield of_scan(row, "warning", "duplicate", f"{how} {first['id']} ({first['path']})", "Keep one of them.")
            if row["patient"] != first["patient"]:
                yield of_scan(
                    row,
                    "warning",
                    "copy-of-another-patient",
                    f"the same scan counts as patient {row['patient']} here and {first['patient']} there",
                    "Fix the names, or give patient_pattern to: medssl index",
                )
        if len(splits) > 1:
            names = ", ".join(row["id"] for row in group[:4])
            yield of_scan(
                first,
                "error",
                "leak",
                f"the same {content} are in the splits {' and '.join(splits)}: {names}",
                "Keep one of them, then: medssl index",
            )


def _split_patients(rows: Sequence[Row]) -> Iterator[Finding]:
    splits: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row["split"]:
            splits[row["patient"]].add(row["split"])
    for row in {row["patient"]: row for row in reversed(rows)}.values():
        if len(splits[row["patient"]]) > 1:
            where = " and ".join(sorted(splits[row["patient"]]))
            yield of_scan(
                row,
                "error",
                "leak",
                f"patient {row['patient']} is in {where}",
                "Give all scans of a patient one split, or let medssl index draw the split.",
            )


def _whole(rows: Sequence[Row]) -> Iterator[Finding]:
    if not rows:
        yield of_all("error", "nothing-readable", "no scan can be read", "See the reasons above.")
        return
    patients = {row["patient"] for row in rows}
    if len(patients) == 1 and len(rows) >= _MANY_SCANS:
        yield of_all(
            "warning",
            "one-patient",
            f"all {len(rows)} scans count as one patient ({patients.pop()})",
            "If they are not, distinguish patients with: medssl index ... patient_pattern=...",
        )
    splits = Counter(row["split"] for row in rows)
    for name in ("val", "test"):
        if splits["train"] and not splits[name]:
            yield of_all(
                "info",
                "empty-split",
                f"no patient is in the split '{name}'",
                f"More patients, or a larger share: medssl index ... {name}=0.2",
            )
    modalities = sorted({row["modality"] for row in rows})
    if len(modalities) > 1:
        yield of_all(
            "info",
            "mixed-modalities",
            f"several modalities: {', '.join(modalities)}",
            "If one model should not learn all, index them separately.",
        )
