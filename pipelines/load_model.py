"""``medssl.load_model``: a fine-tuned run as an object that predicts files and arrays."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from medssl.errors import ConfigError, DataError, FormatError
from medssl.evaluation.calibration import Decision
from medssl.formats.arrays import write_npz
from medssl.manifest.describe import describe
from medssl.manifest.schema import manifest_of_rows
from medssl.manifest.sources import Source
from medssl.settings import resolve
from medssl.tasks.inference import label_values
from medssl.tasks.segmentation_prediction import SegmentationPredictor
from pipelines.devices import autocast_as, device_named
from pipelines.predict_inputs import Item, find_inputs
from pipelines.predict_runs import Predicting, load_runs
from pipelines.predict_settings import PredictSettings
from pipelines.predict_work import worker_of
from pointcloud.tasks.prediction import CloudClassPredictor, PartPredictor

__all__ = ["Model", "Prediction", "load_model"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Prediction:
    """What a model says of one scan, case or cloud.

    Attributes:
        labels: Of a segmenter the label map on the scan's own grid, (z, y, x); of parts the part of each point, (N,);
            None of a classifier.
        names: Label value or part -> name.
        affine: 4x4 of the label map, RAS+ mm from (x, y, z) indices; None elsewhere.
        predicted: Of a classifier the class, or of slices the class of each.
        probabilities: Of a classifier the probability of each class by name; of slices, one list each. Of a segmenter
            an array (classes, z, y, x) on the grid that the network sees, of parts (N, parts).
        differs: How it differs from what the run was trained on.
    """

    labels: Array | None
    names: dict[int, str] = field(default_factory=dict)
    affine: npt.NDArray[np.float64] | None = None
    predicted: str | list[str] | None = None
    probabilities: Any = None
    differs: tuple[str, ...] = ()


class Model:
    """Fine-tuned runs that are ready to predict. Made by `load_model`.

    Args:
        ready: The runs.
        settings: How they predict.
        device: Where.
    """

    def __init__(self, ready: Predicting, settings: PredictSettings, device: torch.device) -> None:
        self._ready, self._settings, self._device = ready, settings, device
        self._worker = worker_of(ready)

    @property
    def names(self) -> dict[int, str]:
        """Label value or part -> name; empty of a classifier."""
        return dict(self._ready.names)

    @property
    def decision(self) -> Decision | None:
        """Of a classifier how probabilities become a class: the threshold, and the temperature that is in them."""
        return self._ready.decision

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels of a scan, in their order."""
        return self._ready.takes.names

    def __repr__(self) -> str:
        """Say what is predicted, and of classes how they are decided."""
        return f"Model of {self._ready.takes.run}: {self._ready.said()}"

    def predict(
        self,
        image: str | Path | Array,
        *,
        spacing_mm: Sequence[float] | None = None,
        affine: Array | None = None,
        modality: str = "",
        cloud_class: str = "",
    ) -> Prediction:
        """Predict one scan, case or cloud; as ``medssl predict`` does it, to the bit.

        Args:
            image: A file, a folder of one DICOM series or case; or an array: a scan (z, y, x), a case of several
                channels (C, z, y, x) in the order of ``channels``, or a cloud (N, 3).
            spacing_mm: Of an array of a scan: voxel size (z, y, x); the axes then are those of RAS.
            affine: In its place: 4x4, RAS+ mm from (x, y, z) indices.
            modality: What the scan is, such as "CT", where its file does not say it; the run's own if empty.
            cloud_class: Of parts: the cloud's class, where the network is told it.

        Raises:
            DataError: It cannot be predicted, or the path holds several.
            ConfigError: An array has other axes or channels, or no voxel size.
            FormatError: A file cannot be read.
        """
        with self._settings.limits(), tempfile.TemporaryDirectory(prefix="medssl-") as work:
            if isinstance(image, str | Path):
                item = self._item(Path(image), modality, cloud_class)
            else:
                item = self._of_array(np.asarray(image), Path(work), spacing_mm, affine, modality, cloud_class)
            with autocast_as(self._ready.precision, self._device):
                try:
                    prepared = self._worker.prepare(item, Path(work) / "store")
                except FormatError as error:
                    if isinstance(image, str | Path):
                        raise
                    raise DataError(f"The array cannot be predicted: {error.reason}") from error  # its file is gone
                return self._told(prepared.predicted(), prepared.entry, prepared.differs)

    def _item(self, path: Path, modality: str, cloud_class: str) -> Item:
        changes = {"modality": modality, "cloud_class": cloud_class, "workers": 1}
        settings = self._settings.model_copy(update=changes)
        found = find_inputs([path], self._ready.takes, settings, progress=lambda *_: None)
        if len(found.items) == 1:
            return found.items[0]
        if found.failed and not found.items:
            raise DataError(f"{found.failed[0].shown}: {found.failed[0].reason}")
        raise DataError(f"{path}: {len(found.items)} scans or clouds are there. Give one, or use medssl.predict.")

    def _of_array(
        self,
        values: Array,
        work: Path,
        spacing_mm: Sequence[float] | None,
        affine: Array | None,
        modality: str,
        cloud_class: str,
    ) -> Item:
        """Write an array as a file of its own, which is then read as any other."""
        takes = self._ready.takes
        if takes.kind == "cloud":
            if values.ndim != 2 or values.shape[1] != 3:
                raise ConfigError(f"A cloud is an array (N, 3). Got one of shape {values.shape}.")
            np.save(work / "cloud.npy", values, allow_pickle=False)
            return self._item(work / "cloud.npy", modality, cloud_class)
        count = len(takes.names)
        stacked = values if values.ndim == 4 else values[None]
        if stacked.ndim != 4 or len(stacked) != count:
            axes = "(z, y, x)" if count == 1 else f"({count}, z, y, x) of {', '.join(takes.names)}"
            raise ConfigError(f"{takes.run} takes an array {axes}. Got one of shape {values.shape}.")
        if (affine is None) == (spacing_mm is None):
            raise ConfigError("Say the voxel size of the array: spacing_mm=(z, y, x) in mm, or affine=, and not both.")
        if affine is None:
            sizes = np.asarray(spacing_mm, dtype=np.float64)
            if sizes.shape != (3,) or not (np.isfinite(sizes) & (sizes > 0)).all():
                raise ConfigError(f"spacing_mm: three sizes above 0 are taken, (z, y, x) in mm. Got {spacing_mm}.")
            affine = np.diag([*sizes[::-1], 1.0])
        elif np.shape(affine) != (4, 4):
            raise ConfigError(
                f"affine: 4x4 is taken, RAS+ mm from (x, y, z) indices. Got the shape {np.shape(affine)}."
            )
        rows = []
        for place, channel in enumerate(takes.channels):
            kind = modality or ("" if "+" in channel.modality else channel.modality)
            path = work / f"image-{place}.npz"
            write_npz(path, stacked[place], np.asarray(affine, dtype=np.float64), modality=kind or "unknown")
            facts = describe(Source(path=path, relative=path.name, modality=kind))
            if facts["error"]:
                raise DataError(f"The array of channel {channel.name}: {facts['error']}")
            rows.append(
                {**facts, "id": f"image-{place}", "modality": kind or "unknown", "units": "arbitrary",
                 "patient": "image", "channel": channel.name if count > 1 else "", "case": "image" if count > 1 else ""}
            )  # fmt: skip
        names = takes.names if count > 1 else ()
        manifest = manifest_of_rows(rows, settings={"channels": list(names)})
        return Item("image", "array", manifest, channels=",".join(names) or "scans")

    def _told(self, found: Any, entry: Any, differs: tuple[str, ...]) -> Prediction:
        predictor, names = self._ready.predictor, self.names
        if isinstance(predictor, SegmentationPredictor):
            values = label_values(predictor.output, found, entry)
            affine = np.asarray(entry.source_affine, dtype=np.float64)
            return Prediction(values, names, affine, probabilities=found.cpu().numpy(), differs=differs)
        if isinstance(predictor, PartPredictor):
            return Prediction(found.parts, names, probabilities=found.probability, differs=differs)
        classes = predictor.class_names
        if isinstance(predictor, CloudClassPredictor):
            chosen = classes[int(predictor.decision.predicted(found[None])[0])]
            shares = dict(zip(classes, found.tolist(), strict=True))
            return Prediction(None, predicted=chosen, probabilities=shares, differs=differs)
        chosen_all = [classes[int(number)] for number in found.predicted]
        each = [dict(zip(classes, row, strict=True)) for row in found.probability.tolist()]
        if found.shown.slices == (-1,):
            return Prediction(None, predicted=chosen_all[0], probabilities=each[0], differs=differs)
        return Prediction(None, predicted=chosen_all, probabilities=each, differs=differs)


def load_model(run: str | Path | Sequence[str | Path], *, device: str = "auto", overrides: Sequence[str] = ()) -> Model:
    """Load a fine-tuning run, or several for the mean of their probabilities.

    Args:
        run: The run's folder, or several.
        device: "auto", "cpu", "cuda" or "cuda:N".
        overrides: Settings of ``medssl predict`` as ``key=value``, such as ``mirror=true``.

    Raises:
        CheckpointError: A run has not ended, or is a pretraining run.
        ConfigError: Runs or settings do not go together.

    Example:
        >>> model = load_model("runs/ct-seg")  # doctest: +SKIP
        >>> model.predict("patient7.nii.gz").labels.shape  # doctest: +SKIP
        (120, 512, 512)
    """
    settings = resolve(PredictSettings, overrides=list(overrides)).settings
    chosen = device_named(device)
    runs = [run] if isinstance(run, str | Path) else list(run)
    return Model(load_runs([Path(one) for one in runs], settings, chosen), settings, chosen)
