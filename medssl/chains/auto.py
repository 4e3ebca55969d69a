"""``medssl auto``: the whole chain on a folder of scans or clouds, with defaults that it explains."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medssl.chains.auto_chain import AutoChain, AutoResult
from medssl.chains.auto_settings import AutoSettings
from medssl.chains.auto_stages import StageRunner, Stages
from medssl.domains.domain import Domain, domains
from medssl.errors import DataError
from medssl.locking import holds
from medssl.settings import resolve
from medssl.workflows import events
from medssl.workflows.export_targets import EXPORTS, check_export
from medssl.workflows.intake import clouds
from medssl.workflows.taking import takes_places
from medssl.workflows.verbs import function_of
from medssl.writing import folder_for

if TYPE_CHECKING:
    from medssl.manifest.schema import Manifest

__all__ = ["AutoResult", "AutoSettings", "auto"]


@takes_places
@holds("medssl auto", lambda given: Path(given["out"]))
def auto(
    scans: str | Path,
    *,
    out: str | Path,
    budget: str | None = None,
    method: str | None = None,
    labels: int | None = None,
    export: Sequence[str] = (),
    preset: str | Path | None = None,
    overrides: Sequence[str] = (),
    overwrite: bool = False,
    dry_run: bool = False,
) -> AutoResult:
    """Run every step on a folder of scans or point clouds: manifest, checks, store, encoder, scratch, report.

    From scans with label maps a segmenter is learned, from scans or clouds with classes a classifier, from clouds whose
    points have classes a segmenter of parts; each against the same network from scratch. Without labels the chain ends
    with the encoder and a vector for everything.

    The same call goes on where an earlier one stopped, however it was stopped: a stage whose inputs have not changed
    is not done again, a training run that was killed resumes. Where inputs have changed, old runs are moved aside.

    Args:
        scans: A folder of scans or clouds, or a CSV that lists them; whatever ``index`` takes.
        out: The output folder.
        budget: "minutes", "small", "medium" or "large": how much is trained.
        method: Pretraining method; decided from the data when None.
        labels: Patients whose labels fine-tuning uses; all training patients when None.
        export: Forms that the network is exported to at the end, such as "onnx" and "monai"; as ``to`` of ``export``.
        preset: Settings by name or file.
        overrides: ``key=value``; see ``medssl show auto``.
        overwrite: Train again; earlier runs are moved aside, nothing is deleted.
        dry_run: Say what would be decided, from headers alone; write nothing.

    Returns:
        Where everything is, what was decided, and how the encoder compares.

    Raises:
        ConfigError: A setting is wrong, or means nothing for this kind of data.
        DataError: There is nothing that can be used.
        Interrupted: Training was told to stop; the same call goes on.
    """
    options = {"budget": budget, "method": method, "labels": labels, "export": tuple(export) or None}
    resolved = resolve(AutoSettings, preset=preset, overrides=list(overrides), command_line=options)
    scans, out, settings = Path(scans), folder_for(out), resolved.settings
    _refuse_exports(scans, settings)
    hand = StageRunner(Stages(out / "stages.json"), anew=overwrite)
    manifest = _headers(scans, settings) if dry_run else _indexed(scans, out, settings, hand)
    chain = AutoChain(_domain_for(manifest, scans), scans, out, resolved, hand)
    return chain.plan(manifest) if dry_run else chain.run(manifest)


def _refuse_exports(scans: Path, settings: AutoSettings) -> None:
    """Refuse a form of export that this kind of data has not, before anything else is done.

    Raises:
        ConfigError: One was asked for.
    """
    every = {domain.name for domain in domains()}
    if any(every - set(EXPORTS[form].domains) for form in settings.export):
        with events.aside():
            held = _domain_for(_headers(scans, settings), scans)
        for form in settings.export:
            check_export(form, what=str(scans), domain=held)


def _headers(scans: Path, settings: AutoSettings) -> Manifest:
    """Return the manifest as headers alone give it; write nothing."""
    from medssl.manifest.build import Targets, build_manifest

    manifest, _ = build_manifest(
        scans,
        depth="header",
        modality=settings.modality,
        patient_pattern=settings.patient_pattern,
        val=settings.val,
        test=settings.test,
        seed=settings.seed,
        channels=settings.channels,
        clouds=clouds().reader(unit=settings.unit),
        targets=Targets(file=Path(settings.targets)) if settings.targets else None,
    )
    return manifest


def _indexed(scans: Path, out: Path, settings: AutoSettings, hand: StageRunner) -> Manifest:
    """Write the manifest."""
    words = [f"modality={settings.modality}"] if settings.modality else []
    words += [f"patient_pattern={settings.patient_pattern}"] if settings.patient_pattern else []
    words += [f"targets={settings.targets}"] if settings.targets else []
    words += [f"unit={settings.unit}"] if settings.unit else []
    words += [f"channels={settings.channels}"] if settings.channels != "auto" else []
    words += [f"val={settings.val}", f"test={settings.test}", f"seed={settings.seed}"]
    words += [f"workers={settings.workers}"] if settings.workers else []
    file = out / "manifest.parquet"
    hand.head("index", "list everything, one row per scan or cloud")
    hand.command("index", scans, *words, "--out", file)
    with events.part("index"):
        manifest: Manifest = function_of("index")(scans, out=file, overrides=words).manifest
    return manifest


def _domain_for(manifest: Manifest, scans: Path) -> Domain:
    """Return the kind of data that most patients or objects have.

    Raises:
        DataError: Nothing can be used.
    """
    owners: dict[str, set[str]] = {domain.kind: set() for domain in domains()}
    for row in manifest.rows():
        if row["error"] is None and row["kind"] in owners:
            owners[row["kind"]].add(row["patient"] or row["id"])
    if not any(owners.values()):
        raise DataError(
            f"{scans}: none of the {len(manifest)} scans can be used. The reasons are listed above, and in "
            f"full by: medssl index {shlex.quote(str(scans))} --out manifest.parquet"
        )
    chosen = max(domains(), key=lambda domain: len(owners[domain.kind]))
    for other in domains():
        if other is not chosen and owners[other.kind]:
            events.warning(
                f"{scans} holds {chosen.noun}s and {other.noun}s: the {chosen.noun}s are used, the {other.noun}s are "
                "ignored; put each kind in its own folder"
            )
    return chosen
