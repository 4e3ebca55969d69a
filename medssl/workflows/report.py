"""``medssl report``: runs, stores, scores and comparisons as one page that can be read anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from medssl.settings import Settings, resolve
from medssl.workflows import events
from medssl.workflows.result import Result
from medssl.workflows.taking import takes_places

__all__ = ["ReportResult", "ReportSettings", "report"]


class ReportSettings(Settings):
    """What goes into a report."""

    verb: ClassVar[str] = "report"

    title: str = Field(default="", description="The title; the names of the runs if empty.")
    pictures: int = Field(default=6, ge=0, le=60, description="How many scans to show as thumbnails.")
    cases: bool = Field(default=True, description="Show the best, the median and the worst case of the first run.")
    follow: bool = Field(
        default=True, description="Report on the store and the pretraining run that a run names, too, if still there."
    )


@dataclass(frozen=True, kw_only=True)
class ReportResult(Result):
    """What ``report`` made.

    Attributes:
        path: The page; None for a dry run.
        headline: Its first sentences.
        verdicts: "better", "worse", "inconclusive" or "" for each of them.
        sections: Keys of its sections, in order.
    """

    path: Path | None
    headline: tuple[str, ...]
    verdicts: tuple[str, ...]
    sections: tuple[str, ...]


@takes_places
def report(
    *runs: str | Path,
    out: str | Path = "report.html",
    preset: str | Path | None = None,
    overrides: Sequence[str] = (),
    dry_run: bool = False,
) -> ReportResult:
    """Write one page about runs, stores, scores and comparisons, with a section for each that is given.

    Args:
        runs: Any of: pretraining and fine-tuning runs, folders with scores.json or few_label.json, stores, manifests,
            NAME-check.json, scores.parquet, embeddings.
        out: The page, .html; in a folder it is called report.html.
        preset: A preset or a YAML file of settings.
        overrides: ``key=value``; see ``medssl show report``.
        dry_run: Say what would be on the page; write nothing.

    Returns:
        The page's place, its headline and its sections.

    Raises:
        ConfigError: A setting is wrong, or ``out`` would replace a file that is no page.
        DataError: A path does not exist, or a report cannot use it.
    """
    from medssl.reporting.page import build_page
    from medssl.reporting.reading import gather
    from medssl.writing import atomic_write, page_for

    settings = resolve(ReportSettings, preset=preset, overrides=list(overrides)).settings
    page_path = page_for(out, "report.html")
    material = gather(runs, follow=settings.follow)
    page = build_page(material, title=settings.title, pictures=settings.pictures, cases=settings.cases)
    for note in material.notes:
        events.warning(note)
    for _, sentence, arms in page.headline.told():
        events.message(sentence)
        if arms:
            events.message(f"  {arms}")
    for sentence in page.headline.beware:
        events.warning(sentence)
    sections = tuple(section.key for section in page.sections)
    facts: dict[str, Any] = {
        "headline": [{"verdict": verdict, "text": text} for verdict, text in page.headline.sentences],
        "sections": list(sections),
        "size_bytes": len(page.html.encode()),
    }
    if dry_run:
        events.message(f"would write {page_path}: {', '.join(s.title for s in page.sections)}")
    else:
        with atomic_write(page_path) as aside:
            aside.write_text(page.html, encoding="utf-8")
    return events.written(
        ReportResult(
            path=None if dry_run else page_path,
            headline=tuple(text for _, text in page.headline.sentences),
            verdicts=tuple(verdict for verdict, _ in page.headline.sentences),
            sections=sections,
            written=() if dry_run else (page_path,),
            figures=facts,
        )
    )
