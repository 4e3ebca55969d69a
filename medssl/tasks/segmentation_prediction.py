"""Predicting with segmenters: one or the mean of several, and what is written of a scan."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medssl.domains.predictors import MapPredictor
from medssl.encoders.contract import lay_channels_last
from medssl.engine.card import load_card
from medssl.engine.predicts import predicts_as
from medssl.errors import ConfigError
from medssl.formats.label_files import MapSource, map_suffix, write_map
from medssl.prediction import Prediction, Target, Written
from medssl.store.entry import Entry
from medssl.store.read import Store
from medssl.tasks.inference import InferenceSettings, Segmenting, label_values, mean_probabilities, weights_digest
from medssl.tasks.outputs import Output, RegionOutput
from medssl.tasks.segmentation import SegmentationTask
from medssl.tasks.segmenter import load_segmenter
from medssl.tasks.source_grid import to_source_grid

__all__ = ["SegmentationPredictor", "entropy", "segmenters_of"]


class SegmentationPredictor(MapPredictor):
    """One segmenter, or the mean of the probabilities of several. See `medssl.prediction.Predictor`.

    Args:
        members: The networks; moved to ``device`` and put in evaluation mode.
        names: Label value -> name, without the background.
        device: Where to compute.

    Raises:
        ConfigError: Their outputs do not mean the same.
    """

    what = "label maps of"

    def __init__(self, members: Sequence[Segmenting], names: dict[int, str], device: torch.device | str) -> None:
        if any(member.output != members[0].output for member in members):
            raise ConfigError("The runs segment different structures, and their mean has no meaning. Take like runs.")
        self._members, self.names, self._device = tuple(members), dict(names), device
        for member in members:
            member.network.to(device).eval()
            lay_channels_last(member.network)

    @property
    def output(self) -> Output:
        """What the channels mean."""
        return self._members[0].output

    @property
    def members(self) -> dict[int, tuple[int, ...]] | None:
        """Label value -> all values that belong to that structure, where structures are regions; None elsewhere."""
        if not isinstance(self.output, RegionOutput):
            return None
        return {region.written: region.values for region in self.output.regions}

    @property
    def key(self) -> str:
        """Hash of weights, windows and settings."""
        said = [
            [weights_digest(one.network), one.window, one.settings.overlap, one.settings.mirror, one.output.key]
            + ([one.settings.steps, "logits", "half"] if one.settings.steps != "fixed" else [])
            for one in self._members
        ]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    def predict(self, store: Store, row: int) -> Tensor:
        """Return class probabilities on the store's grid, float32, (classes, z, y, x)."""
        return mean_probabilities(self._members, store, row, self._device)

    def shown(self, found: Tensor, entry: Entry) -> Prediction:
        """Return the label map on the scan's own grid."""
        values = label_values(self.output, found, entry, steps=self._members[0].settings.steps)
        affine = np.asarray(entry.source_affine, dtype=np.float64)
        return Prediction(values, dict(self.names), affine, probabilities=found.cpu().numpy())

    def sidecar(self) -> dict[str, Any]:
        """Return the names of label values; a map holds one value a voxel: where regions overlap, the later one's."""
        content: dict[str, Any] = {"labels": {"0": "background", **{str(n): name for n, name in self.names.items()}}}
        if self.members is not None:
            content["regions"] = {self.names[written]: list(values) for written, values in self.members.items()}
        return content

    def files(self, target: Target) -> tuple[str, ...]:
        """Return the names that files may have."""
        suffixes = dict.fromkeys((map_suffix(target.source, target.format), ".nii.gz"))
        more = dict.fromkeys((map_suffix(target.source, target.format, labels=False), ".nii.gz"))
        stems = [f"{target.stem}.{kind}" for kind in self._more(target)]
        return tuple([f"{target.stem}{s}" for s in suffixes] + [f"{stem}{s}" for stem in stems for s in more])

    def write(self, found: Tensor, store: Store, row: int, target: Target) -> Written:
        """Write the label map on the grid of the scan's file, in its format where that can hold it.

        The row holds the volume of each structure in ml; of a region that of all values that belong to it, also where
        a later region was written over it.
        """
        entry = store.entries[row]
        affine = np.asarray(entry.source_affine, dtype=np.float64)
        source = MapSource(target.source, target.sources or (target.source,), target.format, affine)
        values = label_values(self.output, found, entry, steps=self._members[0].settings.steps)
        members = self.members
        path, why = write_map(target.folder / target.stem, values, source, self.names, members)
        files, notes = [path], [why] if why else []
        voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000.0
        counts = np.bincount(values.ravel())
        voxels = {
            name: sum(int(counts[one]) for one in (members or {}).get(value, (value,)) if one < len(counts))
            for value, name in self.names.items()
        }
        volumes = {f"ml_{name}": round(count * voxel_ml, 4) for name, count in voxels.items()}
        files += self._maps(found, entry, source, target)
        return Written(files=tuple(files), rows=(volumes,), notes=tuple(notes))

    def _maps(self, found: Tensor, entry: Entry, source: MapSource, target: Target) -> list[Path]:
        """Write what was wanted beside the label map, one channel at a time."""
        regions, kinds, files = isinstance(self.output, RegionOutput), self._more(target), []
        for number, kind in enumerate(kinds):
            if kind == "uncertainty":
                chosen, decide = found, lambda part: entropy(part, regions=regions)
            else:
                channel = number if regions else number + 1
                chosen, decide = found[channel : channel + 1], lambda part: part[0]
            values = to_source_grid(
                chosen, entry.affine, entry.source_shape, entry.source_affine, decide=decide, dtype=np.float32
            )
            files.append(write_map(target.folder / f"{target.stem}.{kind}", values, source)[0])
        return files

    def _more(self, target: Target) -> list[str]:
        """Return what files beside the label map are called: classes or regions in the order of the channels."""
        kinds = []
        if target.wanted.probabilities:
            numbers = self.output.numbers[1:]
            kinds += [f"probability-{value}-{_safe(self.names[value])}" for value in numbers]
        return [*kinds, *(["uncertainty"] if target.wanted.uncertainty else [])]


def entropy(probabilities: Tensor, *, regions: bool = False) -> Tensor:
    """Return the entropy of probabilities (classes, ...) in shares of the largest there can be, 0 to 1, (...).

    Of regions, each of which is there or not by itself, that of the least sure one.

    Example:
        >>> entropy(torch.tensor([[0.5, 1.0], [0.5, 0.0]])).tolist()
        [1.0, 0.0]
    """
    if regions:
        both = torch.stack([probabilities, 1.0 - probabilities])
        found: Tensor = torch.special.entr(both.clamp(0.0, 1.0)).sum(dim=0).amax(dim=0) / math.log(2.0)
    else:
        found = torch.special.entr(probabilities.clamp(0.0, 1.0)).sum(dim=0) / math.log(max(2, len(probabilities)))
    return found


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:40] or "structure"


def segmenters_of(runs: Sequence[Path], settings: Any, device: torch.device | str) -> SegmentationPredictor:
    """Return the segmenters of runs, predicting as the runs say where ``settings`` of ``predict`` say nothing.

    Raises:
        CheckpointError: A run is damaged.
        ConfigError: The runs do not go together, or a setting does not fit one.
    """
    found = [load_segmenter(run) for run in runs]
    each = [
        _segmenting(run, task, predicts_as(run, load_card(run)), settings)
        for run, task in zip(runs, found, strict=True)
    ]
    names = dict(zip(found[0].output.numbers[1:], found[0].class_names, strict=True))
    return SegmentationPredictor(each, names, device)


def _segmenting(run: Path, task: SegmentationTask, said: Mapping[str, Any], settings: Any) -> Segmenting:
    own = InferenceSettings.model_validate(said["inference"])
    changes: dict[str, Any] = {}
    if settings.overlap is not None:
        changes["overlap"] = settings.overlap
    if settings.steps is not None:
        changes["steps"] = settings.steps
    if settings.batch_size is not None:
        changes["batch_size"] = settings.batch_size
    if settings.mirror is not None:
        flipped = tuple(axis for axis, p in zip("zyx", task.settings.spatial.flip, strict=True) if p > 0)
        if settings.mirror and not flipped:
            raise ConfigError(
                f"mirror: {run} was trained without flips, so that mirrored scans are none that it knows. Leave it "
                "out, or train with segmentation.spatial.flip=[0.5,0.5,0.5]."
            )
        changes["mirror"] = flipped if settings.mirror else ()
    return Segmenting(task.network, task.output, task.settings.window, own.model_copy(update=changes))
