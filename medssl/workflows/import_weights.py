"""The verb ``import``: from a file of published weights to a run that every other verb takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from medssl.command import Command
from medssl.engine.card import Card
from medssl.errors import ConfigError
from medssl.locking import LOCK, holds
from medssl.store.fitting import cache_line
from medssl.weights.importing import Ready, ready, write_run
from medssl.weights.renaming import ImportReport
from medssl.weights.shared import Shared, shared_folder
from medssl.workflows import events
from medssl.workflows.result import Result
from medssl.workflows.taking import takes_places
from medssl.writing import folder_for

__all__ = ["ImportResult", "import_weights"]


@dataclass(frozen=True)
class ImportResult(Result):
    """What ``medssl.import_weights`` returns.

    Attributes:
        folder: The run.
        source: Row of the table of published weights.
        card: Its card.
        report: What became of every tensor.
    """

    folder: Path
    source: str
    card: Card
    report: ImportReport

    @property
    def place(self) -> Path | None:
        """The run's folder; None after a dry run."""
        return self.folder if self.written else None


@takes_places
@holds("medssl import", lambda given: Path(given["out"]))
def import_weights(
    weights: str | Path, *, out: str | Path, named: str = "", overwrite: bool = False, dry_run: bool = False
) -> ImportResult:
    """Convert published weights to a run, which every verb accepts like a pretraining run.

    Nothing in the file is executed. Each tensor is carried over, or left out for a reason that the report
    names; one that has no place is an error, and so is one that is missing.

    Args:
        weights: The file, or the folder that holds it beside its plans.
        out: The run's folder, new or empty.
        named: Row of ``medssl list weights``; "" recognises it by its tensors.
        overwrite: Move what is in ``out`` aside.
        dry_run: Read and compare; write nothing.

    Returns:
        The run.

    Raises:
        FormatError: The file cannot be read, or holds more than weights.
        ConfigError: It is not recognised, or as several, or a part of a run; or ``out`` is not empty.
        DataError: Its tensors are not those of the network that it is of.
    """
    out = folder_for(out)
    _refuse_full(out, overwrite=overwrite)
    _refuse_own(Path(weights), out)
    if not named and (shared := shared_folder(Path(weights))) is not None:
        return _taken_over(shared, out, overwrite=overwrite, dry_run=dry_run)
    made = ready(Path(weights), named=named)
    for line in _lines(made):
        events.message(line)
    for guess in made.wanted.guesses:
        events.message(f"a guess: {guess}")
    origin = made.card.origin
    if origin is not None:
        events.message(f"{origin.licence_line}{_limits(origin.limits)}")
    if dry_run:
        return events.written(ImportResult(out, made.source.name, made.card, made.report))
    _make_way(out, overwrite=overwrite)
    written = write_run(made, out)
    if fitting := cache_line(made.card):
        events.message(f"to make a store that fits: {fitting}")
    segments = made.card.method.get("name") == "segmentation"
    tuned = Command("finetune", out, "--data", "STORE", "--out", f"{out}-tuned")
    return events.written(
        ImportResult(
            out,
            made.source.name,
            made.card,
            made.report,
            written=tuple(written),
            next=Command("predict", out, "SCANS", "--out", "PREDICTIONS") if segments else tuned,
            figures={"run": str(out), "source": made.source.name, "shares": dict(made.report.shares)},
        )
    )


def _taken_over(shared: Shared, out: Path, *, overwrite: bool, dry_run: bool) -> ImportResult:
    """Make a run of a folder that was exported from one."""
    kept = ", ".join(shared.weights)
    events.message(f"recognised: a run, exported by medssl ({kept}; encoder {shared.card.encoder['name']})")
    report = ImportReport((), dict.fromkeys(shared.weights, 1.0))
    found = ImportResult(out, "medssl", shared.card, report)
    if dry_run:
        return events.written(found)
    _make_way(out, overwrite=overwrite)
    written = shared.write(out)
    tuned = Command("finetune", out, "--data", "STORE", "--out", f"{out}-tuned")
    return events.written(
        replace(
            found,
            written=tuple(written),
            next=Command("predict", out, "SCANS", "--out", "PREDICTIONS") if "network" in shared.weights else tuned,
            figures={"run": str(out), "source": "medssl"},
        )
    )


def _lines(made: Ready) -> list[str]:
    """Return what was recognised, why, and what became of the tensors."""
    encoder = made.card.encoder
    kept = " and ".join(name for name in made.modules)
    return [
        f"recognised: {made.source.name}, {made.source.title}",
        *(f"  {line}" for line in made.wanted.evidence),
        f"it becomes {kept}; encoder {encoder['name']}, {_count(made):,} numbers",
        *made.report.lines(),
    ]


def _count(made: Ready) -> int:
    """Return how many numbers are trained, those of an encoder within a network once."""
    whole = made.modules.get("network")
    modules = [whole] if whole is not None else list(made.modules.values())
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def _limits(limits: tuple[str, ...]) -> str:
    said = [limit for limit in limits if limit != "unknown"]
    asked = "; see the page of the weights" if "unknown" in limits else ""
    return (f" ({', '.join(said)})" if said else "") + asked


def _refuse_own(weights: Path, out: Path) -> None:
    """Refuse a single file of a run: the run itself is what every verb takes.

    Raises:
        ConfigError: It is one.
    """
    run = weights.parent
    if weights.stem in ("encoder", "decoder", "network") and weights.is_file() and (run / "card.json").is_file():
        raise ConfigError(
            f"{weights}: this is a part of {run}, which is a run already: give that folder to finetune, evaluate, "
            f"embed or export as it is. For a copy of it: {Command('import', run, '--out', out)}"
        )


def _refuse_full(out: Path, *, overwrite: bool) -> None:
    if not overwrite and out.is_dir() and any(path.name != LOCK for path in out.iterdir()):
        raise ConfigError(f"{out} is not empty. Choose another --out, or move it aside with --overwrite.")


def _make_way(out: Path, *, overwrite: bool) -> None:
    if overwrite and out.is_dir() and any(path.name != LOCK for path in out.iterdir()):
        aside = next(p for n in range(1_000_000) if not (p := out.with_name(f"{out.name}.old{n or ''}")).exists())
        out.rename(aside)
        events.message(f"{out} was moved to {aside}")
    out.mkdir(parents=True, exist_ok=True)
