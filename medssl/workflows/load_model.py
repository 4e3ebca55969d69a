"""``medssl.load_model``: a fine-tuned run as an object that predicts files and arrays."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from medssl.domains.predicting import Item
from medssl.errors import ConfigError, DataError, FormatError
from medssl.evaluation.calibration import Decision
from medssl.formats.image_objects import NAMES, values_and_affine
from medssl.prediction import Prediction
from medssl.settings import resolve
from medssl.workflows.devices import autocast_as, device_named
from medssl.workflows.predict_inputs import find_inputs
from medssl.workflows.predict_runs import Predicting, load_runs
from medssl.workflows.predict_settings import PredictSettings
from medssl.workflows.taking import takes_places

__all__ = ["Model", "Prediction", "load_model"]

Array = npt.NDArray[Any]


class Model:
    """Fine-tuned runs that are ready to predict. Made by `load_model`.

    Args:
        ready: The runs.
        settings: How they predict.
        device: Where.
    """

    def __init__(self, ready: Predicting, settings: PredictSettings, device: torch.device) -> None:
        self._ready, self._settings, self._device = ready, settings, device
        self._worker = ready.takes.domain.new_items.worker(ready.predictor, ready.card)

    @property
    def names(self) -> dict[int, str]:
        """Label value or part -> name; empty of a classifier."""
        return dict(self._ready.predictor.names)

    @property
    def decision(self) -> Decision | None:
        """Of a classifier how probabilities become a class: the threshold, and the temperature that is in them."""
        found: Decision | None = self._ready.predictor.decision
        return found

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels of a scan, in their order."""
        return self._ready.takes.names

    def __repr__(self) -> str:
        """Say what is predicted, and of classes how they are decided."""
        return f"Model of {self._ready.takes.run}: {self._ready.predictor.said}"

    def predict(
        self,
        image: str | Path | Array | Any,
        *,
        spacing_mm: Sequence[float] | None = None,
        affine: Array | None = None,
        modality: str = "",
        cloud_class: str = "",
    ) -> Prediction:
        """Predict one scan, case or cloud; as ``medssl predict`` does it, to the bit.

        Args:
            image: A file, a folder of one DICOM series or case; or an array: a scan (z, y, x), a case of several
                channels (C, z, y, x) in the order of ``channels``, or a cloud (N, 3); or an image of nibabel,
                SimpleITK, MONAI or TorchIO, which knows its axes and voxel size (the answer is (z, y, x) all the same).
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
                takes = self._ready.takes
                if (known := values_and_affine(image)) is not None:
                    if affine is not None or spacing_mm is not None:
                        raise ConfigError(f"An image of {NAMES} has a voxel size. Leave out spacing_mm= and affine=.")
                    image, affine = known
                made = takes.domain.new_items.of_array(
                    np.asarray(image), Path(work), takes, affine=affine, spacing_mm=spacing_mm, modality=modality
                )
                item = made if isinstance(made, Item) else self._item(made, modality, cloud_class)
            with autocast_as(self._ready.precision, self._device):
                try:
                    prepared = self._worker.prepare(item, Path(work) / "store")
                except FormatError as error:
                    if isinstance(image, str | Path):
                        raise
                    raise DataError(f"The array cannot be predicted: {error.reason}") from error  # its file is gone
                found = self._ready.predictor.shown(prepared.predicted(), prepared.entry)
                return replace(found, differs=prepared.differs)

    def _item(self, path: Path, modality: str, cloud_class: str) -> Item:
        changes = {"modality": modality, "cloud_class": cloud_class, "workers": 1}
        settings = self._settings.model_copy(update=changes)
        found = find_inputs([path], self._ready.takes, settings, progress=lambda *_: None)
        if len(found.items) == 1:
            return found.items[0]
        if found.failed and not found.items:
            raise DataError(f"{found.failed[0].shown}: {found.failed[0].reason}")
        raise DataError(f"{path}: {len(found.items)} scans or clouds are there. Give one, or use medssl.predict.")


@takes_places
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
