"""The page of ``medssl reduce``: what is kept and why, groups side by side, how near pairs are, files that are bad."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medssl.nameless import nameless_rows
from medssl.reduction.duplicates import Found, Match
from medssl.reduction.fingerprint import targets_of
from medssl.reduction.marks import Mark
from medssl.reduction.reduced import Counts
from medssl.reduction.verify import RELATED, RELATED_STRANGERS, SAME_IMAGE, Level
from medssl.reporting.blocks import Block, Charts, Details, Listing, Overlays, Section, Table, Text, Tiles
from medssl.reporting.charts import histogram_chart
from medssl.reporting.findings import Headline
from medssl.reporting.page import render_page
from medssl.reporting.privacy import Cleaner
from medssl.reporting.prose import counted
from medssl.reporting.scan_figures import CloudLook, ScanFigures

__all__ = ["reduction_page", "score_charts", "unread_section"]

_MEANING = {
    "same file": ("the same bytes", "left out"),
    "same array": ("the same voxels in another file, type or axis order", "left out"),
    "same image": ("the same image exported again: resampled, cropped, in 8 bits, flipped", "left out"),
    "related": ("another kernel, phase or echo of one acquisition, or a repetition", "as the setting 'related' says"),
    "same patient": ("one patient, but another image", "kept, on one side of a split"),
    "different": ("similar hashes, but a different image", "kept"),
}
_MEMBERS = 6  # scans of one group that are shown
_LISTED = 500
_DOUBT = 0.45  # score from which a pair that is no copy is worth a look
_DOUBTS = 6


def reduction_page(
    rows: Sequence[Mapping[str, Any]],
    marks: Mapping[str, Mark],
    found: Found,
    counts: Counts,
    *,
    name: str,
    strategy: str,
    recall: Mapping[str, tuple[int, int]],
    moved: Mapping[str, str],
    settings: Mapping[str, Any],
    unreadable: Mapping[str, str],
    radius: float | None = None,
    pictures: int = 12,
    clouds: CloudLook | None = None,
) -> str:
    """Return the page.

    Args:
        rows: Readable rows of the manifest.
        marks: id -> mark.
        found: Every pair that was looked at.
        counts: What the marks come to.
        name: What to call the manifest.
        strategy: How was chosen among what is no copy.
        recall: Kind of change -> (altered copies found, made).
        moved: id -> split that a scan was moved to.
        settings: The settings, by dotted key.
        unreadable: id -> why the manifest itself lists a scan as unreadable.
        radius: Distance within which the strategy lets one stand for another.
        pictures: How many groups to show.
        clouds: How clouds are drawn and judged.
    """
    clean = Cleaner(nameless=[nameless_rows(rows)])
    figures = ScanFigures(rows, {target.id: target for target in targets_of(rows)}, clouds)
    sections = [
        _kept_section(counts, found, moved, strategy),
        _near_section(rows, found, marks, strategy, radius, clouds),
        _group_section(marks, found, figures, pictures),
        _doubt_section(found, figures, pictures),
        _strategy_section(marks, figures, strategy, pictures),
        unread_section({**unreadable, **found.failures}, clean),
        _record_section(recall, found, settings, clean),
    ]
    title = f"Reduction of {name}"
    return render_page(title, _headline(counts, found, recall, moved), [one for one in sections if one is not None])


def score_charts(rows: Sequence[Mapping[str, Any]], found: Found, clouds: CloudLook | None = None) -> list[Block]:
    """Return histograms of how well the pairs that were looked at agree, with the thresholds on them.

    Args:
        rows: Rows of the manifest.
        found: Every pair that was looked at.
        clouds: How clouds are judged.
    """
    held = {row["id"] for row in rows if row["kind"] == "cloud"}
    looked = [one for one in found.matches if one.candidate.how not in ("file", "array")]
    scans, of_clouds = ([one for one in looked if (one.first in held) is wanted] for wanted in (False, True))
    of_scans = (
        (RELATED, "related from, one patient"),
        (SAME_IMAGE, "same image from"),
        (RELATED_STRANGERS, "related from, two patients"),
    )
    of_two = ((round(clouds.same_from, 2), "same cloud from"),) if clouds is not None else ()
    of_points = "The score is e to the minus mean distance of the points, as a share of the distance of neighbours."
    drawn = [
        _scores("proposed pairs", scans, "score: correlation of the detail", of_scans),
        _scores("proposed pairs of clouds", of_clouds, "score", of_two, of_points),
    ]
    charts = [chart for chart in drawn if chart is not None]
    hash_ = histogram_chart(
        [(level.value, [one.candidate.distance for one in looked if one.verdict.level is level]) for level in Level],
        what="distance of the hashes that proposed them",
        x_name="share of differing bits",
        ends=(0.0, 0.25),
    )
    if charts and hash_:
        charts.append(("What proposed them", hash_, "Of 511 bits; slices have 63, and points count by their number."))
    return [Charts(charts)] if charts else []


def _scores(
    what: str, looked: Sequence[Match], x_name: str, limits: Sequence[tuple[float, str]], more: str = ""
) -> tuple[str, str, str] | None:
    """Return heading, chart and note; None where no pair was looked at."""
    groups = [
        (level.value, [one.verdict.agreement.score for one in looked if one.verdict.level is level]) for level in Level
    ]
    chart = histogram_chart(groups, what=f"scores of {what}", x_name=x_name, ends=(0.0, 1.0), marks=limits)
    if not chart:
        return None
    note = "Every pair that a hash proposed, by the result of the comparison."
    return f"How well {what} agree", chart, f"{note} {more}".rstrip()


def unread_section(failures: Mapping[str, str], clean: Cleaner) -> Section | None:
    """Return the scans that could not be read, with the reason; None where there is none."""
    if not failures:
        return None
    listed = [(name, clean.text(reason)) for name, reason in sorted(failures.items())[:_LISTED]]
    note = f"and {len(failures) - _LISTED} more" if len(failures) > _LISTED else ""
    return Section("unread", "Files that cannot be read", [Table(("scan", "why"), listed, note=note)])


def _headline(
    counts: Counts, found: Found, recall: Mapping[str, tuple[int, int]], moved: Mapping[str, str]
) -> Headline:
    out = [f"{n:,} {level}" for level, n in counts.levels.items()]
    told = f"{counts.kept:,} of {counted(counts.scans, 'scan')} are kept"
    sentences = [("", f"{told}; left out: {', '.join(out)}." if out else f"{told}; none is a copy of another.")]
    related = sum(one.verdict.level is Level.RELATED for one in found.matches)
    if related:
        sentences.append(("", f"{counted(related, 'pair')} are related: other kernels, phases or moments of one body."))
    hit, made = (sum(pair[i] for pair in recall.values()) for i in (0, 1))
    if made:
        sentences.append(("", f"Of {made} altered copies that were planted, {hit} were found."))
    beware = []
    if moved:
        beware.append(f"{counted(len(moved), 'scan')} changed the split, so that related scans are on one side.")
    if made and hit < made:
        missed = ", ".join(f"{kind} ({n} of {m})" for kind, (n, m) in recall.items() if n < m)
        beware.append(f"copies of these kinds are missed on your scans: {missed}.")
    return Headline(sentences, beware)


def _kept_section(counts: Counts, found: Found, moved: Mapping[str, str], strategy: str) -> Section:
    tiles = [(f"{counts.scans:,}", "scans"), (f"{counts.kept:,}", "kept")]
    tiles += [(f"{n:,}", level) for level, n in counts.levels.items()]
    tiles += [(f"{len(moved):,}", "moved to another split")] if moved else []
    pairs: dict[str, int] = {}
    for one in found.matches:
        pairs[one.verdict.level.value] = pairs.get(one.verdict.level.value, 0) + 1
    listed = [
        (level, meaning, done, f"{pairs.get(level, 0):,}", f"{counts.levels.get(level, 0):,}")
        for level, (meaning, done) in _MEANING.items()
    ]
    blocks: list[Block] = [Tiles(tiles), Table(("level", "what it means", "what is done", "pairs", "left out"), listed)]
    if strategy not in ("copies", "all"):
        blocks.append(Text(f"Among the scans that are not copies, {strategy} chose.", "soft"))
    if moved:
        rows = [(name, split) for name, split in sorted(moved.items())[:_LISTED]]
        blocks.append(Details("Scans that changed the split", [Table(("scan", "now in"), rows)]))
    return Section("kept", "What is kept", blocks)


def _near_section(
    rows: Sequence[Mapping[str, Any]],
    found: Found,
    marks: Mapping[str, Mark],
    strategy: str,
    radius: float | None,
    clouds: CloudLook | None,
) -> Section | None:
    blocks = score_charts(rows, found, clouds)
    chosen = [m.distance for m in marks.values() if m.level == "not chosen" and m.distance > 0]
    if chosen:
        top = max([*chosen, radius or 0.0]) * 1.05
        drawn = histogram_chart(
            [("left out", chosen)],
            what="distance to the scan that stands for it",
            x_name="distance",
            ends=(0.0, top),
            marks=((radius, "radius"),) if radius is not None and radius == radius else (),
        )
        blocks.append(Charts([(f"How far from a kept scan ({strategy})", drawn, "")]))
    return Section("near", "How near", blocks) if blocks else None


def _group_section(marks: Mapping[str, Mark], found: Found, figures: ScanFigures, pictures: int) -> Section | None:
    groups: dict[str, list[str]] = {}
    for name, mark in marks.items():
        if not mark.keep and mark.score is not None:
            groups.setdefault(mark.representative, []).append(name)
    if not groups:
        return None
    by_pair = {(one.first, one.second): one for one in found.matches}

    def surest(leader: str) -> tuple[float, str]:
        return min(marks[name].score or 0.0 for name in groups[leader]), leader

    ordered = sorted(groups, key=surest)  # those that agree least first: they are worth a look
    blocks: list[Block] = [
        Text(
            "The kept scan comes first. Groups that agree least are at the top: check these.",
            "soft",
        )
    ]
    for leader in ordered[:pictures]:
        members = sorted(groups[leader], key=lambda name: (marks[name].score or 0.0, name))
        blocks.append(Text(f"{leader} stands for {counted(len(members), 'scan')}", "head"))
        drawn = [figures.figure(leader, f"Kept: {leader}, {figures.grid(leader)}")]
        drawn += [
            figures.figure(
                name,
                f"Left out: {name}, {_relation(marks[name], by_pair.get(_pair(name, leader)))}, {figures.grid(name)}",
            )
            for name in members[:_MEMBERS]
        ]
        whole = [figure for figure in drawn if figure is not None]
        if whole:
            blocks.append(Overlays(whole, small=True))
        if len(members) > _MEMBERS or len(whole) < len(drawn):
            blocks.append(Text(f"All: {', '.join(members[:_LISTED])}", "soft"))
    if len(ordered) > pictures:
        rows = [
            (leader, str(len(groups[leader])), ", ".join(sorted(groups[leader])[:_MEMBERS]))
            for leader in ordered[pictures : pictures + _LISTED]
        ]
        blocks.append(Details(f"{len(ordered) - pictures:,} groups more", [Table(("kept", "copies", "such as"), rows)]))
    return Section("groups", "Groups", blocks)


def _doubt_section(found: Found, figures: ScanFigures, pictures: int) -> Section | None:
    """Return pairs whose score lies near a threshold and that were not called copies."""
    doubtful = [
        one
        for one in found.matches
        if one.verdict.level is Level.RELATED
        or (one.verdict.agreement.score >= _DOUBT and not one.verdict.level.is_copy)
    ]
    if not doubtful or not pictures:
        return None
    doubtful.sort(key=lambda one: (-one.verdict.agreement.score, one.first, one.second))
    blocks: list[Block] = [
        Text(
            "Pairs that agree, but not well enough to leave one out. Both are kept unless "
            "the setting 'related' says otherwise.",
            "soft",
        )
    ]
    for one in doubtful[:_DOUBTS]:
        pair = [figures.figure(name, f"{name}, {figures.grid(name)}") for name in (one.first, one.second)]
        whole = [figure for figure in pair if figure is not None]
        told = f"{one.first} and {one.second}: {one.verdict.level.value}, score {one.verdict.agreement.score:.3f}"
        blocks += [Text(told, "head"), *([Overlays(whole, small=True)] if whole else [])]
    return Section("doubts", "Nearly copies", blocks)


def _strategy_section(marks: Mapping[str, Mark], figures: ScanFigures, strategy: str, pictures: int) -> Section | None:
    """Return scans that the strategy leaves out beside those that stand for them, the farthest first."""
    chosen = [
        (name, mark) for name, mark in marks.items() if mark.level == "not chosen" and mark.representative != name
    ]
    if not chosen or not pictures:
        return None
    chosen.sort(key=lambda item: (-item[1].distance, item[0]))
    blocks: list[Block] = [
        Text("Scans that are left out, beside the kept scans that stand for them; the farthest first.", "soft")
    ]
    for name, mark in chosen[: min(_DOUBTS, pictures)]:
        kept = figures.figure(mark.representative, f"Kept: {mark.representative}")
        left = figures.figure(name, f"Left out: {name}, {mark.distance:.3g} away")
        whole = [figure for figure in (kept, left) if figure is not None]
        if whole:
            blocks.append(Overlays(whole, small=True))
    return Section("strategy", f"Not chosen by {strategy}", blocks)


def _record_section(
    recall: Mapping[str, tuple[int, int]], found: Found, settings: Mapping[str, Any], clean: Cleaner
) -> Section:
    blocks: list[Block] = []
    if recall:
        rows = [(kind, str(made), str(hit)) for kind, (hit, made) in recall.items()]
        note = (
            "Altered copies of a few of your scans, made in memory; the search looks for them like for any other copy."
        )
        blocks.append(Table(("altered copies", "planted", "found"), rows, caption="Recall", note=note))
    pairs = [(key, clean.word(str(value))) for key, value in settings.items() if value not in (None, "")]
    search = "exact: every pair of hashes was compared" if found.recall == 1.0 else f"recall {found.recall:.4f}"
    blocks.append(Listing([("search for near hashes", search)]))
    blocks.append(Details("Settings", [Listing(pairs)]))
    return Section("record", "How it was done", blocks)


def _pair(one: str, two: str) -> tuple[str, str]:
    return min(one, two), max(one, two)


def _relation(mark: Mark, match: Match | None) -> str:
    told = f"{mark.level}, score {mark.score:.3f}"
    if match is not None and (turn := match.verdict.variant.name()) != "zyx":
        told += f", turned ({turn})"
    return told
