"""Segmenting whole scans of a store, window by window, and writing label maps in the geometry of their files."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from medssl.encoders.contract import lay_channels_last
from medssl.errors import DataError
from medssl.loading import channel_facts
from medssl.normalising import check_takes
from medssl.store.entry import Entry
from medssl.store.read import Store
from medssl.tasks.outputs import ClassOutput, Output
from medssl.tasks.segmentation import SegmentationTask
from medssl.tasks.settings.inference import InferenceSettings
from medssl.tasks.sliding import Pass, add_pass
from medssl.tasks.source_grid import to_source_grid
from medssl.windows import as_input
from medssl.writing import atomic_write

__all__ = [
    "InferenceSettings",
    "Prediction",
    "Segmenting",
    "dice_of_store",
    "label_values",
    "mean_probabilities",
    "predict_store",
    "prediction_file",
    "probabilities_of",
    "weights_digest",
]

Triple = tuple[int, int, int]
_LISTINGS = "predictions*.json"


@dataclass(frozen=True)
class Prediction:
    """One scan's label map: its id, its file, and whether the file was there already."""

    id: str
    path: Path
    ready: bool


@dataclass(frozen=True)
class Segmenting:
    """A trained network and how it goes over a scan.

    Attributes:
        network: Images (B, C, z, y, x) to logits (B, classes, z, y, x); in evaluation mode.
        output: What the channels mean.
        window: Size of a window, (z, y, x).
        settings: Overlap, batch, mirroring.
    """

    network: nn.Module
    output: Output
    window: Triple
    settings: InferenceSettings


def probabilities_of(
    network: nn.Module,
    store: Store,
    index: int,
    window: Triple,
    settings: InferenceSettings,
    *,
    device: torch.device | str = "cpu",
    output: Output | None = None,
) -> Tensor:
    """Return class probabilities on the store's grid, float32, (classes, z, y, x); see `mean_probabilities`.

    Args:
        network: Images (B, C, z, y, x) to logits (B, classes, z, y, x); on ``device``, in evaluation mode.
        store: The scans.
        index: Which.
        window: Size of a window, (z, y, x).
        settings: Overlap, batch, mirroring.
        device: Where the network is.
        output: What the channels mean; classes when None.
    """
    return mean_probabilities([Segmenting(network, output or ClassOutput(()), window, settings)], store, index, device)


@torch.no_grad()
def mean_probabilities(
    members: Sequence[Segmenting], store: Store, index: int, device: torch.device | str = "cpu"
) -> Tensor:
    """Return class probabilities on the store's grid, float32, (classes, z, y, x): the mean over the networks.

    Windows overlap; logits are averaged with Gaussian weights (standard deviation an eighth of the window), as nnU-Net
    and MONAI do. The scan is scaled and padded as in training. The only place where a scan is segmented: for training
    runs, scores and new files alike.

    Args:
        members: The networks, on ``device``, with outputs of the same meaning.
        store: The scans.
        index: Which.
        device: Where the networks are.
    """
    entry = store.entries[index]
    for member in members:
        check_takes(getattr(member.network, "encoder", member.network), entry.schemes)
    scale, present = channel_facts([entry])
    scale, present = scale.to(device), None if present is None else present.to(device)
    image = as_input(torch.from_numpy(store.windows(index, (0, 0, 0), entry.shape)).to(device)[None], scale, present)
    fills = torch.tensor([channel.padding for channel in entry.channels], device=device).view(1, -1, 1, 1, 1)
    margins = as_input(fills, scale, present)
    shifted = float(margins.max()) > float(margins.min())  # one number pads all channels: pad the difference by 0
    if shifted:
        image -= margins
    total: Tensor | None = None
    for member in members:
        mirror = tuple("zyx".index(axis) for axis in member.settings.mirror)
        flips = [axes for n in range(len(mirror) + 1) for axes in combinations(mirror, n)]
        for flip in flips:
            one = Pass(
                network=_Shifted(member.network, margins) if shifted else member.network,
                probabilities=member.output.probabilities,
                window=member.window,
                overlap=member.settings.overlap,
                batch_size=member.settings.batch_size,
                outside=0.0 if shifted else float(margins[0, 0]),
                mirrored=flip,
                even=member.settings.steps == "even",
                share=1.0 / (len(flips) * len(members)),
            )
            total = add_pass(total, image, one)
    assert total is not None, "there is a network"
    return total


class _Shifted(nn.Module):
    """A network of images to which something is added first."""

    def __init__(self, network: nn.Module, shift: Tensor) -> None:
        super().__init__()
        self._of = [network]  # in a list: its mode and its place are not this module's to change
        self._shift = shift

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self._of[0](images + self._shift)
        return logits


def dice_of_store(
    task: SegmentationTask,
    store: Store,
    settings: InferenceSettings,
    *,
    device: torch.device | str = "cpu",
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, float]:
    """Return the Dice of each structure on whole labelled scans, on the store's grid, averaged over scans.

    A quick look while fitting; ``medssl evaluate`` scores in the source geometry, with intervals. A scan where neither
    truth nor prediction shows a structure is left out of its mean; NaN where that leaves none.

    Args:
        task: The segmenter, on ``device``.
        store: Scans with labels.
        settings: Overlap, batch, mirroring.
        device: Where the segmenter is.
        progress: Told the id of every scan that is scored.
    """
    from medssl.evaluation.overlap import overlap

    was_training = task.training
    network = task.eval().network
    numbers = range(1, len(task.class_names) + 1)
    scores: dict[str, list[float]] = {name: [] for name in task.class_names}
    for index, entry in enumerate(store.entries):
        found = probabilities_of(
            network, store, index, task.settings.window, settings, device=device, output=task.output
        )
        truth = task.table(torch.from_numpy(store.labels(index)).to(device))
        known = truth >= 0
        classes = None if task.regions else found.argmax(dim=0).to(truth.device)
        for number, name in zip(numbers, task.class_names, strict=True):
            ours = (found[number - 1].to(truth.device) > 0.5 if classes is None else classes == number) & known
            theirs = task.shows(truth, number)
            true, guess = (mask.cpu().numpy().astype(np.uint8) for mask in (theirs, ours))
            dice = overlap(true, guess, [1], spacing_mm=entry.spacing_mm)[1].dice
            if not math.isnan(dice):
                scores[name].append(dice)
        progress(entry.id)
    task.train(was_training)
    return {name: float(np.mean(found)) if found else math.nan for name, found in scores.items()}


def predict_store(
    network: nn.Module,
    output: Output,
    store: Store,
    folder: Path,
    *,
    window: Triple,
    settings: InferenceSettings,
    device: torch.device | str = "cpu",
    listing: str = "predictions.json",
    progress: Callable[[Prediction], None] = lambda _: None,
) -> list[Prediction]:
    """Segment every scan of a store and write ``folder/ID.nii.gz``, on the grid of the scan's file.

    Files that an earlier call wrote with the same weights and settings (a listing says so) are kept. Label
    maps are compressed and written in a thread of their own while the next scan is segmented.

    Args:
        network: As for `probabilities_of`; moved to ``device`` and put in evaluation mode for the while.
        output: What the channels of the network mean, and what is written.
        store: The scans.
        folder: Where to; made if absent.
        window: Size of a window, (z, y, x).
        settings: Overlap, batch, mirroring.
        device: Where to compute.
        listing: File in ``folder`` that lists what was written; processes that share a folder each have their own,
            named ``predictions*.json``, and read all of them.
        progress: Told of every scan once it is segmented; its file is whole when the call returns.

    Returns:
        One prediction a scan, in the store's order.

    Raises:
        DataError: If two scans would have the same file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made_with = _fingerprint(network, window, settings, output)
    paths = [folder / prediction_file(entry.id) for entry in store.entries]
    if len(set(paths)) < len(paths):
        raise DataError(f"{store.folder}: some scans have the same id. Make the manifest again with `medssl index`.")
    kept = {scan for path in folder.glob(_LISTINGS) for scan in _listed(path, made_with)}
    was_training = network.training
    network.to(device).eval()
    lay_channels_last(network)
    results: list[Prediction] = []
    writing: Future[None] | None = None
    with ThreadPoolExecutor(1, thread_name_prefix="medssl-writer") as writer:
        for index, (entry, path) in enumerate(zip(store.entries, paths, strict=True)):
            ready = entry.id in kept and path.is_file()
            if not ready:
                found = probabilities_of(network, store, index, window, settings, device=device, output=output)
                values = label_values(output, found, entry, steps=settings.steps)
                del found  # one map of classes in memory at a time
                if writing is not None:
                    writing.result()  # and its error is not lost
                writing = writer.submit(_write, path, values, entry, folder / listing, made_with)
            results.append(Prediction(entry.id, path, ready))
            progress(results[-1])
        if writing is not None:
            writing.result()
    network.train(was_training)
    return results


def prediction_file(scan_id: str) -> str:
    """Return the file name of a scan's label map; safe on every system, and different for different ids.

    Example:
        >>> prediction_file("hippocampus_001")
        'hippocampus_001.nii.gz'
        >>> prediction_file("a/b")
        'a_b-c14cddc0.nii.gz'
    """
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", scan_id).strip(".") or "scan"
    if safe != scan_id:
        safe += f"-{hashlib.sha256(scan_id.encode()).hexdigest()[:8]}"
    return f"{safe}.nii.gz"


def _write(path: Path, values: npt.NDArray[np.integer], entry: Entry, listing: Path, made_with: str) -> None:
    """Write one label map, then note it in the listing: what is listed is whole and of these weights."""
    from medssl.formats.nifti import write_nifti

    write_nifti(path, values, np.asarray(entry.source_affine, dtype=np.float64))
    cases = {**_listed(listing, made_with), entry.id: path.name}
    with atomic_write(listing) as aside:
        aside.write_text(json.dumps({"made_with": made_with, "cases": cases}, indent=1) + "\n", encoding="utf-8")


def label_values(
    output: Output, probabilities: Tensor, entry: Entry, *, steps: str = "fixed"
) -> npt.NDArray[np.integer]:
    """Return the label map that a prediction is, in the values and on the grid of the scan's source, (z, y, x).

    Between the places of the store's grid probabilities are interpolated, with ``steps`` "even" logits: nnU-Net's way.

    Args:
        output: What the channels mean.
        probabilities: (channels, z, y, x), on the store's grid.
        entry: The scan.
        steps: As ``InferenceSettings.steps`` has it.
    """
    logits = (output.logits, lambda found: output.probabilities(found[None])[0])
    kind: type[np.unsignedinteger] = np.uint8 if max(output.numbers) < 256 else np.uint16
    numbers = torch.tensor(output.numbers, device=probabilities.device)
    values: npt.NDArray[np.integer] = to_source_grid(
        probabilities,
        entry.affine,
        entry.source_shape,
        entry.source_affine,
        decide=lambda found: numbers[output.decide(found)],
        dtype=kind,
        between=logits if steps == "even" else None,
    )
    return values


def _listed(listing: Path, made_with: str) -> dict[str, str]:
    """Return the scans, id -> file, that are listed as written with these weights and settings."""
    try:
        content = json.loads(listing.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return dict(content["cases"]) if content.get("made_with") == made_with else {}


def _fingerprint(network: nn.Module, window: Triple, settings: InferenceSettings, output: Output) -> str:
    said = [window, settings.overlap, settings.mirror, *([output.key] if output.key else [])]
    said += [settings.steps, "logits", "half"] if settings.steps != "fixed" else []
    return weights_digest(network, json.dumps(said))


def weights_digest(network: nn.Module, said: str = "") -> str:
    """Return a hash of a network's weights, and of what is said of how it is used."""
    digest = hashlib.sha256(said.encode())
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
