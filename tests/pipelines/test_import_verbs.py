"""Every verb takes an imported run as it takes one of pretraining: of volumes, and of clouds."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from medssl.encoders.table import build_encoder
from medssl.engine.card import Card, load_card, load_encoder, load_weights, save_encoder
from medssl.errors import ConfigError, DataError
from medssl.randomness import numpy_generator
from medssl.store.in_memory import Item, store_from_arrays
from medssl.workflows.embed import embed
from medssl.workflows.evaluate import evaluate
from medssl.workflows.export import export
from medssl.workflows.finetune import finetune
from medssl.workflows.import_weights import import_weights
from medssl.workflows.predict import predict
from medssl.workflows.pretrain import pretrain
from pointcloud.shapes import CLASSES, shape
from pointcloud.store_writing import CloudItem, store_from_clouds
from tests.oracles.authors_stages import jittered
from tests.oracles.authors_swin import swin_unetr
from tests.oracles.authors_volumes import GenesisUNet, MedicalResNet, STUNet, VolumeDINO
from tests.oracles.test_published_clouds import _MaeEncoder
from tests.oracles.test_published_slices import _makers_dinov2, _timm
from tests.oracles.test_published_stages import _adaptation
from tests.oracles.test_published_volumes import _primus_files
from tests.pipelines.test_dense_probe import run_of

QUICK = ["train.steps=1", "train.batch_size=2", "train.log_every=1", "train.threads=1", "train.accelerator=cpu"]


def _segres() -> dict:
    from monai.networks.nets.segresnet_ds import SegResEncoder

    return {"state_dict": jittered(SegResEncoder(init_filters=4, blocks_down=(1, 1, 1), norm="batch")).state_dict()}


def _prefixed(network: torch.nn.Module, prefix: str) -> dict:
    return {f"{prefix}{key}": value for key, value in jittered(network).state_dict().items()}


def _primus() -> dict:
    trainer, state, _ = _primus_files()["simmim"]
    plan = _adaptation(spelling="keys_to_in_proj") | {
        "architecture_plans": {"arch_class_name": "PrimusM", "arch_kwargs": None}
    }
    return {"network_weights": state, "nnssl_adaptation_plan": plan, "trainer_name": trainer}


def _voco() -> dict:
    body = {
        key: value
        for key, value in swin_unetr(use_v2=True).state_dict().items()
        if not key.startswith(("decoder", "out"))
    }
    heads = {f"module.{side}.layer1.0.weight": torch.ones(2, 3) for side in ("student", "teacher")}
    return {"epoch": 3, "state_dict": {f"module.backbone.{key}": value for key, value in body.items()} | heads}


# The file, the window, whether the scans are CT, and methods that pretraining goes on with
ROWS = {
    "ct-fm": (_segres, (8, 16, 16), True, ("spark", "simclr")),
    "voco": (_voco, (64, 32, 32), True, ("simmim",)),
    "3dino": (
        lambda: {"teacher": _prefixed(VolumeDINO(128, 2, patch=4, side=3, chunks=2), "backbone.")},
        (16, 16, 16),
        False,
        ("simmim", "simclr"),
    ),
    "openmind-primus": (_primus, (16, 16, 16), False, ("simmim",)),
    "medicalnet": (
        lambda: {"state_dict": _prefixed(MedicalResNet((1, 1, 1, 1), (4, 6, 8, 10), "B", deep=False), "module.")},
        (16, 16, 32),
        False,
        ("spark", "simclr"),
    ),
    "stu-net": (lambda: {"state_dict": _prefixed(STUNet((4, 6, 8), (1, 2, 1)), "")}, (8, 16, 16), False, ("spark",)),
    "models-genesis": (
        lambda: {"state_dict": _prefixed(GenesisUNet(4), "module.")},
        (16, 16, 32),
        True,
        ("spark", "masked"),
    ),
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


LARGER = ("voco", "openmind-primus", "medicalnet")


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[pytest.mark.slow] if name in LARGER else []) for name in ROWS],
)
def imported(request, tmp_path_factory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("imported")
    path = folder / "weights.pth"
    torch.save(ROWS[request.param][0](), path)
    assert import_weights(path, out=folder / "run").source == request.param
    return request.param, folder / "run"


def _window(group: str, name: str) -> str:
    return f"{group}.window=[{','.join(map(str, ROWS[name][1]))}]"


@pytest.fixture(scope="module")
def tuned(imported, stores, tmp_path_factory) -> dict[str, Path]:
    name, run = imported
    made = {}
    for group, more in (("segmentation", ["data.predict=[test]"]), ("classification", ["classification.target=size"])):
        overrides = [*QUICK, _window(group, name), *more]
        if group == "classification":
            overrides.append("data.predict=[]")
        out = tmp_path_factory.mktemp("tuned") / group
        made[group] = finetune(run, data=stores[ROWS[name][2]], out=out, overrides=overrides).folder
    return made


def test_fine_tuning_of_segments_and_classes_starts_from_all_of_it(imported, tuned) -> None:
    _, run = imported
    for out in tuned.values():
        card = load_card(out)
        assert card.origin == load_card(run).origin
        assert [one.numbers for one in card.inputs] == [one.numbers for one in load_card(run).inputs]
        before, after = load_weights(run, "encoder"), load_weights(out, "encoder")
        kept = [key for key in before if not before[key].is_floating_point() or "running" in key]
        assert all(torch.equal(before[key], after[key]) for key in kept), "statistics that came with it stay"
        far = max(float((before[key] - after[key]).abs().max()) for key in before if key not in kept)
        assert 0 < far < 0.1, "one step away from what was imported"


def test_fine_tuning_is_that_of_the_same_weights_built_here(imported, tuned, stores, tmp_path) -> None:
    """Oracles hold the numbers to their makers' network; here all else that an import leaves is shown to be idle."""
    name, run = imported
    card = load_card(run)
    encoder = build_encoder(card.encoder)
    encoder.load_state_dict(load_weights(run, "encoder"), strict=True)
    kept = ("encoder", "in_channels", "channels", "strides", "inputs", "window", "modality", "spacing_mm")
    (tmp_path / "native").mkdir()
    save_encoder(encoder, Card(**{key: getattr(card, key) for key in kept}), tmp_path / "native")
    overrides = [*QUICK, _window("segmentation", name), "data.predict=[]"]
    native = finetune(tmp_path / "native", data=stores[ROWS[name][2]], out=tmp_path / "out", overrides=overrides).folder
    first, second = (load_weights(each, "network") for each in (tuned["segmentation"], native))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_it_embeds_and_is_probed_by_scan_and_by_voxel(imported, stores, tmp_path) -> None:
    name, run = imported
    size = (64, 64, 64) if name == "voco" else ROWS[name][1]  # an instance norm takes no window of one place
    store, window = stores[ROWS[name][2]], f"[{','.join(map(str, size))}]"
    table = embed(run, data=store, out=tmp_path / "v.npz", overrides=["device=cpu", f"window={window}"]).table
    assert table.vectors.shape == (8, load_encoder(run).embedding_dim)
    assert not table.failed
    assert np.ptp(table.vectors, axis=0).max() > 0
    looked = ["probe.scans.target=size", "probe.sizes=[2]", "probe.draws=2", "probe.few_shot=[]", "probe.random=1"]
    found = evaluate(run, data=store, out=tmp_path / "probe", protocol="probe", overrides=looked)
    assert {"run", "random"} < {row.arm for row in found.scores}
    looked = [f"dense_probe.window={window}", "dense_probe.sizes=[2]", "dense_probe.draws=2", "dense_probe.random=1"]
    looked.append("dense_probe.places=100")
    found = evaluate(run, data=store, out=tmp_path / "dense", protocol="dense-probe", overrides=looked)
    assert {"run", "run-joined", "random"} < {row.arm for row in found.scores}
    assert all(np.isfinite(row.interval.estimate) for row in found.scores)


def test_what_was_tuned_predicts_on_files(imported, tuned, stores, tmp_path) -> None:
    name, _ = imported
    scan = _scan(5, ct=ROWS[name][2])
    (tmp_path / "scans").mkdir()
    word = "ct" if ROWS[name][2] else "T1w"
    image = nibabel.Nifti1Image(scan.values.transpose(2, 1, 0), np.eye(4))
    nibabel.save(image, tmp_path / "scans" / f"s5_{word}.nii.gz")
    for group, run in tuned.items():
        said = predict(run, tmp_path / "scans", out=tmp_path / group, overrides=["device=cpu"])
        assert (len(said.done), said.failed) == (1, {})
    (path,) = (tmp_path / "segmentation").rglob("*.nii.gz")
    found = np.asarray(nibabel.load(path).dataobj)
    assert found.shape == image.shape
    assert set(np.unique(found)) <= {0, 1}
    if ROWS[name][2]:  # HU are the store's; the percentiles of MR are not
        (kept,) = (path for path in tuned["segmentation"].rglob("*.nii.gz") if "s5" in path.name)
        np.testing.assert_array_equal(found, np.asarray(nibabel.load(kept).dataobj))


def test_pretraining_goes_on_from_it(imported, stores, tmp_path) -> None:
    name, run = imported
    for method in ROWS[name][3]:
        overrides = [*QUICK, _window("method", name)]
        if method in ("simmim", "masked", "spark"):
            overrides.append(f"method.patch=[{','.join(str(n // 2) for n in ROWS[name][1])}]")
        if method == "simclr":
            overrides.append(_window("method", name).replace("window", "crop"))
        out = pretrain(method, data=stores[ROWS[name][2]], out=tmp_path / method, init_from=run, overrides=overrides)
        assert load_card(out.folder).encoder == load_card(run).encoder, "its pool too: no preset of these says one"
        assert load_card(out.folder).origin == load_card(run).origin


def test_it_is_exported_with_its_licence(imported, tmp_path, capsys) -> None:
    _, run = imported
    card = load_card(run)
    for to in ("safetensors", "hub"):
        export(run, to=to, out=tmp_path / to)
        said = capsys.readouterr()
        assert "licence of the code" in said.out
        assert ("read it before you pass the export on" in said.err) == bool(card.origin.forbids)
    assert import_weights(tmp_path / "hub", out=tmp_path / "again").card == card
    sized = [] if card.spacing_mm else ["spacing_mm=[2,1,1]"]
    with pytest.raises(DataError, match=r"nnU-Net has no network like"):
        export(run, to="nnunet", out=tmp_path / "nnunet", overrides=sized)
    if sized:
        with pytest.raises(DataError, match="names no spacing_mm"):
            export(run, to="torchscript", out=tmp_path / "net.pt")


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "monai", "torchscript"])
def test_it_and_what_was_tuned_run_elsewhere(imported, tuned, to: str, tmp_path) -> None:
    _, run = imported
    for number, each in enumerate((run, *tuned.values())):
        sized = [] if load_card(each).spacing_mm else ["spacing_mm=[2,1,1]"]
        done = export(each, to=to, out=tmp_path / str(number), overrides=sized)
        assert done.max_difference is not None
        assert done.max_difference < 1e-2


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


def test_nnunet_refuses_a_network_that_it_has_not_before_its_input(tuned, tmp_path) -> None:
    """Else the way out that is shown, another store, would end at the network all the same."""
    with pytest.raises(DataError, match="nnU-Net has no network like"):
        export(tuned["segmentation"], to="nnunet", out=tmp_path / "nn")


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


def test_slices_pretrain_on_with_the_pool_of_their_card(stores, tmp_path) -> None:
    """The presets' encoders pool otherwise by default, in a way that networks of slices have not."""
    torch.save(_makers_dinov2(_timm("vit_small_patch14_dinov2")), tmp_path / "dinov2.pth")
    run = import_weights(tmp_path / "dinov2.pth", out=tmp_path / "run").folder
    overrides = [*QUICK, "method.window=[2,28,28]", "method.crop=[2,28,28]"]
    for more in ([], ["encoder.pool=grid"]):
        out = pretrain(
            "simclr", data=stores[False], out=tmp_path / f"on{len(more)}", init_from=run, overrides=overrides + more
        )
        assert load_card(out.folder).encoder["pool"] == ("grid" if more else load_card(run).encoder["pool"])


def test_a_file_of_a_run_is_said_to_be_one(tmp_path):
    run = run_of(tmp_path / "a run")
    with pytest.raises(ConfigError, match=r"encoder\.safetensors: this is a part of .*a run, which is a run already"):
        import_weights(run / "encoder.safetensors", out=tmp_path / "new")
    assert not (tmp_path / "new").exists()
