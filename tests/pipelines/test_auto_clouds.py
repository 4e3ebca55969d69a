"""``medssl auto`` on point clouds: what it decides, and the whole chain with classes, with parts, and with neither."""

from __future__ import annotations

import json

import numpy as np
import pytest

from medssl.chains import auto_chain
from medssl.chains.auto import auto
from medssl.chains.auto_settings import AutoSettings
from medssl.domains.deciding import Machine
from medssl.errors import ConfigError
from medssl.settings import resolve
from medssl.workflows.finetune import FinetuneSettings
from medssl.workflows.pretrain import PretrainSettings
from pointcloud.recipe import CloudFacts, decide_cloud_recipe
from pointcloud.shapes import CLASSES, shape

CPU, GPU = Machine(gpu="", amx=False, cores=2), Machine(gpu="Some GPU", amx=False, cores=16)
TINY = ["pretrain_steps=3", "finetune_steps=3", "test=0.4", "val=0", "workers=1", "finetune.cloud.points=64"]


def clouds(folder, *, classes=True, parts=False, each=5):
    for name in CLASSES[:2]:
        place = folder / name if classes else folder
        place.mkdir(parents=True, exist_ok=True)
        for number in range(each):
            points = shape(name, number, seed=0, points=128).points
            if parts:
                rows = np.c_[points, points[:, 2] > 0]
                np.savetxt(place / f"{name}{number}.txt", rows, fmt="%.4f %.4f %.4f %d", header="x y z label",
                           comments="")  # fmt: skip
            else:
                np.save(place / f"{name}{number}.npy", points)
    return folder


@pytest.mark.parametrize("machine", [CPU, GPU])
@pytest.mark.parametrize("facts", [
    CloudFacts(train=200, units=["unknown"], classes={"a": 120, "b": 80}),
    CloudFacts(train=40, units=["mm"], parts=40),
    CloudFacts(train=8, units=["mm", "unknown"]),
])  # fmt: skip
def test_every_recipe_is_made_of_settings_that_exist(facts, machine):
    settings = AutoSettings(budget="medium" if machine.gpu else "small")
    recipe = decide_cloud_recipe(facts, settings, machine)
    words = auto_chain.words_of(recipe.pretrain)
    assert resolve(PretrainSettings, preset=recipe.preset, overrides=words).settings.train.batch_size <= facts.train
    if recipe.finetune_preset:
        resolve(FinetuneSettings, preset=recipe.finetune_preset, overrides=auto_chain.words_of(recipe.finetune))
    assert bool(recipe.finetune_preset) == bool(facts.classes or facts.parts)
    assert all(decision.chosen and decision.because for decision in recipe.decisions)


def test_the_choices_follow_from_the_clouds():
    many = CloudFacts(train=200, units=["mm", "mm"], classes={"a": 100, "b": 100, "c": 0})
    recipe = decide_cloud_recipe(many, AutoSettings(), CPU)
    assert (recipe.preset, recipe.pretrain["method.spatial.rotate"]) == ("point_distil_contrast_small", "none")
    assert recipe.finetune["classification.classes"] == ["a", "b"]  # no cloud to train on has c
    few = decide_cloud_recipe(CloudFacts(train=5, units=["mm", "m"]), AutoSettings(), CPU)
    assert (few.method, few.pretrain["method.spatial.rotate"], few.finetune_preset) == ("point_mae", "any", "")
    asked = decide_cloud_recipe(many, AutoSettings(method="point_jepa", rotate="z"), GPU)
    assert (asked.method, asked.pretrain["method.spatial.rotate"]) == ("point_jepa", "z")
    with pytest.raises(ConfigError, match="Did you mean 'point_jepa'"):
        decide_cloud_recipe(many, AutoSettings(method="point_jeppa"), CPU)


def test_classes_of_clouds_are_learned_and_compared(tmp_path, monkeypatch, capsys):
    made = clouds(tmp_path / "clouds")
    result = auto(made, out=tmp_path / "out", overrides=TINY)
    assert result.ok, result.failed
    assert result.comparison["metric"] == "auroc"
    assert set(result.comparison["auroc"]) == {"pretrained", "scratch"}
    assert "test clouds" in result.comparison["sentence"]
    assert (tmp_path / "out/report.html").is_file()
    chosen = json.loads((tmp_path / "out/decisions.json").read_text())
    assert {d["what"] for d in chosen["decisions"]} >= {"split", "task", "method", "turning", "steps"}

    def forbidden(name):
        raise AssertionError(name)

    monkeypatch.setattr(auto_chain, "function_of", forbidden)
    assert auto(made, out=tmp_path / "out", overrides=TINY).comparison == result.comparison
    said = capsys.readouterr().out
    assert said.count("already done") >= 6
    following, new = said.splitlines()[-2:]
    assert following.startswith("next: medssl evaluate")
    assert new.startswith("on new data: medssl predict ")


def test_classes_of_a_table_are_learned_as_cache_takes_them(tmp_path):
    made = clouds(tmp_path / "clouds", classes=False)
    table = tmp_path / "kinds.csv"
    names = sorted(path.name for path in made.glob("*.npy"))
    table.write_text(
        "file,kind\n" + "".join(f"{name},{'round' if n % 2 else 'flat'}\n" for n, name in enumerate(names))
    )
    result = auto(made, out=tmp_path / "out", overrides=[*TINY, f"targets={table}"])
    assert result.ok, result.failed
    assert result.comparison["metric"] == "auroc"
    table.write_text(table.read_text().replace("round", "ball"))
    auto(made, out=tmp_path / "out", overrides=[*TINY, f"targets={table}"])
    assert json.loads((tmp_path / "out/store/clouds.json").read_text())["classes"] == {"0": "ball", "1": "flat"}


def test_parts_of_clouds_are_learned_where_clouds_have_no_classes(tmp_path):
    result = auto(clouds(tmp_path / "clouds", classes=False, parts=True), out=tmp_path / "out", overrides=TINY)
    assert result.ok, result.failed
    assert result.comparison["metric"] == "instance_miou"
    assert "pretraining changed mean IoU of shapes" in result.comparison["sentence"]
    assert "4 clouds are too few" in result.comparison["sentence"]


def test_without_classes_it_ends_with_the_encoder_and_says_what_to_do(tmp_path, capsys):
    result = auto(clouds(tmp_path / "clouds", classes=False, each=3), out=tmp_path / "out", overrides=TINY)
    assert result.ok, result.failed
    assert result.pretrained is None
    assert (tmp_path / "out/vectors.parquet").is_file()
    assert "CLASS/NAME.ply" in capsys.readouterr().out


def test_a_dry_run_says_what_would_be_decided(tmp_path, capsys):
    result = auto(clouds(tmp_path / "clouds"), out=tmp_path / "out", overrides=["unit=mm"], dry_run=True)
    assert not (tmp_path / "out").exists()
    assert {"task", "method", "turning"} <= {decision.what for decision in result.decisions}
    assert "lie as the scanner saw them" in capsys.readouterr().out


def test_settings_of_scans_are_refused_for_clouds_and_the_other_way_round(tmp_path):
    from medssl.phantoms import write_cohort

    with pytest.raises(ConfigError, match="holds clouds, and window means nothing"):
        auto(clouds(tmp_path / "clouds"), out=tmp_path / "out", overrides=["window=[8,8,8]"])
    with pytest.raises(ConfigError, match=r"'onnx' is for networks on scans\. Clouds have --to safetensors"):
        auto(clouds(tmp_path / "clouds"), out=tmp_path / "out3", export=["onnx"])
    assert not (tmp_path / "out3" / "manifest.parquet").exists()  # before anything was read in full or written
    write_cohort(tmp_path / "scans", subjects=1, modality="MR", shape=(18, 16, 20), spacing_mm=(12.0, 15.0, 12.0))
    with pytest.raises(ConfigError, match="holds scans, and rotate means nothing"):
        auto(tmp_path / "scans", out=tmp_path / "out2", overrides=["rotate=z"])


def test_what_most_of_a_folder_holds_is_taken_and_the_rest_named(tmp_path, capsys):
    from medssl.phantoms import write_cohort

    folder = clouds(tmp_path / "both", classes=False, each=3)
    write_cohort(folder / "scans", subjects=1, modality="MR", shape=(18, 16, 20), spacing_mm=(12.0, 15.0, 12.0))
    result = auto(folder, out=tmp_path / "out", overrides=TINY)
    assert result.ok, result.failed
    captured = capsys.readouterr()
    assert "the clouds are used, the scans are ignored" in captured.out + captured.err
