"""The task of segmenting scans: structures or regions of label maps, scored in the geometry of their source files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medssl.domains.task import Basis, Labels, RunScores, Task, silent
from medssl.encoders.table import ENCODERS
from medssl.engine.card import Card
from medssl.errors import ConfigError, DataError, MedSSLError, did_you_mean
from medssl.evaluation.few_label import SEEDING, without_later
from medssl.evaluation.metrics import EMPTY_MASKS, SEGMENTATION_METRICS
from medssl.evaluation.score_table import ScoreTable
from medssl.evaluation.scoring import count_rows, empty_counts
from medssl.store.accepting import by_kind
from medssl.store.read import Store
from medssl.tasks.scored_masks import PREDICTED, find_predictions, score_predictions
from medssl.tasks.truths import Reference, read_reference, read_truth, scans_in, without_names

if TYPE_CHECKING:
    from medssl.tasks.segmentation import SegmentationTask
    from medssl.tasks.segmentation_prediction import SegmentationPredictor

__all__ = ["MaskTest", "ScanSegmentation", "chosen_structures", "tolerances_of"]


@dataclass(frozen=True, kw_only=True)
class MaskTest:
    """Label maps, and how predictions are compared with them.

    Attributes:
        reference: The cases.
        structures: Name of each label value that is scored.
        tolerance_mm: Tolerance of the surface Dice of each name.
        workers: Cases scored at a time; None takes one a processor.
    """

    reference: Reference
    structures: Mapping[int, str]
    tolerance_mm: Mapping[str, float]
    workers: int | None


class ScanSegmentation(Task):
    """Structures that exclude each other, or regions that overlap."""

    name = "segmentation"
    sees = "segmentation.window"
    learns = "medssl.tasks.learn_segmentation.SegmentationLearning"
    asks = ("overlap", "mirror")
    kind = "segmentation"
    noun = "case"
    maker = "segmenter"
    wanted = "labelled scans"
    summary = "scores.json"
    metrics = SEGMENTATION_METRICS
    metric = "dice"
    by_target = True
    reads = ("tolerance_mm", "tolerances_mm", "structures", "split", "metrics", "level")

    def as_in(self, card: Card) -> dict[str, Any]:
        """Return the window, and as many convolutions a stage as the decoder beside the encoder has."""
        return super().as_in(card) | {"segmentation.convs_per_stage": card.decoder_convs}

    def labels(self, store: Store, recipe: Any, *, group: str = "") -> Labels:
        """Return the scans with a label map."""
        return Labels(class_of=lambda entry: None if entry.label_file is None else "labelled")

    def load(self, run: Path) -> SegmentationTask:
        """Return a trained segmenter."""
        from medssl.tasks.segmenter import load_segmenter

        return load_segmenter(run)

    def predictor(self, runs: Sequence[Path], settings: Any, device: Any) -> SegmentationPredictor:
        """Return a segmenter, or several."""
        from medssl.tasks.segmentation_prediction import segmenters_of

        return segmenters_of(runs, settings, device)

    def claims(self, run: Path) -> bool:
        """Tell whether a run holds label maps; a folder of nothing else is taken where no other task claims it."""
        return (run / PREDICTED).is_dir() and bool(scans_in(run / PREDICTED))

    def test_set(self, data: Path, settings: Any, runs: Sequence[Path] = ()) -> MaskTest:
        """Return the label maps of a store, a manifest or a folder."""
        reference = read_reference(data)
        if runs and reference.of_split(settings.split).truths:
            reference = reference.named_as({case for run in runs for case in find_predictions(run)})
        reference = reference.of_split(settings.split)
        if not reference.truths:
            raise DataError(f"{data}: no labelled case in split '{settings.split}'. Choose another with split=NAME.")
        structures = chosen_structures(reference, settings.structures)
        tolerance = tolerances_of(structures, settings.tolerance_mm, settings.tolerances_mm)
        return MaskTest(
            reference=reference, structures=structures, tolerance_mm=tolerance, workers=settings.workers or None
        )

    def items(self, test: MaskTest) -> int:
        """Return how many cases are scored."""
        return len(test.reference.truths)

    def described(self, test: MaskTest, run: Path) -> str:
        """Return how many cases and structures are scored."""
        cases, structures = len(test.reference.truths), len(test.structures)
        return f"{cases:,} case{'s'[: cases != 1]}, {structures} structure{'s'[: structures != 1]}"

    def score(self, run: Path, test: MaskTest, progress: Callable[[str], None] = silent) -> RunScores:
        """Score every case; one that cannot be scored is listed with the reason."""
        rows, failed = score_predictions(
            find_predictions(run),
            test.reference,
            structures=test.structures,
            tolerance_mm=test.tolerance_mm,
            workers=test.workers,
            on_case=progress,
        )
        if not rows:
            raise DataError(
                f"{run}: no case could be scored ({len(failed)} failed; the first: "
                f"{next(iter(failed.values()), 'none was there')})."
            )
        counts = empty_counts(rows)
        return RunScores(
            table=ScoreTable.of_structures(rows, run=""),
            items=len(test.reference.truths) - len(failed),
            facts={
                "counts": {name: asdict(own) for name, own in counts.items()},
                "failed": {case: without_names(test.reference, case, why) for case, why in failed.items()},
            },
            failed=failed,
            counts=count_rows(counts),
        )

    def compared(self, settings: Any) -> tuple[str, ...]:
        """Return the metrics that were asked for."""
        return tuple(settings.metrics)

    def doubts(self, test: MaskTest, train: Store | None = None) -> list[str]:
        """Return which labels are not there, and which structures no scan to train on shows."""
        reference = test.reference
        if train is not None:
            return _unshown(train, reference, test.structures)
        found = [
            f"{len(scans)} labels are not scored, for the store refused them ({kind}), such as {scans[0]}"
            for kind, scans in by_kind(reference.refused).items()
        ]
        if not reference.by_patient:
            found.append(
                "Patients are not known, so every case counts as a patient of its own. A store or manifest knows."
            )
        return found

    def definitions(self, unit: str) -> dict[str, str]:
        """Return how empty masks are scored."""
        return {"empty": EMPTY_MASKS}

    def key(self, of: Basis) -> list[Any]:
        """Return recipe, encoder, scans, structures and tolerances."""
        own = {name: value for name, value in of.recipe.items() if name != "classification"}
        encoder = ENCODERS.settings_of(of.card.encoder).model_dump(mode="json")
        return [
            without_later({**own, "encoder": encoder, "card_window": of.window}),
            of.draws.seed,
            SEEDING,
            # the names of a store's files hold a hash of source and settings, and are the same on every machine
            [(e.id, e.patient, *e.files, e.label_file) for e in of.entries],
            sorted(of.test.structures.items()),
            of.test.tolerance_mm,
            *([sorted(of.draws.sets.items())] if of.draws.named else []),
        ]


def _unshown(train: Store, reference: Reference, structures: Mapping[int, str]) -> list[str]:
    """Return what is said of structures that are scored and that no labelled scan which may be drawn shows."""
    seen = frozenset[int]().union(*(train.structures_in(index) for index in range(len(train))))
    values = {region.name: region.values for region in reference.regions}
    lacking = [name for value, name in structures.items() if not seen & set(values.get(name, (value,)))]
    if not lacking:
        return []
    return [f"no labelled scan to train on shows {', '.join(lacking)}: no arm can learn it, and means hold its scores"]


def chosen_structures(reference: Reference, wanted: Sequence[str] | None) -> dict[int, str]:
    """Return the name of each structure to score, by its label value.

    Raises:
        ConfigError: If the data does not name one that is asked for.
        DataError: If there is no structure.
    """
    if reference.regions:
        known = {region.written: region.name for region in reference.regions}
    else:
        known = dict(reference.classes) or _values_found(reference)
    if wanted is None:
        return known
    numbers = {name: value for value, name in known.items()}
    for name in wanted:
        if name not in numbers:
            raise ConfigError(f"structures: the data names no '{name}'. {did_you_mean(name, numbers)}")
    return {numbers[name]: name for name in wanted}


def _values_found(reference: Reference) -> dict[int, str]:
    """Name structures by their numbers, from the label maps themselves, where the data names none."""
    values: set[int] = set()
    for truth in reference.truths:
        try:
            found = np.unique(read_truth(truth)[0])
        except (OSError, ValueError, MedSSLError):
            continue
        values |= {int(v) for v in found if v > 0}
    if not values:
        raise DataError("The label maps hold no structure: every voxel that could be read is background.")
    return {value: f"structure {value}" for value in sorted(values)}


def tolerances_of(structures: Mapping[int, str], usual_mm: float, special_mm: Mapping[str, float]) -> dict[str, float]:
    """Return the tolerance of the surface Dice of each structure by name, mm.

    Raises:
        ConfigError: If one is set for no structure, or is not above 0.
    """
    for name, tolerance in special_mm.items():
        if name not in structures.values():
            raise ConfigError(f"tolerances_mm.{name}: no such structure. {did_you_mean(name, structures.values())}")
        if tolerance <= 0:
            raise ConfigError(f"tolerances_mm.{name}: a tolerance is above 0 mm. Got {tolerance}.")
    return {name: special_mm.get(name, usual_mm) for name in structures.values()}
