"""The verb ``embed``: one vector for every scan or cloud of a store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medssl.domains.domain import Domain, domain_of_card, domains
from medssl.domains.groups import read_groups
from medssl.engine.card import load_card
from medssl.errors import ConfigError, DataError
from medssl.exporting.features import FeatureTable
from medssl.settings import Resolved, resolve
from medssl.workflows import events
from medssl.workflows.arms import report_command
from medssl.workflows.devices import device_named
from medssl.workflows.embed_settings import EmbedSettings
from medssl.workflows.embed_stages import grouped, joined, write_groups
from medssl.workflows.result import Result
from medssl.workflows.taking import takes_places
from medssl.writing import atomic_write, file_for

__all__ = ["EmbedSettings", "Embedded", "embed"]

_EMPTY = FeatureTable((), (), (), (), (), np.zeros((0, 0), np.float32))


@dataclass(frozen=True, kw_only=True)
class Embedded(Result):
    """What ``medssl.embed(...)`` returns.

    Attributes:
        table: The vectors, and what they are of; empty after a dry run.
    """

    table: FeatureTable


@takes_places
def embed(
    run: str | Path,
    *,
    data: str | Path,
    out: str | Path,
    preset: str | Path | None = None,
    overrides: Sequence[str] = (),
    dry_run: bool = False,
) -> Embedded:
    """Write one feature vector for every scan or cloud of a store, with its id, patient, split and classes.

    Args:
        run: A run with an encoder.
        data: The store.
        out: ``.parquet`` (a row a scan: id, patient, split, modality, windows, its classes, the run's name, vector) or
            ``.npz`` (the same as arrays, ``vectors`` float32 (scans, dim)); with ``groups`` a ``.csv`` (scan, group).
        preset: Settings by name or file.
        overrides: Settings as ``key=value``.
        dry_run: Only say what would be done; the table is then empty.

    Returns:
        The table of vectors, and where it was written.

    Raises:
        ConfigError: A setting is wrong, or ``out`` is neither kind of file.
        CheckpointError: The run has no finished encoder.
        CacheError, DataError: The store cannot be read, or no scan of it could be embedded.
    """
    resolved = resolve(EmbedSettings, preset=preset, overrides=overrides)
    settings = resolved.settings
    run, out = Path(run), file_for(out, *((".parquet", ".npz") if settings.groups is None else (".csv",)))
    if settings.within and settings.groups is None:
        raise ConfigError(f"within={settings.within} subdivides groups. Say how many clusters: groups=10.")
    former = read_groups(settings.within) if settings.within else None
    device = device_named(settings.device)
    cards = {folder: load_card(folder) for folder in (run, *map(Path, settings.join))}
    domain = domain_of_card(cards[run])
    _refuse_foreign(resolved, domain)
    store = _scans(domain.open(data), settings)
    tables = []
    for folder, card in cards.items():
        if domain_of_card(card) is not domain:
            raise ConfigError(f"{folder}: its encoder is not of {domain.noun}s, and cannot be joined to that of {run}.")
        domain.check_inputs(card, store, folder)
        for misfit in domain.vectors.misfits(card, store):
            events.warning(misfit)
        ready = domain.vectors.ready(folder, card, store, settings, device)
        events.message(ready.words)
        if dry_run:
            continue
        with events.progress(len(store), f"{domain.noun}s embedded") as bar:
            table, said = ready.embed(bar.advance)
        if said:
            events.message(said)
        for scan_id, reason in table.failed.items():
            events.warning(f"{scan_id}: {reason}")
        if not len(table):
            raise DataError(
                f"{data}: none of its {len(store)} {domain.noun}s could be embedded; the reasons are above."
            )
        tables.append(table)
    if dry_run:
        return events.written(Embedded(table=_EMPTY))
    table = joined(tables)
    if settings.groups is not None:
        groups = grouped(table, settings.groups, former=former, said=settings.within)
        write_groups(table, groups, out)
        sizes = sorted(Counter(groups).values())
        events.message(f"groups: {len(sizes)} of {sizes[0]} to {sizes[-1]} {domain.noun}s")
        return events.written(Embedded(table=table, written=(out,), figures={"scans": len(table), "sizes": sizes}))
    _write(table, out, "+".join(folder.resolve().name for folder in cards))
    figures = {"scans": len(table), "dimensions": int(table.vectors.shape[1]), "failed": table.failed}
    return events.written(Embedded(table=table, written=(out,), next=report_command([run], out), figures=figures))


def _refuse_foreign(resolved: Resolved[EmbedSettings], own: Domain) -> None:
    """See that nothing was set that means nothing for this kind of data."""
    for other in domains():
        given = [key for key in other.vectors.own if key not in own.vectors.own and resolved.origins[key] != "default"]
        if given:
            raise ConfigError(
                f"The run's encoder is of {own.noun}s; for {other.noun}s alone is: {', '.join(given)}. Leave out."
            )


def _scans(store: Any, settings: EmbedSettings) -> Any:
    """Return the scans or clouds of the wanted splits."""
    if settings.splits is None:
        return store
    chosen = [entry.id for entry in store.entries if entry.split in settings.splits]
    if not chosen:
        found = sorted({entry.split or "(unassigned)" for entry in store.entries})
        raise DataError(f"{store.folder}: no scan is in the splits {list(settings.splits)}; it has {', '.join(found)}.")
    return store.subset(chosen)


def _write(table: FeatureTable, path: Path, run: str) -> None:
    """Write the table, and the name of the run whose encoder it is of, aside and rename it."""
    columns = {**table.columns(), "run": [run] * len(table)}
    with atomic_write(path) as aside:
        if path.suffix == ".npz":
            arrays: dict[str, Any] = {name: np.array(_told(values)) for name, values in columns.items()}
            np.savez(aside, vectors=table.vectors, **arrays)
        else:
            import polars

            series = polars.Series("vector", table.vectors.tolist(), dtype=polars.List(polars.Float32))
            polars.DataFrame(columns).with_columns(series).write_parquet(aside)


def _told(values: Sequence[Any]) -> list[Any]:
    """Return values for an array of text: what is not known is ""."""
    return ["" if value is None else value for value in values]
