"""From each masked reconstruction to a segmenter: what is kept, and what of it segmentation takes over."""

from __future__ import annotations

import json

import numpy as np
import pytest

from medssl.errors import ConfigError
from medssl.randomness import numpy_generator
from medssl.store.in_memory import Item, store_from_arrays
from medssl.workflows.finetune import finetune
from medssl.workflows.pretrain import pretrain

QUICK = [
    "train.steps=4", "train.log_every=2", "train.checkpoint_every=4", "train.probe_every=4", "train.threads=1",
    "train.batch_size=2", "train.accelerator=cpu",
]  # fmt: skip
UNET = {"name": "unet", "channels": [4, 8]}
VIT = {"name": "vit", "width": 24, "depth": 2, "heads": 2, "patch": 8}
MAE = {"name": "mae", "decoder_width": 24, "decoder_depth": 1, "decoder_heads": 2}
CASES = {
    "spark": ({"name": "spark", "patch": [4, 4, 4]}, UNET, {"encoder"}),
    "S3D": ({"name": "spark", "patch": [4, 4, 4], "decoder": "unet"}, UNET, {"encoder", "decoder"}),
    "mae": (MAE, VIT, {"encoder"}),
    "simmim": ({"name": "simmim"}, VIT, {"encoder"}),
    "masked": ({"name": "masked"}, VIT, {"encoder", "decoder"}),
}


def preset(folder, method, encoder):
    """Write a settings file, since a preset's encoder would be of another kind."""
    path = folder / "settings.yaml"
    path.write_text(json.dumps({"method": {"window": [16, 16, 16], **method}, "encoder": encoder}))
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    items = []
    for number, split in enumerate(("train", "train", "train", "val", "test")):
        values = numpy_generator(3, number).normal(0, 60, (18, 20, 17))
        labels = np.zeros(values.shape, dtype=np.int16)
        labels[4:12, 5:14, 3:9] = 1
        values += 400 * labels
        items.append(
            Item(id=f"s{number}", values=values.astype(np.int16), labels=labels, patient=f"p{number}", split=split)
        )
    return store_from_arrays(tmp_path_factory.mktemp("data") / "store", items, classes={1: "organ"})


@pytest.mark.parametrize("name", CASES)
def test_encoder_carries_over_whole_and_the_unets_decoder_where_it_was_trained(name, store, tmp_path):
    method, encoder, kept = CASES[name]
    run = pretrain(preset(tmp_path, method, encoder), data=store.folder, out=tmp_path / "pre", overrides=QUICK)
    assert {path.stem for path in run.folder.glob("*.safetensors")} == kept
    out = tmp_path / "tuned"
    finetune(
        run.folder,
        data=store.folder,
        out=out,
        overrides=[
            *(word for word in QUICK if "probe" not in word),
            "segmentation.window=[16,16,16]",
            "inference.overlap=0.25",
        ],
    )
    reports = json.loads((out / "transfer.json").read_text())
    text = json.dumps(reports)
    shares = {part: report["share"] for part, report in _reports(reports)}
    assert shares["encoder"] == 1.0, text
    assert ("decoder" in shares) == ("decoder" in kept)
    if "decoder" in kept:
        assert shares["decoder"] > 0.9


def _reports(content):
    for value in content if isinstance(content, list) else content.values():
        if isinstance(value, dict) and "part" in value:
            yield value["part"], value
        elif isinstance(value, (list, dict)):
            yield from _reports(value)


def test_an_encoder_that_does_not_fit_is_refused_with_methods_that_do(store, tmp_path):
    for name, encoder, said in (("spark", VIT, "'mae' or 'simmim'"), ("mae", UNET, "'spark' or 'masked'")):
        settings = preset(tmp_path, {"name": name}, encoder)
        with pytest.raises(ConfigError, match=said):
            pretrain(settings, data=store.folder, out=tmp_path / name, overrides=QUICK, dry_run=True)
