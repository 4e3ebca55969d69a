"""A bundle's ``train.json``: fine-tuning from its weights with MONAI alone, and pytorch-ignite for its trainers.

Under the names that MONAI Label looks for (``train#dataset#data``, ``train#trainer#max_epochs``, ``train#handlers``,
``validate#dataset#data``), so that its servers train on what is labelled there.
"""

from __future__ import annotations

from typing import Any

from medssl.exporting.exportable import Exportable

__all__ = ["training_config"]

_TAKEN = ("network_def", "weights", "load", "network", "preparing", "seen")


def training_config(model: Exportable, inference: dict[str, Any]) -> dict[str, Any]:
    """Return ``configs/train.json`` of a segmenter: crops of labelled scans, Dice and cross-entropy, AdamW.

    Labels stand in ``dataset_dir/labels`` under the names of the scans in ``dataset_dir/images``, with the structures'
    values of ``medssl.structures`` in the metadata.

    Args:
        model: A segmenter of classes or regions.
        inference: The bundle's ``inference.json``, of which network and preprocessing are taken over.
    """
    size = list(model.window[::-1])
    both = ["image", "label"]
    before = [dict(one) for one in inference["preprocessing"]["transforms"]]
    load, turn, resample, *scale = before
    load["keys"], turn["keys"] = both, both
    if resample["_target_"] == "Spacingd":
        resample |= {"keys": both, "mode": [resample["mode"], "nearest"]}
        resample["padding_mode"] = [resample["padding_mode"], "border"]
    shared = [load, turn, resample, _targets(model), *scale]
    crop = {
        "_target_": "RandCropByPosNegLabeld",
        "keys": both,
        "label_key": "label",
        "spatial_size": size,
        "num_samples": 2,
        "allow_smaller": True,
    }
    fit = {"_target_": "ResizeWithPadOrCropd", "keys": both, "spatial_size": size}
    kept = {key: inference[key] for key in _TAKEN if key in inference}
    return {
        "imports": [*inference["imports"], "$import ignite"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/data'",
        "ckpt_dir": "$@bundle_root + '/models'",
        "channels": [channel.name for channel in model.channels],
        "images": "$sorted(glob.glob(os.path.join(@dataset_dir, 'images', '*.nii*')))",
        "datalist": (
            "$[{'image': p, 'label': os.path.join(@dataset_dir, 'labels', os.path.basename(p))} for p in @images]"
        ),
        "epochs": 20,
        "learning_rate": 1e-4,
        "batch_size": 1,
        "device": inference["device"],
        **kept,
        "loss": _loss(model),
        "optimizer": {"_target_": "torch.optim.AdamW", "params": "$@network.parameters()", "lr": "@learning_rate"},
        "train": {
            "preprocessing": {"_target_": "Compose", "transforms": [*shared, crop, fit]},
            "dataset": {"_target_": "Dataset", "data": "@datalist", "transform": "@train#preprocessing"},
            "dataloader": {
                "_target_": "DataLoader",
                "dataset": "@train#dataset",
                "batch_size": "@batch_size",
                "shuffle": True,
                "num_workers": 0,
            },
            "inferer": {"_target_": "SimpleInferer"},
            "handlers": [
                {
                    "_target_": "CheckpointSaver",
                    "save_dir": "@ckpt_dir",
                    "save_dict": {"model": "@network"},
                    "save_final": True,
                    "final_filename": "finetuned.pt",
                }
            ],
            "trainer": {
                "_target_": "SupervisedTrainer",
                "max_epochs": "@epochs",
                "device": "@device",
                "train_data_loader": "@train#dataloader",
                "network": "@network",
                "loss_function": "@loss",
                "optimizer": "@optimizer",
                "inferer": "@train#inferer",
                "train_handlers": "@train#handlers",
            },
        },
        "validate": {
            "preprocessing": {"_target_": "Compose", "transforms": shared},
            "dataset": {"_target_": "Dataset", "data": "$[]", "transform": "@validate#preprocessing"},
        },
        "run": ["$@network.train()", "$@train#trainer.run()"],
    }


def _targets(model: Exportable) -> dict[str, Any]:
    """Return the transform that makes of label values what the loss compares: channel numbers, or a mask a region."""
    if model.regions:
        values = [list(region.values) for region in model.regions]
        made = f"torch.cat([torch.isin(label, torch.tensor(v, device=label.device)) for v in {values}]).float()"
        return {"_target_": "Lambdad", "keys": "label", "func": f"$lambda label: {made}"}
    return {
        "_target_": "MapLabelValued",
        "keys": "label",
        "orig_labels": list(model.structures),
        "target_labels": list(range(len(model.structures))),
    }


def _loss(model: Exportable) -> dict[str, Any]:
    if model.regions:
        return {"_target_": "DiceCELoss", "sigmoid": True, "to_onehot_y": False}
    return {"_target_": "DiceCELoss", "softmax": True, "to_onehot_y": True}
