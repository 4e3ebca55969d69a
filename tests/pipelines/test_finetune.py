import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import medssl
from medssl.domains.choosing import choose_labelled
from medssl.domains.data_settings import LabelledSettings
from medssl.encoders.table import build_encoder
from medssl.engine.card import Card, load_card, load_encoder, load_weights, save_encoder
from medssl.engine.checkpoint import load_latest
from medssl.errors import CheckpointError, ConfigError, DataError, TransferError
from medssl.formats.nifti import read
from medssl.presets import list_presets
from medssl.randomness import numpy_generator
from medssl.settings import resolve
from medssl.store.in_memory import Item, store_from_arrays
from medssl.tasks.segmenter import load_segmenter
from medssl.workflows.finetune import FinetuneSettings, finetune

ENCODER = {"name": "unet", "channels": [4, 8]}
QUICK = [
    "segmentation.window=[16,16,16]", "train.steps=4", "train.log_every=2", "train.checkpoint_every=2",
    "train.threads=1", "train.accelerator=cpu", "inference.overlap=0.25",
]  # fmt: skip
SCRATCH = [*QUICK, "encoder.name=unet", "encoder.channels=[4,8]"]
SPLITS = ("train", "train", "train", "train", "val", "test", "test")


def scan(number: int) -> Item:
    values = numpy_generator(3, number).normal(0, 60, (18, 20, 17))
    labels = np.zeros(values.shape, dtype=np.int16)
    labels[4:12, 5:14, 3:9], labels[5:11, 6:12, 10:15] = 1, 2
    values += np.select([labels == 1, labels == 2], [400, 800], 0)
    split = SPLITS[number]
    return Item(
        id=f"s{number}", values=values.astype(np.int16), labels=None if number == 6 else labels,
        patient=f"p{number // 2}" if split == "train" else f"p{number}", split=split,
    )  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "store"
    return store_from_arrays(folder, [scan(n) for n in range(7)], classes={1: "left", 2: "right"})


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained")
    torch.manual_seed(5)
    encoder = build_encoder(ENCODER)
    settings = encoder.settings.model_dump(mode="json")
    card = Card(
        encoder=settings, in_channels=1, channels=encoder.channels, strides=encoder.strides, window=(16, 16, 16),
        spacing_mm=(1, 1, 1), modality="CT",
    )  # fmt: skip
    save_encoder(encoder, card, folder)
    return folder


def weights(folder):
    return load_segmenter(folder).network.state_dict()


@pytest.fixture(scope="module")
def run(store, pretrained, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "a"
    return finetune(pretrained, data=store.folder, out=out, overrides=QUICK)


def test_a_run_leaves_network_card_report_predictions_and_scores(run, store, pretrained) -> None:
    names = {path.name for path in run.folder.iterdir()}
    assert {"network.safetensors", "encoder.safetensors", "card.json", "transfer.json", "run.yaml"} <= names
    report = json.loads((run.folder / "transfer.json").read_text())["encoder"]
    assert report["share"] == 1.0
    assert (run.folder / report["source"]).resolve() == pretrained.resolve()  # as seen from the run
    assert [path.name for path in run.predictions] == ["s5.nii.gz", "s6.nii.gz"]
    written = read(run.predictions[0])
    assert written.values.shape == (18, 20, 17)
    assert set(np.unique(written.values)) <= {0, 1, 2}
    assert set(run.dice) == {"left", "right"}
    assert json.loads((run.folder / "validation.json").read_text())["scans"] == 1
    segmenter = run.segmenter()
    assert segmenter.class_names == ("left", "right")
    torch.testing.assert_close(load_encoder(run.folder).state_dict(), dict(segmenter.encoder.state_dict()))


def test_load_gives_the_network_of_either_kind_of_run(run, pretrained) -> None:
    images = torch.rand(1, 1, 16, 16, 16)
    network, encoder = medssl.load(run.folder), medssl.load(pretrained)
    assert network(images).shape == (1, 3, 16, 16, 16)
    assert encoder.embed(images).shape == (1, 8)
    assert not network.training
    assert not encoder.training


def test_the_encoder_of_the_run_is_the_start_and_scratch_differs_in_that_alone(store, pretrained, tmp_path) -> None:
    still = [*QUICK, "train.lr=1e-12", "train.steps=1"]
    finetune(pretrained, data=store.folder, out=tmp_path / "a", overrides=still, predict=[])
    finetune(pretrained, data=store.folder, out=tmp_path / "b", overrides=still, predict=[], from_scratch=True)
    carried, fresh, source = weights(tmp_path / "a"), weights(tmp_path / "b"), load_encoder(pretrained).state_dict()
    for name, tensor in source.items():
        torch.testing.assert_close(carried[f"encoder.{name}"], tensor)
    assert not torch.allclose(fresh["encoder.stages.0.0.conv.weight"], source["stages.0.0.conv.weight"])
    for name in fresh:
        if name.startswith("decoder."):
            torch.testing.assert_close(carried[name], fresh[name])
    assert not (tmp_path / "b" / "transfer.json").exists()
    assert not (tmp_path / "a" / "predictions").exists()


def test_resume_begins_where_there_is_no_run_yet(store, pretrained, tmp_path, capsys) -> None:
    overrides = [*QUICK, "train.steps=1", "data.predict=[]"]
    finetune(pretrained, data=store.folder, out=tmp_path / "run", overrides=overrides, resume=True)
    assert "no run here yet; starting a new one" in capsys.readouterr().out
    finetune(pretrained, data=store.folder, out=tmp_path / "run", overrides=overrides, resume=True)
    assert "begins here" not in capsys.readouterr().out
    with pytest.raises(CheckpointError, match="no run to resume"):
        finetune(out=tmp_path / "new", resume=True)


def test_a_resumed_run_ends_with_the_same_weights(run, store, pretrained, tmp_path) -> None:
    out = tmp_path / "r"
    finetune(pretrained, data=store.folder, out=out, overrides=QUICK)
    newest = sorted((out / "checkpoints").iterdir())[-1]
    newest.rename(tmp_path / "lost")
    (out / "predictions" / "s5.nii.gz").rename(tmp_path / "s5.nii.gz")
    again = finetune(pretrained, data=store.folder, out=out, overrides=QUICK, resume=True)
    for name, tensor in weights(run.folder).items():
        assert torch.equal(weights(out)[name], tensor), name
    assert again.predictions[0].is_file()


def test_a_run_that_was_stopped_is_closed_and_predicts_with_what_it_has(
    run, store, pretrained, tmp_path, capsys
) -> None:
    out = tmp_path / "r"
    finetune(pretrained, data=store.folder, out=out, overrides=QUICK)
    checkpoints = sorted((out / "checkpoints").iterdir())
    checkpoints[-1].rename(tmp_path / "lost")
    for name in ("card.json", "encoder.safetensors", "predictions"):
        (out / name).rename(tmp_path / name)
    with pytest.raises(CheckpointError, match=f"medssl finetune --out {out} --finish"):
        load_encoder(out)
    kept = load_latest(out / "checkpoints", warn=print)
    capsys.readouterr()
    closed = finetune(out=out, finish=True)
    assert f"closed at step {kept.step} of" in capsys.readouterr().out
    assert closed.predictions[0].is_file()
    assert load_card(out).steps == kept.step < load_card(run.folder).steps
    assert all(torch.equal(tensor, kept.model[f"encoder.{name}"]) for name, tensor in load_weights(out).items())
    finetune(out=out, resume=True)
    for name, tensor in weights(run.folder).items():
        assert torch.equal(weights(out)[name], tensor), name


def test_few_labels_are_nested_by_patient_and_never_leak(store) -> None:
    settings = LabelledSettings(labels=1, draw=2)
    one = choose_labelled(store, settings)
    both = choose_labelled(store, settings.model_copy(update={"labels": 2}))
    ids = {e.id for e in one.train.entries}
    assert ids in ({"s0", "s1"}, {"s2", "s3"})
    assert ids < {e.id for e in both.train.entries}
    assert [e.id for e in one.held_out.entries] == ["s4"]
    assert [e.id for e in one.predict.entries] == ["s5", "s6"]
    named = choose_labelled(store, LabelledSettings(ids=("s4", "s6")))
    assert [e.id for e in named.train.entries] == ["s4"]
    assert named.left_out == 1
    assert named.held_out is None
    with pytest.raises(DataError, match="no labelled scan"):
        choose_labelled(store, LabelledSettings(splits=("other",)))
    with pytest.raises(DataError, match="3 labelled patients"):
        choose_labelled(store, LabelledSettings(labels=3))


def test_a_decoder_that_was_kept_is_carried_over_but_for_its_head(store, pretrained, tmp_path) -> None:
    from medssl.decoder import UNetDecoder

    encoder = load_encoder(pretrained)
    decoder = UNetDecoder(encoder, 1)
    card = Card.model_validate_json((pretrained / "card.json").read_text())
    (tmp_path / "p").mkdir()
    save_encoder(encoder, card, tmp_path / "p", others={"decoder": decoder})
    finetune(tmp_path / "p", data=store.folder, out=tmp_path / "a", overrides=[*QUICK, "train.steps=1"], predict=[])
    rows = json.loads((tmp_path / "a" / "transfer.json").read_text())["decoder"]["rows"]
    assert {row["name"] for row in rows if row["status"] != "matched"} == {"seg_layers.0.weight", "seg_layers.0.bias"}
    finetune(tmp_path / "a", data=store.folder, out=tmp_path / "b", overrides=[*QUICK, "train.steps=1"], predict=[])
    again = json.loads((tmp_path / "b" / "transfer.json").read_text())["decoder"]
    assert again["share"] == 1.0


def test_dry_run_writes_nothing(store, tmp_path, capsys) -> None:
    finetune(data=store.folder, out=tmp_path / "a", overrides=SCRATCH, dry_run=True)
    assert not (tmp_path / "a").exists()
    assert "4 labelled scans of 2 patients" in capsys.readouterr().out


def test_what_is_wrong_is_said(store, pretrained, tmp_path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'segmentation'"):
        finetune(data=store.folder, out=tmp_path / "a", task="segmentatoin")
    with pytest.raises(ConfigError, match=r"encoder\.channels would change it"):
        finetune(pretrained, data=store.folder, out=tmp_path / "a", overrides=["encoder.channels=[4,4]"])
    with pytest.raises(ConfigError, match="no store"):
        finetune(out=tmp_path / "a")
    with pytest.raises(CheckpointError, match=r"no card\.json"):
        finetune(tmp_path, data=store.folder, out=tmp_path / "a")
    with pytest.raises(CheckpointError, match="not of a segmenter"):
        load_segmenter(pretrained)
    torn = tmp_path / "torn"
    torn.mkdir()
    (torn / "card.json").write_bytes((pretrained / "card.json").read_bytes())
    save_encoder(build_encoder({**ENCODER, "channels": [4, 4]}), Card.model_validate_json(
        (pretrained / "card.json").read_text()), torn)  # fmt: skip
    with pytest.raises(TransferError, match=r"stages\.1\.0\.conv\.weight"):
        finetune(torn, data=store.folder, out=tmp_path / "a", overrides=QUICK)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("preset", [p.name for p in list_presets("finetune")])
def test_presets_fit(preset) -> None:
    resolve(FinetuneSettings, preset=preset)


@pytest.mark.slow
def test_training_needs_only_a_store_and_light_libraries(store, tmp_path) -> None:
    code = (
        "import sys; from medssl.workflows.finetune import finetune; "
        f"finetune(data={str(store.folder)!r}, out={str(tmp_path / 'a')!r}, overrides={SCRATCH!r}, predict=[]); "
        "print('heavy:', [m for m in ('SimpleITK', 'open3d', 'polars') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "heavy: []" in done.stdout
