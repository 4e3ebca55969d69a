"""Fine-tuning on clouds: a part for each point."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from lightning_fabric import Fabric

from medssl.domains.learning import Finished, Told
from medssl.engine.run import Run
from medssl.errors import DataError
from medssl.evaluation.parts import part_scores
from medssl.spreadsheet import csv_text
from medssl.writing import atomic_write, stem_of
from pointcloud.encoders.contract import CloudEncoder
from pointcloud.store import CloudStore
from pointcloud.tasks.inference import predict_parts
from pointcloud.tasks.learn_classification import CloudLearning
from pointcloud.tasks.scores import PARTS, class_named
from pointcloud.tasks.segmentation import PartSegmentationTask

__all__ = ["PartLearning"]


class PartLearning(CloudLearning):
    """One part segmentation run.

    Raises:
        DataError: Fewer than two parts are labelled.
    """

    method: PartSegmentationTask

    lacking = "labels of points"

    def prepare(self) -> None:
        """Find the parts, and which of them each class has."""
        store = self.store
        found = {row: np.unique(self.items.train.labels(row)) for row in range(len(self.entries))}
        parts = sorted({int(v) for values in found.values() for v in values if v >= 0})
        if len(parts) < 2:
            raise DataError(
                f"{store.folder}: the points of its training clouds have {len(parts)} labels; 2 are needed."
            )
        numbers = sorted({int(e.label) for e in self.entries if e.label is not None})
        self._parts_of = {
            number: tuple(
                part
                for part in parts
                if any(part in found[row] for row, e in enumerate(self.entries) if e.label == number)
            )
            for number in numbers
        }
        self._names = {part: store.parts.get(part, str(part)) for part in parts}
        self._classes = {number: store.classes.get(number, str(number)) for number in numbers}

    def network(self, encoder: CloudEncoder) -> PartSegmentationTask:
        """Return the segmenter of points."""
        return PartSegmentationTask(self.settings.cloud, encoder, self._names, self._classes, self._parts_of)

    @property
    def words(self) -> str:
        """How many parts there are, and whether classes are told."""
        told = f" of {len(self.method.classes)} classes, which are told" if self.method.told else ""
        return f"segmenter of {len(self.method.parts)} parts{told}"

    def finish(self, out: Path, run: Run, fabric: Fabric, told: Told) -> Finished:
        """Write the parts of the clouds to predict, and score the held-out ones, on the first rank."""
        if not run.writes:
            return Finished((), None, None)
        scores = self._scores(run, fabric, told)
        store = self.items.predict
        if store is None:
            if self.settings.data.predict:
                told.warning(f"no cloud is in the splits {list(self.settings.data.predict)}, so no parts were written")
            return Finished((), None, scores)
        folder = out / "predictions"
        folder.mkdir(exist_ok=True)
        rows, written = [], []
        for entry, parts in zip(store.entries, self._predicted(store, fabric, "test", told), strict=True):
            path = folder / f"{stem_of(entry.id, entry.key)}.npy"
            with atomic_write(path) as aside, aside.open("wb") as file:
                np.save(file, parts, allow_pickle=False)
            kind = class_named(self.store, entry)
            rows.append([entry.id, entry.patient, entry.split, kind, f"predictions/{path.name}"])
            written.append(path)
        run.write_text(PARTS, csv_text(["id", "patient", "split", "class", "file"], rows))
        return Finished(tuple(written), folder, scores)

    def _predicted(self, store: CloudStore, fabric: Fabric, what: str, told: Told) -> list[npt.NDArray[np.int32]]:
        found = []
        with told.progress(len(store), f"{what} clouds segmented") as bar, fabric.autocast():
            for row in range(len(store)):
                size = self.settings.train.batch_size
                found.append(predict_parts(self.method, store, row, batch_size=size, device=fabric.device))
                bar.advance()
        return found

    def _scores(self, run: Run, fabric: Fabric, told: Told) -> dict[str, float] | None:
        """Say the mean IoU of the held-out clouds, and keep it in validation.json."""
        store = self.items.held_out
        if store is None:
            return None
        truths = [np.asarray(store.labels(row)) for row in range(len(store))]
        names = [class_named(self.store, e) for e in store.entries]
        every = tuple(self.method.parts)
        parts_of = {
            name: self.method.parts_of.get(-1 if e.label is None else e.label, every)
            for name, e in zip(names, store.entries, strict=True)
        }
        found = part_scores(truths, self._predicted(store, fabric, "held-out", told), names, parts_of)
        scores = {"instance_miou": found.instance_miou, "class_miou": found.class_miou, "accuracy": found.accuracy}
        content = {"split": self.settings.data.held_out_split, "clouds": len(store), "scores": scores}
        run.write_text("validation.json", json.dumps(content, indent=1) + "\n")
        told.table(
            f"{len(store)} held-out clouds",
            ["Score", "Value"],
            [[k, f"{v:.3f}"] for k, v in scores.items()],
            key="held_out",
        )
        return scores
