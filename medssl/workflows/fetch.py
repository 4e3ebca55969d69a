"""``medssl fetch``: a public data set by its card, with its licence shown, its checksum verified, and resumable."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from pydantic import Field

from medssl.command import Command
from medssl.errors import ConfigError, DataError
from medssl.settings import Settings, resolve
from medssl.workflows import events
from medssl.workflows.result import Result
from medssl.workflows.taking import takes_places
from medssl.writing import folder_for

if TYPE_CHECKING:
    from medssl.manifest.cards import Address, Card

__all__ = ["FetchSettings", "Fetched", "fetch"]

_MARK = ".medssl-fetched.json"


class FetchSettings(Settings):
    """Settings of ``medssl fetch``."""

    verb: ClassVar[str] = "fetch"

    keep_archive: bool = Field(default=False, description="Leave the downloaded archive beside the data.")
    max_size_gb: float = Field(default=2000.0, gt=0, description="Most that an archive may unpack to, in GB.")
    max_ratio: float = Field(
        default=200.0, gt=0, description="Most that it may unpack to as a multiple of its own size, beyond 100 MB."
    )
    max_files: int = Field(default=5_000_000, gt=0, description="Most files and folders that it may hold.")


@dataclass(frozen=True)
class Fetched(Result):
    """What ``fetch`` came to.

    Attributes:
        folder: Of the data set; None after a dry run, and for a data set that a person has to get.
    """

    folder: Path | None

    @property
    def place(self) -> Path | None:
        """The data set's folder."""
        return self.folder


@takes_places
def fetch(
    name: str | Path,
    *,
    out: str | Path = "data",
    accept_licence: bool = False,
    preset: str | Path | None = None,
    overrides: Sequence[str] = (),
    dry_run: bool = False,
    **options: Any,
) -> Fetched:
    """Download a public data set. An interrupted download continues where it stopped.

    Args:
        name: A card's name (``medssl list data``), or a card's YAML file.
        out: The parent folder, in which the data set's folder is created.
        accept_licence: You accept the licence. Without this, it is only shown and nothing is downloaded.
        preset: A preset or a YAML file of settings.
        overrides: ``key=value``; see ``medssl show fetch``.
        dry_run: Only show the card and what would be downloaded.
        options: Settings by name; ``overrides`` have priority.

    Returns:
        The folder of the data set.

    Raises:
        ConfigError: There is no such card, or the licence was not accepted.
        DataError: The download failed, or something else lies in the place of the data.
    """
    from medssl.manifest.cards import address_of, find_card
    from medssl.manifest.download import download
    from medssl.manifest.unpacking import Bounds, unpack

    settings = resolve(FetchSettings, preset=preset, overrides=list(overrides), defaults=options).settings
    title, card = find_card(name)
    out = folder_for(out)
    final = out / card.folder
    _show(card)
    said = [f"modality={card.modality}"] if card.manual else []
    following = Command("index", final, *said, "--out", f"{title}.parquet")
    accepted = Command("fetch", name, "--out", out, "--accept-licence")
    if card.manual:
        events.message(f"You have to download it yourself: {card.manual}")
        return events.written(Fetched(None, next=following, figures={"manual": card.manual}))
    if _is_there(final, card):
        return events.written(Fetched(final, next=following, figures={"folder": str(final), "downloaded": False}))
    if dry_run:
        return events.written(Fetched(None, next=accepted, figures={"size_mb": card.size_mb}))
    if not accept_licence:
        raise ConfigError(
            f"{title} comes under {card.licence} ({card.licence_url or card.source}). Read it; if you accept it, run: "
            f"{accepted}"
        )
    address = address_of(card)
    assert address is not None
    archive = out / (Path(urlsplit(address.url).path).name or f"{title}.archive")
    with events.progress(None, "megabytes downloaded") as shown:

        def show(have: int, total: int | None) -> None:
            shown.total = None if total is None else round(total / 1e6)
            shown.reach(round(have / 1e6))

        download(address.url, archive, algorithm=address.algorithm, checksum=address.checksum, progress=show)
    events.message(f"the {address.algorithm} is correct; unpacking")
    bounds = Bounds(size_bytes=round(settings.max_size_gb * 1e9), files=settings.max_files, ratio=settings.max_ratio)
    unpack(archive, out, folder=card.folder, bounds=bounds)
    _mark(final, card, address)
    if not settings.keep_archive:
        archive.unlink()
    figures = {"folder": str(final), "downloaded": True}
    return events.written(Fetched(final, written=(final,), next=following, figures=figures))


def _show(card: Card) -> None:
    events.message(card.title)
    events.message(card.about)
    events.message(f"licence: {card.licence} {card.licence_url}".rstrip())
    events.message(f"source: {card.source}")
    if card.citation:
        events.message(f"cite: {card.citation}")
    if card.size_mb:
        events.message(f"download: about {card.size_mb:,.0f} MB")


def _is_there(final: Path, card: Card) -> bool:
    if not final.exists():
        return False
    try:
        said = json.loads((final / _MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        said = {}
    if said.get("source") == card.source:
        events.message(f"{final} is there already")
        return True
    raise DataError(f"{final} is there, and was not put there by medssl fetch. Move it away, or choose another --out.")


def _mark(final: Path, card: Card, address: Address) -> None:
    """Note in the folder what it is; the licence asks for this, and the next run skips it."""
    from medssl.writing import atomic_write

    facts = {
        "title": card.title,
        "licence": card.licence,
        "licence_url": card.licence_url,
        "source": card.source,
        "citation": card.citation,
        address.algorithm: address.checksum,
    }
    with atomic_write(final / _MARK, suffix=".json") as aside:
        aside.write_text(json.dumps(facts, indent=1, ensure_ascii=False), encoding="utf-8")
