"""The task of classifying scans: by a target, or by whether a structure is shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medssl.domains.class_task import ClassTask
from medssl.domains.task import Basis, Labels
from medssl.evaluation.few_label import SEEDING, without_later
from medssl.store.read import Store
from medssl.tasks.class_samples import class_names, class_of_scan

if TYPE_CHECKING:
    from medssl.tasks.classification import ClassificationTask
    from medssl.tasks.classification_prediction import ClassificationPredictor

__all__ = ["ScanClassification"]


class ScanClassification(ClassTask):
    """Scans, slices or sets of slices with classes."""

    noun = "case"
    sees = "classification.window"
    learns = "medssl.tasks.learn_classification.ClassificationLearning"
    wanted = "scans of known class"

    def labels(self, store: Store, recipe: Any, *, group: str = "") -> Labels:
        """Return the scans whose target is known, or of which it is known whether they show a structure."""
        asked = recipe.classification
        classes = class_names(store, asked, group=f"{group}classification")
        return Labels(
            class_of=lambda entry: class_of_scan(entry, asked),
            asked=f"{asked.target or f'structure {asked.shows}'} ({', '.join(classes)})",
            facts={"target": asked.target or f"whether structure {asked.shows} is shown", "classes": classes},
        )

    def load(self, run: Path) -> ClassificationTask:
        """Return a trained classifier."""
        from medssl.tasks.classifier import load_classifier

        return load_classifier(run)

    def predictor(self, runs: Sequence[Path], settings: Any, device: Any) -> ClassificationPredictor:
        """Return a classifier, or several."""
        from medssl.tasks.classification_prediction import classifiers_of

        return classifiers_of(runs, settings.batch_size, device)

    def key(self, of: Basis) -> list[Any]:
        """Return recipe, encoder, window, scans and draws."""
        own = {name: value for name, value in of.recipe.items() if name not in ("segmentation", "inference")}
        listed = [(e.id, e.patient, *e.files, e.label_file, e.targets) for e in of.entries]
        draws = sorted(of.draws.sets.items())
        return [without_later(own), without_later(of.card.encoder), of.window, SEEDING, listed, draws]
