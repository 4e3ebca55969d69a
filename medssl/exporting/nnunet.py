"""To nnU-Net: a trained-model folder of a segmenter, or starting weights of a pretrained encoder and its decoder.

Written for and tested with nnunetv2 2.8.1 and dynamic_network_architectures 0.4.4; neither is needed to export.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medssl.decoder import SegmentationNetwork, UNetDecoder
from medssl.errors import DataError
from medssl.exporting.exportable import Exportable, write_json, write_text
from medssl.exporting.nnunet_names import segmenter_to_nnunet
from medssl.exporting.nnunet_plans import CONFIGURATION, PLANS, kind_of, plan_architecture, plan_for, plans_of
from medssl.exporting.nnunet_scheme import held
from medssl.writing import atomic_write

__all__ = ["NNUNET_VERSION", "Start", "export_pretrained_weights", "export_trained_model", "starting_network"]

NNUNET_VERSION = "2.8.1"  # what the tests ran


def export_trained_model(model: Exportable, folder: Path) -> list[Path]:
    """Write a segmenter as a folder that ``nnUNetv2_predict_from_modelfolder`` takes.

    The plan reorients to RAS+, resamples as the training store did and scales as training did, where nnU-Net has such a
    scheme: see `medssl.exporting.nnunet_scheme`, whose ``must_be_held`` is to be asked first. Mirroring is that of the
    run. Differences that remain: nnU-Net spreads windows evenly (``inference.steps=even`` here), sums logits in half
    precision and resamples them where probabilities are resampled here, and does not blur a scan whose voxels are less
    than two thirds of the network's.

    Args:
        model: A segmenter with a residual or plain U-Net encoder.
        folder: Where ``plans.json``, ``dataset.json`` and ``fold_all/checkpoint_final.pth`` go.

    Returns:
        The files written.

    Raises:
        DataError: The network is no segmenter, or of a kind that nnU-Net has not.
    """
    network = model.network
    if not isinstance(network, SegmentationNetwork):
        raise DataError(f"'{model.name}' is an encoder; a trained nnU-Net model is a segmenter. Fine-tune it first.")
    weights = segmenter_to_nnunet(_on_cpu(network.state_dict()), kind_of(model)[0])
    checkpoint = {
        "network_weights": weights,
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": CONFIGURATION, "fold": "all"},
        "inference_allowed_mirroring_axes": tuple("zyx".index(axis) for axis in model.mirror) or None,
        "current_epoch": 0,
    }
    plans = write_json(folder / "plans.json", plans_of(model, convs_of(network.decoder)))
    dataset = write_json(
        folder / "dataset.json",
        {
            "channel_names": _channel_names(model),
            **_labels(model),
            "numTraining": 0,
            "file_ending": ".nii.gz",
            "overwrite_image_reader_writer": "NibabelIOWithReorient",
        },
    )
    saved = _save(checkpoint, folder / "fold_all" / "checkpoint_final.pth")
    about = write_json(folder / "medssl.json", _about(model))
    return [plans, dataset, saved, about]


def _labels(model: Exportable) -> dict[str, Any]:
    """Return ``labels``, and of regions ``regions_class_order``, as nnU-Net's dataset.json has them."""
    if not model.regions:
        return {"labels": {name: channel for channel, name in enumerate(model.classes)}}
    return {
        "labels": {"background": 0, **{region.name: list(region.values) for region in model.regions}},
        "regions_class_order": [region.written for region in model.regions],
    }


class Start:
    """A network to start from: encoder and decoder, and what of the decoder was trained.

    Attributes:
        network: The network.
        carried: Tensors of the decoder that training left, heads aside.
        fresh: Those that were drawn, as nnU-Net draws them.
    """

    def __init__(self, network: SegmentationNetwork, carried: int, fresh: int) -> None:
        self.network, self.carried, self.fresh = network, carried, fresh

    @property
    def words(self) -> str:
        """What of the decoder is trained and what is fresh, in words."""
        if not self.fresh:
            return "encoder and decoder are the run's; nnU-Net draws the heads anew"
        if not self.carried:
            return (
                f"the run kept no decoder: a fresh one is written ({self.fresh} tensors), as nnU-Net would draw it. "
                "Methods that pretrain one: medssl list methods"
            )
        return f"of the decoder {self.carried} tensors are the run's and {self.fresh} are fresh, heads aside"


def starting_network(model: Exportable, *, num_classes: int = 2, seed: int = 0) -> Start:
    """Return a model's encoder with a decoder: a segmenter's, that of pretraining as far as it fits, or a fresh one.

    Args:
        model: An encoder or segmenter of the residual or plain U-Net kind.
        num_classes: Channels of the heads of a decoder that is no segmenter's.
        seed: Of what is drawn.

    Raises:
        DataError: The encoder is of a kind that nnU-Net has not.
    """
    _, convs = kind_of(model)
    if isinstance(model.network, SegmentationNetwork):
        return Start(model.network, sum(1 for name in model.network.decoder.state_dict() if _kept(name)), 0)
    known = model.decoder or {}
    counted = {int(name.split(".")[3]) + 1 for name in known if name.startswith("stages.")}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = UNetDecoder(model.encoder, num_classes, convs_per_stage=max(counted, default=convs))
    state = decoder.state_dict()
    fitting = {name: known[name] for name in state if _kept(name) and name in known}
    fitting = {name: value for name, value in fitting.items() if value.shape == state[name].shape}
    decoder.load_state_dict({**state, **fitting})
    fresh = sum(1 for name in state if _kept(name)) - len(fitting)
    return Start(SegmentationNetwork(model.encoder, decoder), len(fitting), fresh)


def export_pretrained_weights(
    model: Exportable, folder: Path, *, start: Start | None = None, dataset: Path | None = None
) -> list[Path]:
    """Write weights that ``nnUNetv2_train -pretrained_weights`` starts from, and with a dataset the plan that fits.

    nnU-Net asks for every parameter but the heads, so the decoder is written too, see `starting_network`.

    Args:
        model: An encoder or segmenter of the residual or plain U-Net kind.
        folder: Where ``pretrained.pth``, ``architecture.json`` and ``README.md`` go.
        start: The network to write; made of the model when left out.
        dataset: The dataset's folder in nnUNet_preprocessed, which gains ``medsslPlans.json``.

    Returns:
        The files written.

    Raises:
        DataError: The encoder is of a kind that nnU-Net has not, or the dataset has no plans.
    """
    start = start or starting_network(model)
    network, convs = start.network, convs_of(start.network.decoder)
    planned = [] if dataset is None else [plan_for(model, convs, dataset)]
    weights = segmenter_to_nnunet(_on_cpu(network.state_dict()), kind_of(model)[0])
    saved = _save({"network_weights": weights}, folder / "pretrained.pth")
    plan = write_json(folder / "architecture.json", plan_architecture(model, convs))
    about = write_json(folder / "medssl.json", _about(model))
    return [saved, plan, about, write_text(folder / "README.md", _how_to(model, start)), *planned]


def convs_of(decoder: UNetDecoder) -> int:
    """Return the convolutions in a stage of ``decoder``."""
    return len(next(iter(decoder.stages)).convs)  # type: ignore[arg-type]


def _kept(name: str) -> bool:
    return not name.startswith("seg_layers.")


def _channel_names(model: Exportable) -> dict[str, str]:
    """Return the channels as nnU-Net lists them: by name, a single one by the scheme that nnU-Net reads from it."""
    channels = model.channels
    if len(channels) == 1:
        names = {"CTNormalization": channels[0].modality, "RescaleTo01Normalization": "rescale_to_0_1"}
        return {"0": names.get(held(channels[0]).scheme, "zscore")}
    return {str(number): channel.name for number, channel in enumerate(channels)}


def _about(model: Exportable) -> dict[str, Any]:
    return {"tested_with_nnunetv2": NNUNET_VERSION, **model.description()}


def _how_to(model: Exportable, start: Start) -> str:
    several = len(model.channels) > 1
    seen = "; ".join(
        (f"`{channel.name}`: " if several else "") + (own.instead or f"`{own.scheme}`, as in the plan")
        for channel in model.channels
        for own in (held(channel),)
    )
    spacing, window = (" x ".join(f"{n:g}" for n in sizes) for sizes in (model.voxels_mm, model.window))
    return f"""# {model.name}: starting weights for nnU-Net

{start.words[0].upper()}{start.words[1:]}. Tested with nnunetv2 {NNUNET_VERSION}. No file is edited by hand:

```
nnUNetv2_plan_and_preprocess -d DATASET --no_pp
medssl export RUN --to nnunet --out FOLDER dataset=$nnUNet_preprocessed/DATASET_NAME
nnUNetv2_preprocess -d DATASET -plans_name {PLANS} -c {CONFIGURATION}
nnUNetv2_train DATASET {CONFIGURATION} FOLD -p {PLANS} -pretrained_weights FOLDER/pretrained.pth
```

The second line writes `{PLANS}.json` beside the dataset's plans: this network (`architecture.json`), voxels of
{spacing} mm (z, y, x), patches of {window}, scans turned to RAS+. What the weights have
seen: {seen}. Where nnU-Net cannot make that, the scheme of the dataset's own plan stays.
"""


def _on_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().to("cpu", copy=True).contiguous() for key, value in state.items()}


def _save(checkpoint: Mapping[str, Any], path: Path) -> Path:
    """Write ``checkpoint`` aside and rename it to ``path``."""
    with atomic_write(path) as aside:
        torch.save(dict(checkpoint), aside)
    return path
