"""The input of a run goes with it: into fine-tuning, prediction, embeddings, exports, and on after a kill."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from medssl.engine.card import load_card, load_encoder, load_weights
from medssl.errors import CheckpointError, ConfigError, DataError
from medssl.exporting.features import embed_scan
from medssl.exporting.runs import exportable_of
from medssl.formats.nifti import write_nifti
from medssl.loading import WindowLoader
from medssl.methods.contract import Method
from medssl.normalising import SCHEMES
from medssl.store.in_memory import Item, store_from_arrays
from medssl.store.normalised import normalised_as
from medssl.store.read import Store
from medssl.tasks.inference import mean_probabilities
from medssl.tasks.segmenter import load_segmenter
from medssl.workflows.arms import check_same
from medssl.workflows.cache import cache
from medssl.workflows.embed import embed
from medssl.workflows.export import export
from medssl.workflows.finetune import finetune
from medssl.workflows.index import index
from medssl.workflows.load_model import load_model
from medssl.workflows.pretrain import pretrain

SMALL = ["train.steps=2", "train.batch_size=2", "train.threads=1", "train.accelerator=cpu", "train.log_every=1"]
MASKED = ["method.window=[8,8,8]", "method.patch=[4,4,4]", "encoder.name=unet", "encoder.channels=[4,8]", *SMALL]
TUNED = ["segmentation.window=[8,8,8]", "inference.overlap=0.25", *SMALL]


def scan(number: int) -> np.ndarray:
    values = np.full((12, 14, 16), -1000, dtype=np.int16)
    draw = np.random.default_rng(number)
    values[2:10, 2:12, 2:14] = draw.normal(60, 80, (8, 10, 12)).round()
    values[4:7, 4:8, 4:8] = 500
    return values


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("normalised")
    items = [
        Item(id=f"s{n}", values=scan(n), labels=(scan(n) > 400).astype(np.uint8), patient=f"p{n}",
             split="test" if n == 3 else "train")
        for n in range(4)
    ]  # fmt: skip
    store_from_arrays(home / "store", items, settings={"hu_range": [-1024, 3071]})
    for scheme in SCHEMES:
        pretrain(
            preset="masked_small", data=home / "store", out=home / scheme,
            overrides=[*MASKED, f"data.normalise={scheme}"],
        )  # fmt: skip
    finetune(home / "nnunet", data=home / "store", out=home / "tuned", overrides=TUNED)
    return home


def seen_by(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Return what networks are given from now on."""
    from medssl.encoders.staged import StagedEncoder

    seen: list[torch.Tensor] = []
    before = StagedEncoder.forward

    def forward(self, images):
        seen.append(images.detach().clone())
        return before(self, images)

    monkeypatch.setattr(StagedEncoder, "forward", forward)
    return seen


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_card_says_what_a_run_was_given(home: Path, scheme: str) -> None:
    (given,) = load_card(home / scheme).inputs
    assert given.normalise == scheme
    assert (given.numbers is not None) == (scheme in ("dataset", "nnunet", "nonzero"))
    (written,) = json.loads((home / scheme / "input.json").read_text())
    assert (written["normalise"], written["scale"]) == (scheme, [-1000.0, 1000.0])


def test_finetuning_follows_and_says_where_it_does_not(home: Path, tmp_path: Path, capsys) -> None:
    assert load_card(home / "tuned").inputs == load_card(home / "nnunet").inputs
    finetune(home / "zscore", data=home / "store", out=tmp_path / "run", dry_run=True, overrides=TUNED)
    assert "input: zscore" in capsys.readouterr().out
    wrong = [*TUNED, "data.normalise=unit"]
    finetune(home / "zscore", data=home / "store", out=tmp_path / "run", dry_run=True, overrides=wrong)
    assert "doubtful: the encoder was pretrained on input of zscore" in capsys.readouterr().out


def test_prediction_takes_trainings_input_to_the_bit(home: Path, tmp_path: Path, monkeypatch) -> None:
    """A file of the test scan, an array of it, and the store's own scan give the network the same values."""
    model = load_model(home / "tuned", device="cpu")
    task = load_segmenter(home / "tuned")
    store = normalised_as(Store.open(home / "store"), load_card(home / "tuned").inputs_known)
    write_nifti(tmp_path / "new.nii.gz", scan(3), np.eye(4))
    seen = seen_by(monkeypatch)
    found = model.predict(tmp_path / "new.nii.gz", modality="CT")
    of_file, rows = torch.cat(seen), len(seen)
    model.predict(scan(3), affine=np.eye(4), modality="CT")
    of_array = torch.cat(seen[rows:])
    rows = len(seen)
    own = model._ready.predictor.members if hasattr(model._ready.predictor, "members") else None
    members = own or model._ready.predictor._members
    wanted = mean_probabilities(members, store, 3)
    of_store = torch.cat(seen[rows:])
    assert torch.equal(of_file, of_array)
    assert torch.equal(of_file, of_store)
    np.testing.assert_array_equal(found.probabilities, wanted.numpy())
    batch = WindowLoader(store, task.plan, batch_size=4, seed=0, threads=0).batch(0)
    assert float(of_file.min()) == pytest.approx(float(batch.network_input().min()))  # air, clipped and scaled alike


def test_embedding_takes_the_cards_input(home: Path, tmp_path: Path) -> None:
    table = embed(home / "zscore", data=home / "store", out=tmp_path / "v.npz", overrides=["coverage=whole"]).table
    encoder, store = load_encoder(home / "zscore"), Store.open(home / "store")
    made = normalised_as(store, load_card(home / "zscore").inputs_known)
    np.testing.assert_array_equal(table.vectors[0], embed_scan(encoder, made, 0, window=None)[0])
    with pytest.raises(DataError, match="input normalised as zscore"):  # the plain store is refused, never taken
        embed_scan(encoder, store, 0, window=None)


def test_one_scan_in_another_unit_stops_no_folder(home: Path, tmp_path: Path, capsys) -> None:
    """It is skipped, counted and said; the others have the vectors that they have without it."""
    odd = Item(id="odd", values=scan(9) + 2000, patient="p9", split="test", modality="MR")
    good = Item(id="good", values=scan(3), patient="p3", split="test")
    both = store_from_arrays(tmp_path / "both", [odd, good], settings={"hu_range": [-1024, 3071]})
    with pytest.raises(DataError, match="odd"):
        normalised_as(both, load_card(home / "nnunet").inputs_known)
    found = embed(home / "nnunet", data=both.folder, out=tmp_path / "v.npz")
    assert found.table.ids == ("good",)
    assert list(found.table.failed) == list(found.figures["failed"]) == ["odd"]
    assert "odd: " in capsys.readouterr().err
    alone = store_from_arrays(tmp_path / "alone", [good], settings={"hu_range": [-1024, 3071]})
    np.testing.assert_array_equal(
        found.table.vectors, embed(home / "nnunet", data=alone.folder, out=tmp_path / "w.npz").table.vectors
    )


def test_a_frozen_encoder_takes_its_own_ct_scale(home: Path, tmp_path: Path, capsys) -> None:
    """Whatever the store's is; what trains on takes it too, resumed as well, unless it is told not to, and says so."""
    shutil.copytree(home / "store", tmp_path / "soft")
    listing = tmp_path / "soft/store.json"
    text, count = re.subn(r'"scale": ?\[\s*-1000.0,\s*1000.0\s*\]', '"scale": [-160.0, 240.0]', listing.read_text())
    assert count == 4
    listing.write_text(text)
    assert Store.open(tmp_path / "soft").entries[0].scale == (-160.0, 240.0)
    ours = embed(home / "unit", data=home / "store", out=tmp_path / "a.npz").table
    theirs = embed(home / "unit", data=tmp_path / "soft", out=tmp_path / "b.npz").table
    np.testing.assert_array_equal(ours.vectors, theirs.vectors)
    capsys.readouterr()
    soft = {"data": tmp_path / "soft", "out": tmp_path / "run", "dry_run": True}
    finetune(home / "unit", overrides=TUNED, **soft)
    pretrain(preset="masked_small", init_from=home / "unit", overrides=MASKED, **soft)
    assert "HU and the store" not in capsys.readouterr().out
    asked = "data.normalise=unit"
    finetune(home / "unit", overrides=[*TUNED, asked], **soft)
    assert "-1000 to 1000 HU and the store has -160 to 240" in capsys.readouterr().out
    pretrain(preset="masked_small", init_from=home / "unit", overrides=[*MASKED, asked], **soft)
    assert "-1000 to 1000 HU and the store has -160 to 240" in capsys.readouterr().out
    finetune(home / "zscore", overrides=TUNED, **soft)  # z-scores hang on no scale
    assert "HU and the store" not in capsys.readouterr().out


def test_training_on_another_ct_scale_is_that_of_the_start_also_when_resumed(home: Path, tmp_path: Path) -> None:
    """Of a store whose 0 and 1 are other HU, the weights come out as of one with the start's, bit for bit."""
    shutil.copytree(home / "store", tmp_path / "soft")
    listing = tmp_path / "soft/store.json"
    listing.write_text(
        re.sub(r'"scale": ?\[\s*-1000.0,\s*1000.0\s*\]', '"scale": [-160.0, 240.0]', listing.read_text())
    )
    settings = [key for key in MASKED if "steps" not in key]
    start = {"preset": "masked_small", "init_from": home / "unit"}
    for name, store in (("a", home / "store"), ("b", tmp_path / "soft")):
        pretrain(data=store, out=tmp_path / name, overrides=[*settings, "train.steps=4"], **start)
    pretrain(data=tmp_path / "soft", out=tmp_path / "c", overrides=[*settings, "train.steps=2"], **start)
    for path in ("card.json", "encoder.safetensors"):
        (tmp_path / "c" / path).unlink()
    pretrain(out=tmp_path / "c", finish=True)
    for name in "bc":
        assert load_card(tmp_path / name).scale == (-1000.0, 1000.0)
    first, second = (load_weights(tmp_path / name, "encoder") for name in "ab")
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_run_goes_on_with_the_input_it_began_with(home: Path, tmp_path: Path) -> None:
    """Although the run that gave it is gone, and the store says something else by now."""
    begun = {"data": home / "store", "out": tmp_path / "run"}
    settings = [key for key in MASKED if "steps" not in key]
    pretrain(preset="masked_small", init_from=home / "dataset", overrides=[*settings, "train.steps=2"], **begun)
    first = json.loads((tmp_path / "run/input.json").read_text())
    assert first[0]["numbers"] == list(load_card(home / "dataset").inputs[0].numbers or ())
    for path in ("card.json", "encoder.safetensors"):
        (tmp_path / "run" / path).unlink()
    pretrain(out=tmp_path / "run", finish=True)
    assert load_card(tmp_path / "run").inputs == load_card(home / "dataset").inputs


def test_a_run_that_stopped_before_it_wrote_of_its_input_is_given_it(home: Path, tmp_path: Path) -> None:
    """Stopped between run.yaml and input.json, it had gone on with values of another scheme, and said nothing."""
    out = tmp_path / "run"
    begun = {"data": home / "store", "out": out, "overrides": [*MASKED, "data.normalise=dataset"]}
    pretrain(preset="masked_small", **begun)
    wanted = (out / "input.json").read_text()
    for path in out.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.name == "run.yaml" or path.unlink()
    pretrain(preset="masked_small", resume=True, **begun)
    assert (out / "input.json").read_text() == wanted
    assert load_card(out).schemes == ("dataset",)


def test_a_run_whose_numbers_are_gone_does_not_go_on_with_others(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    begun = {"data": home / "store", "out": out}
    settings = [key for key in MASKED if "steps" not in key]
    pretrain(preset="masked_small", overrides=[*settings, "train.steps=2", "data.normalise=dataset"], **begun)
    for path in ("card.json", "encoder.safetensors", "input.json"):
        (out / path).unlink()
    with pytest.raises(CheckpointError, match=r"input\.json is missing.*data\.normalise=dataset"):
        pretrain(out=out, finish=True)


def test_the_store_may_say_it(tmp_path: Path) -> None:
    write_nifti(tmp_path / "scans/a.nii.gz", scan(0), np.eye(4))
    write_nifti(tmp_path / "scans/b.nii.gz", scan(1), np.eye(4))
    index(tmp_path / "scans", out=tmp_path / "m.parquet", overrides=["modality=CT"])
    cache(tmp_path / "m.parquet", out=tmp_path / "store", overrides=["workers=1", "normalise=zscore"])
    files = sorted(path.name for path in (tmp_path / "store/scans").iterdir())
    pretrain(preset="masked_small", data=tmp_path / "store", out=tmp_path / "run", overrides=MASKED)
    assert load_card(tmp_path / "run").schemes == ("zscore",)
    cache(tmp_path / "m.parquet", out=tmp_path / "store", overrides=["workers=1"])  # no voxel depends on it
    assert sorted(path.name for path in (tmp_path / "store/scans").iterdir()) == files
    pretrain(preset="masked_small", data=tmp_path / "store", out=tmp_path / "unit", overrides=MASKED)
    assert load_card(tmp_path / "unit").schemes == ("unit",)


def test_arms_of_a_comparison_share_their_input(home: Path) -> None:
    with pytest.raises(ConfigError, match="has the input"):
        check_same([home / "unit", home / "zscore"])


def test_clouds_have_no_such_choice() -> None:
    from medssl.settings import resolve
    from medssl.workflows.pretrain_settings import PretrainSettings

    with pytest.raises(ConfigError, match="clouds have none"):
        resolve(PretrainSettings, preset="point_mae_small", overrides=["data.normalise=zscore"])


def test_a_bundle_takes_trainings_input(home: Path, tmp_path: Path, monkeypatch) -> None:
    """MONAI's own preprocessing of a file gives the values that the network was trained on, to the bit."""
    from monai.bundle import ConfigParser

    export(home / "tuned", to="monai", out=tmp_path / "bundle")
    (tmp_path / "scans").mkdir()
    nibabel.save(nibabel.Nifti1Image(scan(3).transpose(2, 1, 0), np.eye(4)), tmp_path / "scans/a.nii.gz")
    parser = ConfigParser()
    parser.read_config(str(tmp_path / "bundle/configs/inference.json"))
    parser.update({"bundle_root": str(tmp_path / "bundle"), "device": "$torch.device('cpu')"})
    made = parser.get_parsed_content("preprocessing")({"image": str(tmp_path / "scans/a.nii.gz")})
    theirs = np.asarray(made["image"])[0].transpose(2, 1, 0)
    store = normalised_as(Store.open(home / "store"), load_card(home / "tuned").inputs_known)
    assert np.array_equal(theirs, _whole(store, 3))


def test_nnunet_and_onnx_say_the_same_numbers(home: Path) -> None:
    from medssl.exporting.nnunet_plans import plans_of

    low, high, less, over = load_card(home / "tuned").inputs[0].numbers or ()
    model = exportable_of(home / "tuned")
    plan = plans_of(model, 1)
    assert plan["configurations"]["3d_fullres"]["normalization_schemes"] == ["CTNormalization"]
    said = plan["foreground_intensity_properties_per_channel"]["0"]
    assert (said["percentile_00_5"], said["percentile_99_5"], said["mean"], said["std"]) == (low, high, less, over)
    image = np.clip(scan(3).astype(np.float32), said["percentile_00_5"], said["percentile_99_5"])
    image = (image - np.float32(said["mean"])) / np.float32(said["std"])
    store = normalised_as(Store.open(home / "store"), load_card(home / "tuned").inputs_known)
    assert np.array_equal(image, _whole(store, 3))
    (channel,) = model.description()["input"]["channels"]
    assert channel["normalise"] == "nnunet"
    assert (channel["clipped_to"], channel["less"], channel["over"]) == ([low, high], less, over)
    zscore = plans_of(exportable_of(home / "zscore"), 1)["configurations"]["3d_fullres"]
    assert zscore["normalization_schemes"] == ["ZScoreNormalization"]


def test_pictures_span_the_input(home: Path) -> None:
    from medssl.encoders.table import build_encoder
    from medssl.methods.table import build_method
    from medssl.volumes.inputs import show_by

    store = normalised_as(Store.open(home / "store"), load_card(home / "zscore").inputs_known)
    method: Method = build_method(
        {"name": "masked", "window": (8, 8, 8)}, build_encoder({"name": "unet", "channels": [4, 8]})
    )
    show_by(method, store)
    assert method.displayed(torch.tensor([-2.0, 0.5, 3.0, 9.0])).tolist() == [0.0, 0.5, 1.0, 1.0]


def _whole(store: Store, item: int) -> np.ndarray:
    from medssl.loading import channel_facts
    from medssl.windows import as_input

    scale, present = channel_facts([store.entries[item]])
    return as_input(torch.from_numpy(store.values(item))[None, None], scale, present)[0, 0].numpy()


def test_an_older_run_goes_on_as_it_was_begun(home: Path, tmp_path: Path, capsys) -> None:
    """A record of before a recipe was mended lacks its settings: they are filled in as it was, and that is said."""
    out, window = tmp_path / "moco", ["method.window=[8,8,8]", "method.crop=[8,8,8]", "method.queue=8"]
    encoder = ["encoder.name=unet", "encoder.channels=[4,8]"]
    begun = [*window, *encoder, *SMALL, "method.batch_keys=true"]
    pretrain("moco_small", data=home / "store", out=out, overrides=begun)
    record = (out / "run.yaml").read_text()
    assert "batch_keys: true" in record
    kept = [line for line in record.splitlines() if "batch_keys" not in line]
    (out / "run.yaml").write_text("\n".join(kept) + "\n")
    (out / "card.json").unlink()
    capsys.readouterr()
    pretrain(out=out, finish=True)
    assert "it continues with its settings of then: method.batch_keys=true" in capsys.readouterr().out
    assert load_card(out).method["batch_keys"] is True


def test_what_methods_did_before_is_found_in_parts_too() -> None:
    from medssl.methods.former import FORMER, former_settings
    from medssl.methods.table import METHODS

    assert former_settings({"name": "ibot", "mask": "block"}) == {"patch_mean": "masked"}
    assert former_settings({"name": "simclr"}) == {}
    parts = {"a": {"weight": 1.0, "method": {"name": "moco"}}, "b": {"method": {"name": "masked"}}}
    assert former_settings({"name": "joined", "parts": parts}) == {"parts.a.method.batch_keys": True}
    for name, settings in FORMER.items():
        fields = METHODS.settings_class(name).model_fields
        assert all(fields[key].default != value for key, value in settings.items()), name


def test_a_classifier_takes_the_input_too(home: Path, tmp_path: Path) -> None:
    from medssl.tasks.class_inference import predict_classes
    from medssl.tasks.class_samples import class_names, samples_of
    from medssl.tasks.classifier import load_classifier

    settings = ["classification.shows=1", "classification.level=slice", "classification.window=[4,8,8]"]
    out = tmp_path / "classes"
    finetune(home / "zscore", data=home / "store", out=out, task="classification", overrides=[*settings, *SMALL])
    assert load_card(out).schemes == ("zscore",)
    task, store = load_classifier(out), Store.open(home / "store").split("test")
    names = class_names(store, task.settings)
    made = normalised_as(store, load_card(out).inputs_known)
    wanted = predict_classes(task, samples_of(made, task.settings, names), batch_size=4, device="cpu")
    found = load_model(out, device="cpu").predict(scan(3), affine=np.eye(4), modality="CT")
    assert len(found.predicted or ()) == len(wanted.logits)
    with pytest.raises(DataError, match="input normalised as zscore"):
        predict_classes(task, samples_of(store, task.settings, names), batch_size=4, device="cpu")


def test_exports_name_the_stores_own_percentiles(home: Path, tmp_path: Path) -> None:
    """Of other modalities than CT 0 and 1 are what ``percentiles`` of the store says, not always 0.5 and 99.5."""
    run = tmp_path / "mr"
    shutil.copytree(home / "tuned", run)
    card = json.loads((run / "card.json").read_text())
    card["modality"], card["data"]["store_settings"]["percentiles"] = "MR", [5, 90]
    card["inputs"][0] |= {"modality": "MR", "normalise": "unit", "numbers": None, "scale": [0, 16384]}
    (run / "card.json").write_text(json.dumps(card))
    export(run, to="monai", out=tmp_path / "bundle")
    (told,) = json.loads((tmp_path / "bundle/configs/inference.json").read_text())["preparing"]["channels"]
    assert told["percentiles"] == [5, 90]
    assert "percentiles 5 and 90" in (tmp_path / "bundle/docs/README.md").read_text()
    for given, ends in (("mr", [0, 1]), ("tuned", [])):
        out = tmp_path / f"range-{given}"
        export(run if given == "mr" else home / given, to="monai", out=out)
        told = json.loads((out / "configs/metadata.json").read_text())["network_data_format"]["inputs"]["image"]
        assert told["value_range"] == ends  # z-scores have no ends
