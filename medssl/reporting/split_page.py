"""The page of ``medssl check-split``: every pair that lies on both sides, the worst of them shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from medssl.nameless import nameless_rows
from medssl.reduction.duplicates import Found
from medssl.reduction.fingerprint import targets_of
from medssl.reduction.leaks import Leak
from medssl.reporting.blocks import Block, Overlays, Section, Table, Text, Tiles
from medssl.reporting.findings import Headline
from medssl.reporting.page import render_page
from medssl.reporting.privacy import Cleaner
from medssl.reporting.prose import counted
from medssl.reporting.reduction_page import score_charts, unread_section
from medssl.reporting.scan_figures import CloudLook, ScanFigures

__all__ = ["split_page"]

_LISTED = 2000


def split_page(
    rows: Sequence[Mapping[str, Any]],
    leaks: Sequence[Leak],
    found: Found,
    *,
    name: str,
    sides: Mapping[str, int],
    pictures: int,
    clouds: CloudLook | None = None,
) -> str:
    """Return the page.

    Args:
        rows: The rows that were compared.
        leaks: Pairs on both sides.
        found: Every pair that was looked at.
        name: What to call the manifest.
        sides: Split -> scans.
        pictures: How many pairs to show.
        clouds: How clouds are drawn and judged.
    """
    clean = Cleaner(nameless=[nameless_rows(rows)])
    figures = ScanFigures(rows, {target.id: target for target in targets_of(rows)}, clouds)
    told = [("leaks", f"{counted(len(leaks), 'pair')} of scans are on both sides of the split.")] if leaks else []
    if not leaks:
        told = [("clean", "No patient and no image is on both sides of the split.")]
    beware = [f"{counted(len(found.failures), 'scan')} could not be compared."] if found.failures else []
    tiles = [(f"{count:,}", f"in {split}") for split, count in sides.items() if count]
    tiles += [(f"{n:,}", f"pairs: {level}") for level, n in Counter(leak.level for leak in leaks).items()]
    blocks: list[Block] = [Tiles(tiles)]
    if leaks:
        listed = [
            (
                f"{one.first} ({one.splits[0]})",
                f"{one.second} ({one.splits[1]})",
                one.level,
                "" if one.score is None else f"{one.score:.3f}",
                " and ".join(dict.fromkeys(one.patients)),
            )
            for one in leaks[:_LISTED]
        ]
        note = f"and {len(leaks) - _LISTED:,} more; the JSON file lists all" if len(leaks) > _LISTED else ""
        blocks.append(Table(("scan", "and", "are of one", "score", "patients"), listed, note=note))
    sections = [Section("sides", "Both sides", blocks)]
    shown: list[Block] = []
    for one in leaks[:pictures]:
        pair = [
            figures.figure(scan, f"{split}: {scan}, {figures.grid(scan)}")
            for scan, split in zip((one.first, one.second), one.splits, strict=True)
        ]
        whole = [figure for figure in pair if figure is not None]
        if len(whole) == 2:
            score = "" if one.score is None else f", score {one.score:.3f}"
            shown += [Text(f"{one.first} and {one.second}: {one.level}{score}", "head"), Overlays(whole, small=True)]
    if shown:
        more = f"The first {pictures} of {len(leaks)}." if len(leaks) > pictures else ""
        sections.append(Section("pictures", "The pairs", [*([Text(more, "soft")] if more else []), *shown]))
    if charts := score_charts(rows, found, clouds):
        sections.append(Section("scores", "How near", charts))
    bad = unread_section(found.failures, clean)
    return render_page(f"Split of {name}", Headline(told, beware), [*sections, *([bad] if bad else [])])
