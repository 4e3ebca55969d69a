"""Every verb takes an imported run as it takes one of pretraining: of volumes, and of clouds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from medssl.encoders.table import build_encoder
from medssl.engine.card import Card, load_card, load_weights, save_encoder
from medssl.errors import ConfigError, DataError
from medssl.randomness import numpy_generator
from medssl.store.in_memory import Item, store_from_arrays
from medssl.workflows.export import export
from medssl.workflows.finetune import finetune
from medssl.workflows.import_weights import import_weights
from medssl.workflows.pretrain import pretrain
from pointcloud.shapes import CLASSES, shape
from pointcloud.store_writing import CloudItem, store_from_clouds
from tests.oracles.authors_stages import jittered
from tests.oracles.test_published_clouds import _MaeEncoder
from tests.pipelines.test_dense_probe import run_of

QUICK = ["train.steps=1", "train.batch_size=2", "train.log_every=1", "train.threads=1", "train.accelerator=cpu"]


def _segres() -> dict:
    from monai.networks.nets.segresnet_ds import SegResEncoder

    return {"state_dict": jittered(SegResEncoder(init_filters=4, blocks_down=(1, 1, 1), norm="batch")).state_dict()}


def _prefixed(network: torch.nn.Module, prefix: str) -> dict:
    return {f"{prefix}{key}": value for key, value in jittered(network).state_dict().items()}


# The file, the window, whether the scans are CT, and methods that pretraining goes on with
ROWS = {
    "ct-fm": (_segres, (8, 16, 16), True, ("spark", "simclr")),
}


def _scan(number: int, *, ct: bool) -> Item:
    generator = numpy_generator(3, number)
    values = generator.normal(0, 60, (16, 20, 36)) if ct else generator.normal(4000, 900, (16, 20, 36)).clip(0, 16384)
    labels = np.zeros(values.shape, dtype=np.int16)
    labels[4:11, 4:14, 6:20] = 1
    values += 400 * labels
    return Item(
        id=f"s{number}",
        values=values.astype(np.int16),
        labels=labels,
        modality="CT" if ct else "MR",
        patient=f"p{number}",
        split="train" if number < 4 else "test",
        targets={"size": "large" if number % 2 else "small"},
    )


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> dict[bool, Path]:
    folder = tmp_path_factory.mktemp("data")
    return {
        ct: store_from_arrays(folder / f"{ct}", [_scan(n, ct=ct) for n in range(8)], classes={1: "block"}).folder
        for ct in (True, False)
    }


@pytest.fixture(scope="module", params=list(ROWS))
def imported(request, tmp_path_factory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("imported")
    path = folder / "weights.pth"
    torch.save(ROWS[request.param][0](), path)
    assert import_weights(path, out=folder / "run").source == request.param
    return request.param, folder / "run"


def _window(group: str, name: str) -> str:
    return f"{group}.window=[{','.join(map(str, ROWS[name][1]))}]"


def test_fine_tuning_of_segments_and_classes_starts_from_all_of_it(imported, stores, tmp_path) -> None:
    name, run = imported
    store = stores[ROWS[name][2]]
    for group, more in (("segmentation", []), ("classification", ["classification.target=size"])):
        overrides = [*QUICK, _window(group, name), "data.predict=[]", *more]
        out = finetune(run, data=store, out=tmp_path / group, overrides=overrides).folder
        card = load_card(out)
        assert card.origin == load_card(run).origin
        assert [one.numbers for one in card.inputs] == [one.numbers for one in load_card(run).inputs]
        before, after = load_weights(run, "encoder"), load_weights(out, "encoder")
        kept = [key for key in before if not before[key].is_floating_point() or "running" in key]
        assert all(torch.equal(before[key], after[key]) for key in kept), "statistics that came with it stay"
        far = max(float((before[key] - after[key]).abs().max()) for key in before if key not in kept)
        assert 0 < far < 0.1, "one step away from what was imported"


def test_pretraining_goes_on_from_it(imported, stores, tmp_path) -> None:
    name, run = imported
    for method in ROWS[name][3]:
        overrides = [*QUICK, _window("method", name)]
        if method in ("simmim", "masked", "spark"):
            overrides.append(f"method.patch=[{','.join(str(n // 2) for n in ROWS[name][1])}]")
        if method == "simclr":
            overrides.append(_window("method", name).replace("window", "crop"))
        out = pretrain(method, data=stores[ROWS[name][2]], out=tmp_path / method, init_from=run, overrides=overrides)
        wanted = {**load_card(run).encoder, "pool": load_card(out.folder).encoder["pool"]}  # presets have their own
        assert load_card(out.folder).encoder == wanted
        assert load_card(out.folder).origin == load_card(run).origin


def test_it_is_exported_with_its_licence(imported, tmp_path, capsys) -> None:
    _, run = imported
    for to in ("safetensors", "onnx"):
        export(run, to=to, out=tmp_path / to)
        said = capsys.readouterr()
        assert "licence of the code" in said.out
        forbids = load_card(run).origin.forbids
        assert ("read it before you pass the export on" in said.err) == bool(forbids)
    with pytest.raises(DataError, match=r"nnU-Net has no network like"):
        export(run, to="nnunet", out=tmp_path / "nnunet")


def test_a_network_of_kept_statistics_fine_tunes_as_the_same_weights_built_here(stores, tmp_path) -> None:
    from monai.networks.nets.segresnet_ds import SegResEncoder

    theirs = jittered(SegResEncoder(init_filters=4, blocks_down=(1, 1, 1), norm="batch"))
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "a.pth")
    import_weights(tmp_path / "a.pth", out=tmp_path / "imported")
    card = load_card(tmp_path / "imported")
    encoder = build_encoder({**card.encoder, "in_channels": 1})
    own = encoder.state_dict()
    own["stem.weight"] = theirs.conv_init.weight.flip(3, 4)
    for stage, level in enumerate(theirs.layers):
        at = f"stages.{stage}.{int(stage > 0)}"
        if stage < 2:
            own[f"stages.{stage + 1}.0.weight"] = level["downsample"].weight.flip(3, 4)
        for n in (1, 2):
            own[f"{at}.conv{n}.weight"] = getattr(level["blocks"][0], f"conv{n}").weight.flip(3, 4)
            for key, value in getattr(level["blocks"][0], f"norm{n}").state_dict().items():
                if key != "num_batches_tracked":
                    own[f"{at}.norm{n}.{key}"] = value
    encoder.load_state_dict(own)
    (tmp_path / "native").mkdir()
    shared = {key: getattr(card, key) for key in ("encoder", "in_channels", "channels", "strides", "inputs", "window")}
    save_encoder(encoder, Card(**shared, modality="CT", spacing_mm=card.spacing_mm), tmp_path / "native")
    runs = [
        finetune(
            tmp_path / name,
            data=stores[True],
            out=tmp_path / f"{name}-tuned",
            overrides=[*QUICK, "train.steps=2", "segmentation.window=[8,16,16]", "data.predict=[]"],
        ).folder
        for name in ("imported", "native")
    ]
    first, second = (load_weights(run, "network") for run in runs)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_clouds_go_the_same_ways(tmp_path) -> None:
    theirs = jittered(_MaeEncoder(64, 1, 1))
    torch.save({"base_model": _prefixed(theirs, "module.MAE_encoder.")}, tmp_path / "pretrain.pth")
    run = import_weights(tmp_path / "pretrain.pth", out=tmp_path / "run").folder
    items = [
        CloudItem(
            id=f"{name}-{n}",
            cloud=shape(name, n, seed=0, points=90),
            patient=f"{name}-{n}",
            split=("train", "train", "train", "test")[n],
        )
        for name in CLASSES[:2]
        for n in range(4)
    ]
    store = store_from_clouds(tmp_path / "store", items, classes=dict(enumerate(CLASSES))).folder
    brief = ["train.steps=1", "train.batch_size=2", "train.log_every=1", "train.accelerator=cpu"]
    tuned = finetune(run, data=store, out=tmp_path / "tuned", overrides=[*brief, "cloud.points=64", "cloud.hidden=[8]"])
    assert load_card(tuned.folder).origin.source == "point-mae"
    on = pretrain(
        "point_mae", data=store, out=tmp_path / "on", init_from=run, overrides=[*brief, "method.points=64"]
    ).folder
    assert load_card(on).encoder["width"] == load_card(run).encoder["width"] == 64


def test_a_file_of_a_run_is_said_to_be_one(tmp_path):
    run = run_of(tmp_path / "a run")
    with pytest.raises(ConfigError, match=r"encoder\.safetensors: this is a part of .*a run, which is a run already"):
        import_weights(run / "encoder.safetensors", out=tmp_path / "new")
    assert not (tmp_path / "new").exists()
