"""The report as one HTML file that needs nothing else: no network, no scripts, no paths of the machine it is from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources

from medssl import __version__
from medssl.quoting import visible
from medssl.reporting.blocks import Section
from medssl.reporting.class_section import class_section
from medssl.reporting.data_section import data_section
from medssl.reporting.evaluation_section import evaluation_section
from medssl.reporting.findings import Headline, headline
from medssl.reporting.material import Material
from medssl.reporting.parts_section import parts_section
from medssl.reporting.privacy import Cleaner
from medssl.reporting.record_section import record_section
from medssl.reporting.training_sections import finetuning_section, pretraining_section

__all__ = ["Page", "build_page", "render_page"]

_TEMPLATE = "page.html.j2"


@dataclass(frozen=True, kw_only=True)
class Page:
    """A report.

    Attributes:
        html: The page.
        title: Its title.
        headline: Its first words.
        sections: What it holds.
    """

    html: str
    title: str
    headline: Headline
    sections: Sequence[Section]


def build_page(material: Material, *, title: str = "", pictures: int = 6, cases: bool = True) -> Page:
    """Return the report of what was gathered; a section is there only where its material is.

    Args:
        material: What `gather` read.
        title: The title; the names of runs when empty.
        pictures: How many scans are shown as thumbnails.
        cases: Whether the best, median and worst case are shown.
    """
    clean = Cleaner(material.places(), material.nameless())
    found = headline(material)
    found = Headline(
        [(v, clean.text(t)) for v, t in found.sentences],
        [clean.text(t) for t in found.beware],
        [clean.text(t) for t in found.arms],
    )
    candidates = (  # what was found first, then how it came about
        evaluation_section(material, cases=cases, clean=clean),
        class_section(material, cases=cases, clean=clean),
        parts_section(material, clean=clean),
        finetuning_section(material, clean=clean),
        pretraining_section(material, clean=clean),
        data_section(material, pictures=pictures, clean=clean),
        record_section(material, clean=clean),
    )
    sections = [section for section in candidates if section is not None]
    title = title or _title(material)
    html = render_page(title, found, sections, notes=[clean.text(note) for note in material.notes])
    return Page(html=html, title=title, headline=found, sections=sections)


def render_page(title: str, found: Headline, sections: Sequence[Section], *, notes: Sequence[str] = ()) -> str:
    """Return a page of sections as HTML.

    Args:
        title: The title.
        found: The first words.
        sections: What it holds; texts must be free of paths of this machine.
        notes: Sentences under the first words.
    """
    import jinja2

    source = resources.files("medssl.reporting").joinpath(_TEMPLATE).read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    page = environment.from_string(source).render(
        title=title,
        headline=found,
        sections=sections,
        notes=notes,
        version=__version__,
        made=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )
    # Of what files say, nothing may turn or hide other text.
    return visible(page, lines=True)


def _title(material: Material) -> str:
    """Return the names of what is reported on, the most derived first."""
    over_labels = [one.folder.resolve().name for one in material.evaluated if one.over_labels]
    names = over_labels or [run.name for run in material.finetuned]
    names = names or [run.name for run in material.pretrained] or [f.resolve().name for f, _ in material.evaluations()]
    names = names or [f.resolve().name for f in material.stores]
    names = names or [*material.manifests, *material.checks, *material.embeddings]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
