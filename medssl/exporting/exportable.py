"""What an export needs to know of a run: the network, and how its input is made from a scan."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medssl.decoder import SegmentationNetwork
from medssl.encoders.contract import Encoder
from medssl.errors import DataError
from medssl.evaluation.calibration import Decision, decision_words
from medssl.normalising import Numbers, Scheme
from medssl.regions import Region, regions_json
from medssl.store.options import CT_RANGE
from medssl.tasks.class_settings import ClassificationSettings
from medssl.tasks.classification import Classifier
from medssl.writing import atomic_write

__all__ = ["ExportInput", "Exportable", "example_input", "write_json", "write_text"]

Triple = tuple[int, int, int]
_LEVELS = {
    "volume": "one window a scan",
    "slice": "one window a slice; where the class is the scan's, the mean of its slices' logits decides",
    "set": "all windows of a batch are slices of one scan, which get one answer",
}
_FITS = {
    "resize": "the body's box is scaled to the window: along z by itself, along y and x together, averaged where it "
    "shrinks and linear where it grows; what the window is wider is 0",
    "crop": "the window is cut at the middle of the body's box",
}
_STORED = 16384.0  # what a store makes of the upper one


@dataclass(frozen=True)
class ExportInput:
    """One channel of the input.

    Attributes:
        name: As the store calls it.
        modality: As `Exportable` has it.
        intensity: As `Exportable` has it, what becomes 0 and 1; of ``unit`` alone.
        normalise: How its values become input, see `medssl.normalising`.
        numbers: Where they were fitted to the training scans: clipped to the first two, less the third, over the
            fourth. HU for CT; else in a unit of which 0 and 16384 are the percentiles.
        within: HU that the training store kept; beyond, values are clipped before they are normalised. None for all.
        percentiles: Of the body, those that the training store made 0 and 1 where there is no ``intensity``.
    """

    name: str
    modality: str
    intensity: tuple[float, float] | None
    normalise: Scheme = "unit"
    numbers: Numbers | None = None
    within: tuple[float, float] | None = None
    percentiles: tuple[float, float] = (0.5, 99.5)

    @property
    def scaled_by_percentiles(self) -> bool:
        """Whether percentiles of the body become 0 and 1."""
        return self.normalise == "unit" and self.intensity is None

    @property
    def ends(self) -> str:
        """What becomes 0 and 1 where no numbers do, in words: "percentiles 0.5 and 99.5"."""
        return "percentiles {:g} and {:g}".format(*self.percentiles)

    def described(self) -> dict[str, Any]:
        """Return how values become input, as JSON."""
        percentiles = f"{self.ends} of the voxels in the body's box"
        if self.normalise == "unit":
            return {"becomes_0_and_1": percentiles if self.intensity is None else list(self.intensity)}
        if self.numbers is None:
            clipped = {} if self.within is None else {"clipped_to": list(self.within)}
            box = "of the voxels in the body's box"
            return {"normalise": self.normalise, **clipped, "less": f"mean {box}", "over": f"deviation {box}"}
        low, high, less, over = self.numbers
        clipped = {"clipped_to": [low, high]} if self.modality == "CT" else {}
        of = {} if self.modality == "CT" else {"of": f"values of which 0 and {_STORED:g} are {percentiles}"}
        return {"normalise": self.normalise, **of, **clipped, "less": less, "over": over}


@dataclass(frozen=True, kw_only=True)
class Exportable:
    """A trained network and what must be done to a scan before it sees it.

    Attributes:
        name: Name of the run.
        network: An ``Encoder``, a ``SegmentationNetwork`` or a ``Classifier``.
        window: Voxels of an input window, (z, y, x).
        spacing_mm: Voxel size of the input, (z, y, x). None: nobody says, and weights and card alone can be written.
        modality: "CT", "MR" or another DICOM modality.
        intensity: Physical values that become 0 and 1 (HU for CT). None: percentiles 0.5 and 99.5 of the body.
        inputs: The channels of the input, where they have names; else all are of ``modality`` and ``intensity``.
        classes: Name of each channel of a segmenter's logits, background first; of regions, which may overlap, there
            is no background. Of a classifier its classes. Empty for an encoder.
        structures: Structure number of each channel, as ``classes``.
        regions: Where channels are regions: each with the values it holds and the value that it writes, in that order.
        notes: Whatever else is worth keeping with the file (method, data, citation); JSON.
        decision: Of a classifier, how its logits become probabilities and a class.
        looks: Of a classifier, at what it looks: level, and how a scan is fitted to the window.
        decoder: Of an encoder, the weights of the decoder that was pretrained with it, by `UNetDecoder`'s names.
        overlap: Of a segmenter, the share of a window that its neighbour covers too, as its run predicts.
        mirror: Axes of "z", "y", "x" that are mirrored and averaged, as its run predicts.
        steps: Where its windows lie, "fixed" or "even".
        interpolation: How the training store resampled images: "cubic" or "linear".
        grid: On which grid it laid scans, "spacing" or "nnunet", see `medssl.store.regrid`.
        kept_voxels: Whether its scans kept voxel sizes of their own, of which ``spacing_mm`` is but the mean.
        crop_mm: What the training store left around the body; None where it kept whole scans.
    """

    name: str
    network: nn.Module
    window: Triple
    spacing_mm: tuple[float, float, float] | None
    modality: str = "CT"
    intensity: tuple[float, float] | None = None
    classes: tuple[str, ...] = ()
    structures: tuple[int, ...] = ()
    regions: tuple[Region, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[ExportInput, ...] = ()
    decision: Decision | None = None
    looks: ClassificationSettings | None = None
    decoder: Mapping[str, Tensor] | None = None
    overlap: float = 0.5
    mirror: tuple[str, ...] = ()
    steps: str = "fixed"
    interpolation: str = "cubic"
    crop_mm: float | None = None
    grid: str = "spacing"
    kept_voxels: bool = False

    @property
    def voxels_mm(self) -> tuple[float, float, float]:
        """The voxel size, where a form cannot do without.

        Raises:
            DataError: Nobody says it.
        """
        if self.spacing_mm is None:
            raise DataError(f"'{self.name}': nobody says the voxel size of its input. Say it: spacing_mm=[Z,Y,X]")
        return self.spacing_mm

    @property
    def channels(self) -> tuple[ExportInput, ...]:
        """The channels of the input, in their order."""
        count = self.encoder.in_channels
        if self.inputs and len(self.inputs) != count:
            raise DataError(f"'{self.name}' takes {count} channels, and {len(self.inputs)} are described.")
        names = ("image",) if count == 1 else tuple(f"channel_{number}" for number in range(count))
        return self.inputs or tuple(ExportInput(name, self.modality, self.intensity) for name in names)

    @property
    def encoder(self) -> Encoder:
        """The encoder, alone or inside the segmenter or classifier.

        Raises:
            DataError: The network is neither.
        """
        tuned = isinstance(self.network, SegmentationNetwork | Classifier)
        found = self.network.encoder if tuned else self.network
        if not isinstance(found, Encoder):
            raise DataError(
                f"Encoders, segmenters and classifiers can be exported. '{self.name}' is a {type(found).__name__}."
            )
        return found

    @property
    def is_segmenter(self) -> bool:
        """Whether the network gives logits of every voxel, rather than features."""
        return isinstance(self.network, SegmentationNetwork)

    @property
    def is_classifier(self) -> bool:
        """Whether the network gives logits of classes of a scan or slice."""
        return isinstance(self.network, Classifier)

    @property
    def kind(self) -> str:
        """What it is, in a word."""
        return "segmenter" if self.is_segmenter else "classifier" if self.is_classifier else "encoder"

    def description(self) -> dict[str, Any]:
        """Return what a user of the exported file must know, as JSON."""
        settings = getattr(self.encoder, "settings", None)
        return {
            "name": self.name,
            "kind": self.kind,
            "encoder": None if settings is None else settings.model_dump(mode="json"),
            "input": {
                "axes": ["batch", "channel", "z", "y", "x"],
                "orientation": "x, y and z indices grow to the patient's right, front and head (RAS+)",
                "window_zyx": list(self.window),
                "size_multiple_zyx": list(self.encoder.size_multiple),
                "spacing_mm_zyx": None if self.spacing_mm is None else list(self.spacing_mm),
                "modality": self.modality,
                "intensity": (
                    {**self.channels[0].described(), "clipped": True}
                    if self.channels[0].normalise == "unit"
                    else self.channels[0].described()
                ),
                "preparing": self.preparing(),
                "channels": [
                    {"name": channel.name, "modality": channel.modality, **channel.described()}
                    for channel in self.channels
                ],
            },
            "classes": list(self.classes),
            "structures": list(self.structures),
            **self._decision(),
            **self._predicting(),
            **({"notes": dict(self.notes)} if self.notes else {}),
        }

    def preparing(self) -> dict[str, Any]:
        """Return what makes a scan the network's input, for `medssl.exporting.alone.medssl_input`."""
        return {
            "spacing_mm": None if self.spacing_mm is None else list(self.spacing_mm),
            "order": 3 if self.interpolation == "cubic" else 1,
            "grid": self.grid,
            "crop_mm": self.crop_mm,
            "channels": [
                {
                    "name": channel.name,
                    "modality": channel.modality,
                    "normalise": channel.normalise,
                    "intensity": channel.intensity,
                    "numbers": channel.numbers,
                    "hu_range": channel.within or CT_RANGE,
                    "percentiles": channel.percentiles,
                }
                for channel in self.channels
            ],
        }

    def _predicting(self) -> dict[str, Any]:
        """Return how a segmenter goes over a scan."""
        if not self.is_segmenter:
            return {}
        regions = bool(self.regions)
        said = {"overlap": self.overlap, "steps": self.steps, "mirror": list(self.mirror), "regions": regions}
        return {"predicting": said}

    def _decision(self) -> dict[str, Any]:
        """Return how logits become a class, or where channels are regions a label map."""
        if self.looks is not None and self.decision is not None:
            level, fit = self.looks.level, self.looks.fit
            return {
                "looks_at": {"level": level, "how": _LEVELS[level], "fit": fit, "fitted": _FITS[fit]},
                "decision": {**asdict(self.decision), "how": decision_words(self.decision, self.classes)},
            }
        if not self.regions:
            return {}
        how = "sigmoid of each channel; 0, then each region's 'written' in this order where its probability is over 0.5"
        return {"regions": regions_json(self.regions), "label_map": how}


def example_input(model: Exportable, *, batch: int = 2, size: Triple | None = None, seed: int = 0) -> Tensor:
    """Return random images in [0, 1] of the size that the network takes, (batch, C, z, y, x)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, model.encoder.in_channels, *(size or model.window), generator=generator)


def write_text(path: Path, text: str) -> Path:
    """Write ``text`` aside and rename it to ``path``, making the folder; return the path."""
    with atomic_write(path) as aside:
        aside.write_text(text, encoding="utf-8")
    return path


def write_json(path: Path, values: Mapping[str, Any]) -> Path:
    """Write ``values`` as indented JSON, aside and renamed; return the path."""
    return write_text(path, json.dumps(values, indent=2) + "\n")
