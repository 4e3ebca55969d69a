"""Fine-tuning for classification: scans, slices or sets of slices with classes, and a table of probabilities."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from torch import nn

from medssl.encoders.table import build_encoder
from medssl.engine.run import Run
from medssl.errors import DataError
from medssl.evaluation.calibration import Decision, decide, probabilities
from medssl.evaluation.classes import CLASS_METRICS, class_scores
from medssl.store.read import Store
from medssl.tasks.class_inference import ClassLogits, predict_classes
from medssl.tasks.class_loading import ClassLoader, class_batches
from medssl.tasks.class_samples import Samples, class_names, class_of_scan, class_weights, samples_of
from medssl.tasks.classification import ClassificationTask
from medssl.windows import WindowBatch
from pipelines import console
from pipelines.finetune_scans import choose_scans
from pipelines.finetune_settings import FinetuneSettings, carry_encoder, few_words, fresh_weights

__all__ = ["PREDICTIONS", "ClassificationJob", "Classified", "prediction_table"]

Triple = tuple[int, int, int]
PREDICTIONS = "predictions.csv"
_WATCHED = 64  # held-out samples that are looked at while training


@dataclass(frozen=True)
class Classified:
    """The table that was written, and scores on the held-out scans."""

    predictions: tuple[Path, ...]
    shown: Path | None
    scores: dict[str, float] | None


class ClassificationJob:
    """One classification run.

    Args:
        settings: Of the run.
        store: All scans.

    Raises:
        ConfigError: Target, structure, classes or window do not fit the store or the encoder.
        DataError: A class has no patient to train on.
    """

    def __init__(self, settings: FinetuneSettings, store: Store) -> None:
        self.settings, chosen = settings, settings.classification
        self.classes = class_names(store, chosen)
        self.scans = choose_scans(
            store,
            settings.data,
            class_of=lambda entry: class_of_scan(entry, chosen),
            wanted="targets",
            every_held_out=True,
        )
        self.train = samples_of(self.scans.train, chosen, self.classes).known()
        bare = [name for name, count in self.train.counts().items() if not count]
        if bare:
            raise DataError(
                f"{store.folder}: no patient to train on has the class {', '.join(bare)}. Choose other splits, or "
                "leave the class out with classification.classes."
            )
        weights = class_weights(self.train) if chosen.balance == "weights" else None
        with fresh_weights(settings.train.seed):
            encoder = build_encoder(settings.encoder)
            self.method = ClassificationTask(chosen, encoder, self.classes, weights=weights)
        self.reports = carry_encoder(settings.transfer, encoder)
        self.entries = self.scans.train.entries

    @property
    def window(self) -> Triple:
        """What the network sees at once."""
        return self.settings.classification.window

    def loader(self, *, rank: int, world_size: int, pin: bool) -> ClassLoader:
        """Return this rank's batches."""
        train = self.settings.train
        return ClassLoader(
            self.train, self.settings.classification, batch_size=train.batch_size, seed=train.seed, rank=rank,
            world_size=world_size, threads=train.threads, pin=pin,
        )  # fmt: skip

    def held_out(self) -> list[WindowBatch]:
        """Return some held-out samples."""
        samples = self._samples(self.scans.held_out).known() if self.scans.held_out else None
        if not samples or not len(samples):
            return []
        return list(class_batches(samples, self.settings.classification, self.settings.train.batch_size, _WATCHED))

    def lines(self) -> tuple[str, str]:
        """Return what is said of the data and of the network before the run."""
        scans, settings, chosen = self.scans, self.settings, self.settings.classification
        patients = len(set(self.train.patients()))
        what = chosen.target or f"structure {chosen.shows} in a {'slice' if chosen.level == 'slice' else 'scan'}"
        counts = ", ".join(f"{name} {count}" for name, count in self.train.counts().items())
        unit = {"volume": "scans", "slice": "slices", "set": "scans as sets of slices"}[chosen.level]
        watched = f"{len(scans.held_out)} held out" if scans.held_out else "none held out"
        predicted = f"{len(scans.predict)} to predict" if scans.predict else "none to predict"
        left = f"; {scans.left_out} without a class left out" if scans.left_out else ""
        start = f"{', '.join(r.part for r in self.reports)} of {settings.transfer.run}" if self.reports else "scratch"
        count = sum(p.numel() for p in self.method.parameters())
        frozen = ", frozen" if chosen.frozen else ""
        return (
            f"store: {settings.data.store}: {len(self.entries)} scans of {patients} patients{few_words(settings)}; "
            f"{watched}, {predicted}{left}",
            f"classifier of {what}, by {unit} ({counts}): {settings.encoder.name} encoder{frozen}, {count:,} "
            f"parameters, from {start}",
        )

    def described(self, start: str) -> dict[str, Any]:
        """Return the card's ``method``."""
        return self.method.described(start=start)

    def kept(self) -> Mapping[str, nn.Module]:
        """Return what is kept beside the encoder."""
        return {"network": self.method.network}

    def finish(self, out: Path, run: Run, fabric: Fabric) -> Classified:
        """Choose temperature and threshold on the held-out scans and write the predictions, on the first rank."""
        if not run.writes:
            return Classified((), None, None)
        held_out, asked = (self._logits(s, fabric, what) for s, what in
                           ((self.scans.held_out, "held-out"), (self.scans.predict, "test")))  # fmt: skip
        chosen = self.settings.classification.calibrate and held_out is not None
        decision = decide(held_out.logits, held_out.truth) if chosen and held_out is not None else self._undecided()
        if not decision.cases:
            run.say("no held-out scan: probabilities are not calibrated, and the likeliest class is predicted")
        scores = None if held_out is None else self._scores(held_out, decision, run)
        run.write_text("decision.json", json.dumps(asdict(decision), indent=1) + "\n")
        parts = [part for part in (held_out, asked) if part is not None]
        if not parts:
            return Classified((), None, scores)
        run.write_text(PREDICTIONS, prediction_table(parts, self.classes, decision))
        path = out / PREDICTIONS
        return Classified((path,), path, scores)

    def _undecided(self) -> Decision:
        return Decision(threshold=0.5 if len(self.classes) == 2 else None)

    def _samples(self, store: Store) -> Samples:
        return samples_of(store, self.settings.classification, self.classes)

    def _logits(self, store: Store | None, fabric: Fabric, what: str) -> ClassLogits | None:
        if store is None:
            return None
        samples = self._samples(store)
        with console.progress(len(samples), f"{what} samples classified") as bar, fabric.autocast():
            return predict_classes(
                self.method, samples, batch_size=self.settings.train.batch_size, device=fabric.device,
                progress=bar.advance,
            )  # fmt: skip

    def _scores(self, found: ClassLogits, decision: Decision, run: Run) -> dict[str, float]:
        """Say how well the held-out scans were told apart, before and after calibration; keep it in validation.json."""
        known = found.truth >= 0
        logits, truth = found.logits[known], found.truth[known]
        if not len(truth):
            return {}
        probability = probabilities(logits, decision.temperature)
        scores = class_scores(probability, truth, decision.predicted(probability))
        before = class_scores(probabilities(logits), truth, probabilities(logits).argmax(axis=1))["ece"]
        content = {
            "split": self.settings.data.held_out_split,
            "scans": len(set(found.ids)),
            "cases": len(truth),
            "scores": {name: None if value != value else value for name, value in scores.items()},
            "ece_before": before,
            "decision": asdict(decision),
            "note": "temperature and threshold were chosen on these very cases",
        }
        run.write_text("validation.json", json.dumps(content, indent=1) + "\n")
        rows = [[name, "-" if scores[name] != scores[name] else f"{scores[name]:.3f}"] for name in CLASS_METRICS]
        threshold = "" if decision.threshold is None else f", threshold {decision.threshold:.3f}"
        console.table(
            f"{len(set(found.ids))} held-out scans; temperature {decision.temperature:.2f}{threshold} chosen on them "
            f"(ECE before: {before:.3f})",
            ["Metric", "Score"],
            rows,
            key="held_out",
        )
        return scores


def prediction_table(parts: Sequence[ClassLogits], classes: Sequence[str], decision: Decision) -> str:
    """Return predictions as CSV.

    Columns: id, patient, split, slice (empty for a scan), attended (of a set, the slice that weighed most), truth
    (empty where unknown), predicted, and ``p_CLASS`` for each class, calibrated.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["id", "patient", "split", "slice", "attended", "truth", "predicted", *(f"p_{name}" for name in classes)]
    )
    for part in parts:
        probability = probabilities(part.logits, decision.temperature)
        predicted = decision.predicted(probability)
        for row in range(len(part)):
            place, attended = (v if v >= 0 else "" for v in (part.slices[row], part.attended[row]))
            truth = classes[part.truth[row]] if part.truth[row] >= 0 else ""
            writer.writerow(
                [part.ids[row], part.patients[row], part.splits[row], place, attended, truth, classes[predicted[row]]]
                + [f"{value:.6g}" for value in probability[row]]
            )
    return text.getvalue()
