"""``medssl evaluate``: scores of predictions in the source geometry, with intervals and paired tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medssl.errors import ConfigError, DataError, did_you_mean
from medssl.evaluation.metrics import EMPTY_MASKS, SEGMENTATION_METRICS
from medssl.evaluation.score_table import ScoreTable
from medssl.evaluation.scoring import EmptyCounts, StructureScore, count_rows, empty_counts
from medssl.evaluation.statistics.naming import of_what
from medssl.evaluation.statistics.summary_file import as_json
from medssl.locking import holds, part_of
from medssl.quoting import quoted
from medssl.reporting.prose import counted
from medssl.settings import resolve
from medssl.store.index import INDEX
from pipelines import console
from pipelines.evaluate_classes import evaluate_classes, is_classification
from pipelines.evaluate_parts import evaluate_parts, is_part_segmentation
from pipelines.evaluate_settings import EvaluateSettings, FewLabelSettings, chosen_structures, tolerances_of
from pipelines.predict_command import predict_command
from pipelines.refusals import by_kind
from pipelines.run_classes import change_between, labelled_patients_of, unseen_of
from pipelines.score_files import Scored, found_in, show_comparisons, show_notes, show_scores, write_scores
from pipelines.scored_cases import find_predictions, read_reference, score_predictions
from pipelines.truths import without_names
from pointcloud.store import CloudStore

__all__ = ["EvaluateSettings", "FewLabelSettings", "evaluate"]

PROTOCOLS = ("few-label", "probe")


@holds("medssl evaluate", lambda given: part_of(given["out"] or given["run"], shard=given["shard"]))
def evaluate(
    run: str | Path,
    *,
    data: str | Path,
    out: str | Path | None = None,
    against: Sequence[str | Path] = (),
    protocol: str | None = None,
    preset: str | Path | None = None,
    overrides: Sequence[str] = (),
    shard: str | None = None,
    dry_run: bool = False,
) -> Any:
    """Score a run's predictions; with other runs, test it against them; or run a whole protocol.

    Args:
        run: A fine-tuning run, or a folder of predictions. For a protocol a pretraining run.
        data: The store that the run was fitted on, a manifest, or a folder of label maps.
        out: Where scores.parquet and scores.json go; the run's own folder when None.
        against: Runs to compare with, such as the one from scratch. For a protocol: further pretraining runs; for
            "probe" also "random", the first run's architecture with fresh weights.
        protocol: None; "few-label", which fine-tunes; or "probe", which leaves encoders as they are.
        preset: Settings by name or file.
        overrides: Settings as ``key=value``.
        shard: "i/k", few-label only: run the i-th of k parts of the cells, such as 2/4, so that k processes share them.
        dry_run: Say what would be done; write nothing.

    Returns:
        `score_files.Scored`; for the few-label protocol a `FewLabelOutcome` that holds one.

    Raises:
        ConfigError: If a setting is wrong.
        DataError: If there is nothing to score.
    """
    settings = resolve(EvaluateSettings, preset=preset, overrides=overrides).settings
    if protocol is not None:
        if protocol not in PROTOCOLS:
            raise ConfigError(f"Unknown protocol '{protocol}'. {did_you_mean(protocol, PROTOCOLS)}")
        if protocol == "probe":
            return _probe(Path(run), Path(data), out, [Path(a) for a in against], settings, shard, dry_run)
        from pipelines.few_label import few_label

        target = Path(out) if out is not None else Path("runs/few-label")
        return few_label([Path(run), *map(Path, against)], data=Path(data), out=target, settings=settings,
                         shard=shard, dry_run=dry_run)  # fmt: skip
    if shard is not None:
        raise ConfigError("--shard shares out the cells of --protocol few-label. Plain scoring needs none.")
    if is_part_segmentation(Path(run)):
        return _evaluate_parts(Path(run), Path(data), Path(out or run), [Path(a) for a in against], settings, dry_run)
    if is_classification(Path(run)):
        return _evaluate_classes(Path(run), Path(data), Path(out or run), [Path(a) for a in against], settings, dry_run)
    if CloudStore.is_cloud_store(data) and not (Path(data) / INDEX).is_file():
        raise DataError(
            f"{run}: no classes or parts of clouds were predicted here. Give a run of medssl finetune, or try a "
            "pretraining run with --protocol probe or few-label."
        )
    return _evaluate(Path(run), Path(data), Path(out or run), [Path(a) for a in against], settings, dry_run)


def _evaluate(
    run: Path, data: Path, out: Path, against: Sequence[Path], settings: EvaluateSettings, dry_run: bool
) -> Scored:
    reference = read_reference(data)
    runs = dict(zip(_names([run, *against]), [run, *against], strict=True))
    if reference.of_split(settings.split).truths:
        predictions = {name: find_predictions(folder) for name, folder in runs.items()}
        reference = reference.named_as({case for found in predictions.values() for case in found})
    reference = reference.of_split(settings.split)
    if not reference.truths:
        raise DataError(f"{data}: no labelled case in split '{settings.split}'. Choose another with split=NAME.")
    structures = chosen_structures(reference, settings)
    tolerance = tolerances_of(structures, settings)
    console.say(
        f"{counted(len(reference.truths), 'case')}, {counted(len(structures), 'structure')}, "
        f"{counted(len(runs), 'run')}: {', '.join(runs)}"
    )
    if dry_run:
        console.done(None, f"medssl evaluate {quoted(run)} --data {quoted(data)}")
        return Scored()
    for kind, scans in by_kind(reference.refused).items():
        console.warn(f"{len(scans)} labels are not scored, for the store refused them ({kind}), such as {scans[0]}")
    if not reference.by_patient:
        console.warn("Patients are not known, so every case counts as a patient of its own. A store or manifest knows.")

    scores: dict[str, list[StructureScore]] = {}
    failed: dict[str, dict[str, str]] = {}
    with settings.limits(), console.progress(len(reference.truths) * len(runs), "cases scored") as bar:
        for name in runs:
            scores[name], failed[name] = score_predictions(
                predictions[name],
                reference,
                structures=structures,
                tolerance_mm=tolerance,
                workers=settings.workers or None,
                on_case=lambda case: bar.advance(note=case),
            )
    for name, cases in failed.items():
        for case, reason in cases.items():
            console.warn(f"{name}: case {case} has no score: {reason}")
        if not scores[name]:
            raise DataError(f"{runs[name]}: no case could be scored ({len(cases)} failed; the first: "
                            f"{next(iter(cases.values()), 'none was there')}).")  # fmt: skip
    labels = labelled_patients_of(runs.values())
    first = next(iter(runs))
    table = ScoreTable.joined(ScoreTable.of_structures(rows, run=name, labels=labels) for name, rows in scores.items())
    found = found_in(
        table, [(first, name) for name in runs if name != first], metrics=SEGMENTATION_METRICS,
        compared=settings.metrics, level=settings.level, pooled=False, targets=True, change=change_between(runs),
    )  # fmt: skip
    unseen = {name: lacking for name, folder in runs.items() if (lacking := unseen_of(folder))}
    for name, lacking in unseen.items():
        console.warn(
            f"{name}: no scan that it was trained on shows {', '.join(lacking)}; scores of it are of nothing that was "
            "learned, and the mean over structures holds them"
        )
    counts = {name: empty_counts(rows) for name, rows in scores.items()}
    _show(found, counts, unseen)
    content = {
        "settings": settings.model_dump(mode="json", exclude={"few_label", "probe"}),
        "definitions": {"empty": EMPTY_MASKS},
        "runs": {
            name: {
                "counts": counts[name],
                "failed": {case: without_names(reference, case, why) for case, why in failed[name].items()},
                **({"untrained": unseen[name]} if name in unseen else {}),
            }
            for name in runs
        },
    }
    files = write_scores(
        found, out, "scores.json", kind="segmentation", unit="patient", metrics=SEGMENTATION_METRICS, content=content
    )
    console.tell(scores=as_json(found.scores), comparisons=as_json(found.comparisons), failed=failed)
    console.done(files, f"medssl report {quoted(*runs.values())}", on_new=predict_command(run))
    return replace(found, failed=failed, files=files)


def _probe(
    run: Path,
    data: Path,
    out: str | Path | None,
    against: Sequence[Path],
    settings: EvaluateSettings,
    shard: str | None,
    dry_run: bool,
) -> Scored:
    from pointcloud.store import CloudStore

    if shard is not None:
        raise ConfigError("--shard shares out the cells of --protocol few-label. A probe takes no such time.")
    if not CloudStore.is_cloud_store(data):
        from pipelines.probe_scans import probe_scans

        target = Path(out) if out is not None else Path("runs/probe")
        return probe_scans([run, *against], data=data, out=target, settings=settings, dry_run=dry_run)
    from pipelines.evaluate_probe import evaluate_probe

    runs = dict(zip(_names([run, *against]), [run, *against], strict=True))
    return evaluate_probe(runs, data, Path(out) if out is not None else run, settings, dry_run=dry_run)


def _evaluate_classes(
    run: Path, data: Path, out: Path, against: Sequence[Path], settings: EvaluateSettings, dry_run: bool
) -> Scored:
    for folder in against:
        if not is_classification(folder):
            raise ConfigError(f"{folder}: no classifier's run, and {run} is one. Compare runs of one task.")
    runs = dict(zip(_names([run, *against]), [run, *against], strict=True))
    noun = "cloud" if CloudStore.is_cloud_store(data) else "scan"
    return evaluate_classes(runs, out, split=settings.split or "test", level=settings.level, noun=noun, dry_run=dry_run)


def _evaluate_parts(
    run: Path, data: Path, out: Path, against: Sequence[Path], settings: EvaluateSettings, dry_run: bool
) -> Scored:
    for folder in against:
        if not is_part_segmentation(folder):
            raise ConfigError(f"{folder}: no run of parts of clouds, and {run} is one. Compare runs of one task.")
    runs = dict(zip(_names([run, *against]), [run, *against], strict=True))
    split = settings.split or "test"
    return evaluate_parts(runs, data, out, split=split, level=settings.level, dry_run=dry_run)


def _names(folders: Sequence[Path]) -> list[str]:
    """Return a short name for each run that tells them apart: the last parts of its path, as few as will do."""
    parts = [folder.resolve().parts for folder in folders]
    for depth in range(1, max(len(p) for p in parts) + 1):
        names = ["/".join(p[-depth:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    raise ConfigError("A run cannot be compared with itself. Name each run once.")


def _show(found: Scored, counts: Mapping[str, Mapping[str, EmptyCounts]], unseen: Mapping[str, Sequence[str]]) -> None:
    for name, own in counts.items():
        lacking = unseen.get(name, ())
        rows = [
            replace(s, target=f"{s.target or 'mean'}{' (untrained)' if s.target in lacking else ''}")
            for s in found.scores
            if s.arm == name
        ]
        show_scores(replace(found, scores=rows), title=f"{name}: mean over patients", unit="patient", key=name)
        console.table(f"{name}: cases", *count_rows(own), key=f"cases_{name}")
    show_comparisons(found, unit="patient", of=of_what({"kind": "segmentation"}, found.table))
    show_notes(found, SEGMENTATION_METRICS)
    console.say(f"empty: {EMPTY_MASKS}")
