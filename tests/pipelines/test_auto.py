"""``medssl auto``: its decisions, its split, its words, and that it continues where it stopped."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from medssl.chains import auto_chain
from medssl.chains.auto import auto
from medssl.chains.auto_outcome import outcome_of
from medssl.chains.auto_settings import AutoSettings
from medssl.chains.auto_stages import Stages
from medssl.domains.deciding import Machine, key_of
from medssl.domains.splitting import settle_split
from medssl.errors import ConfigError, DataError
from medssl.evaluation.score_table import ScoreTable
from medssl.manifest.schema import manifest_of_rows
from medssl.methods.table import METHODS
from medssl.phantoms import write_cohort
from medssl.settings import flatten, resolve
from medssl.volumes.recipe import Grid, decide_recipe, decide_spacing, grid_of
from medssl.volumes.target import Target, decide_target, seen_classes
from medssl.workflows.export_targets import EXPORTS
from medssl.workflows.finetune import FinetuneSettings
from medssl.workflows.pretrain import PretrainSettings
from medssl.workflows.score_files import found_in, write_scores
from medssl.workflows.verbs import function_of
from pipelines.cli import app

CPU, GPU = Machine(gpu="", amx=False, cores=2), Machine(gpu="Some GPU", amx=False, cores=16)
TINY = [
    "pretrain_steps=6", "finetune_steps=4", "window=[16,16,16]", "test=0.4", "workers=1",
    "pretrain.encoder.channels=[4,8]", "pretrain.encoder.strides=[1,2]", "pretrain.train.checkpoint_every=2",
    "finetune.train.checkpoint_every=2", "pretrain.train.precision=32-true", "finetune.train.precision=32-true",
    "pretrain.train.threads=1", "finetune.train.threads=1", "finetune.inference.overlap=0",
]  # fmt: skip


def tiny(scans, out, **options):
    options.setdefault("method", "masked")
    return auto(scans, out=out, overrides=TINY, **options)


def cohort(folder, **options):
    given = {"subjects": 6, "modality": "MR", "shape": (18, 16, 20), "spacing_mm": (12.0, 15.0, 12.0)} | options
    write_cohort(folder, **given)
    return folder


def weights(folder):
    return (folder / "encoder.safetensors").read_bytes()


# ---- decisions


def test_voxels_are_kept_where_all_agree_and_the_median_taken_where_they_do_not():
    same = [Grid((40, 50, 40), (1.0, 1.0, 1.0))] * 3
    assert decide_spacing(same, AutoSettings(), small=True)[0] == "keep"
    mixed = [*same, Grid((40, 50, 40), (1.0, 1.0, 1.3))]
    assert decide_spacing(mixed, AutoSettings(), small=True)[0] == "median"


def test_large_scans_are_made_coarser_and_thick_slices_stay_as_they_are():
    spacing, decision = decide_spacing([Grid((40, 384, 384), (6.0, 1.0, 1.0))], AutoSettings(), small=True)
    assert spacing == [6.0, 4.0, 4.0]
    assert "384 mm" in decision.because
    assert decide_spacing([Grid((40, 250, 250), (6.0, 1.0, 1.0))], AutoSettings(), small=False)[0] == "keep"


def test_grids_are_turned_before_sizes_are_compared():
    # A sagittal scan: its file's first axis runs to the right; after turning that is x.
    affine = [0, 0, 3, 0, 1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 1]
    grid = grid_of({"shape": [30, 20, 10], "spacing_mm": [3, 2, 1], "affine": [float(a) for a in affine]})
    assert grid == Grid((20, 10, 30), (2.0, 1.0, 3.0))


FITTED = [name for name in METHODS if not METHODS.load(name).unfit]
SHAPES = [(36, 50, 35), (48, 32, 42), (10, 200, 180), (96, 80, 90), (17, 18, 19), (3, 64, 64), (300, 20, 20)]
SPACINGS = [(1.0, 1.0, 1.0), (8.0, 1.5, 1.5), (1.0, 1.0, 3.0)]


@pytest.mark.parametrize(("shape", "spacing"), list(itertools.product(SHAPES, SPACINGS)))
@pytest.mark.parametrize("machine", [CPU, GPU])
@pytest.mark.parametrize("method", FITTED)
def test_every_recipe_fits_its_encoder_and_its_settings(shape, spacing, machine, method):
    settings = AutoSettings(method=method, budget="medium" if machine.gpu else "small")
    recipe = decide_recipe([Grid(shape, spacing)] * 5, settings, machine, patients=5)
    words = [f"{key}={json.dumps(value)}" for key, value in recipe.pretrain.items()]
    resolved = resolve(PretrainSettings, preset=recipe.preset, overrides=words).settings
    finetune = [f"{key}={json.dumps(value)}" for key, value in recipe.finetune.items()]
    resolve(FinetuneSettings, preset=recipe.finetune_preset, overrides=finetune)
    total = [math.prod(stride[axis] for stride in resolved.encoder.stage_strides) for axis in range(3)]
    window = recipe.finetune["segmentation.window"]
    assert all(n % m == 0 and n // m >= (2 if m > 1 else 1) for n, m in zip(window, total, strict=True))
    leaves = flatten(resolved.method)
    for key, value in leaves.items():
        if key.endswith("crop") and (not key.endswith("local_crop") or leaves[key.replace("crop", "views")]):
            assert all(c >= m and c % m == 0 for c, m in zip(value, total, strict=True))
            grid = leaves.get(key.replace("crop", "grid"), (1, 1, 1))
            assert all(g * c <= n for g, c, n in zip(grid, value, window, strict=True))
        if key.endswith("window"):
            assert all(w <= n and w % m == 0 for w, n, m in zip(value, window, total, strict=True))
        if key.endswith("patch"):
            assert all(n % p == 0 for n, p in zip(window, value, strict=True))
    limit = 96**3 if machine.gpu else 32 * 48 * 32
    smallest = math.prod(m * (2 if m > 1 else 1) for m in total)
    assert math.prod(window) <= max(limit, smallest)
    assert all(d.because and d.chosen for d in recipe.decisions)


def test_the_method_follows_from_how_alike_the_scans_are():
    alike, unlike = [Grid((40, 40, 40), (1, 1, 1))] * 6, [Grid((20 + 20 * n, 40, 40), (1, 1, 1)) for n in range(6)]
    assert decide_recipe(alike, AutoSettings(), CPU, patients=6).method == "global_contrast"
    assert decide_recipe(alike, AutoSettings(), CPU, patients=6, target=Target("grade")).method == "voco_masked"
    thin = [Grid((6, 40, 40), (8, 1, 1))] * 6  # no four parts along z
    assert decide_recipe(thin, AutoSettings(), CPU, patients=6).method == "voco_masked"
    assert decide_recipe(unlike, AutoSettings(), CPU, patients=6).method == "masked"
    assert decide_recipe(alike, AutoSettings(), CPU, patients=3).method == "masked"


def test_a_budget_for_a_gpu_says_so_where_there_is_none():
    recipe = decide_recipe([Grid((64, 64, 64), (1, 1, 1))] * 5, AutoSettings(budget="large"), CPU, patients=5)
    assert recipe.preset == "global_contrast_small"
    assert "there is none" in recipe.decisions[0].because
    assert recipe.pretrain["train.steps"] == 100_000


def test_wrong_wishes_are_refused():
    bodies = [Grid((40, 40, 40), (1, 1, 1))] * 5
    with pytest.raises(ConfigError, match="Did you mean 'voco'"):
        decide_recipe(bodies, AutoSettings(method="vocco"), CPU, patients=5)
    with pytest.raises(ConfigError, match="cannot fit the views of 'mae'"):
        decide_recipe(bodies, AutoSettings(method="mae"), CPU, patients=5)
    with pytest.raises(ConfigError, match="multiples of"):
        decide_recipe(bodies, AutoSettings(window=(30, 32, 32)), CPU, patients=5)


# ---- the split


def manifest(rows):
    return manifest_of_rows(
        {"id": f"s{n}", "path": f"/x/{n}", "patient": f"p{n}", "label_path": "/l" if labelled else None, "split": split,
         "content_hash": content}
        for n, (labelled, split, content) in enumerate(rows)
    )  # fmt: skip


def splits(settled):
    return [row["split"] for row in settled.rows()]


def test_few_labelled_patients_are_on_both_sides():
    rows = [(True, "train", f"c{n}") for n in range(4)] + [(False, "test", f"d{n}") for n in range(4)]
    settled, decision = settle_split(manifest(rows), val=0.1, test=0.2, seed=0)
    assert splits(settled)[:4].count("test") == 1
    assert splits(settled)[:4].count("train") == 3
    assert splits(settled)[4:] == ["train"] * 4
    assert "4 more without labels" in decision.chosen


def test_a_labelled_test_patient_stays_one_when_the_cohort_grows():
    rows = [(True, "train", f"c{n}") for n in range(5)]
    first, _ = settle_split(manifest(rows), val=0.1, test=0.4, seed=0)
    grown = [(True, split, f"c{n}") for n, split in enumerate(splits(first))]
    grown += [(True, "train", f"e{n}") for n in range(20)]
    second, _ = settle_split(manifest(grown), val=0.1, test=0.4, seed=0)
    was = {n for n, split in enumerate(splits(first)) if split == "test"}
    assert was <= {n for n, split in enumerate(splits(second)) if split == "test"}
    again, _ = settle_split(second, val=0.1, test=0.4, seed=0)
    assert splits(again) == splits(second)


def test_a_copy_of_a_test_scan_is_never_trained_on():
    rows = [(True, "test", "same"), (True, "train", "b"), (True, "train", "c"), (False, "test", "same")]
    settled, _ = settle_split(manifest(rows), val=0.0, test=0.3, seed=0)
    assert splits(settled)[3] == "test"


def test_where_folders_call_all_labelled_patients_test_some_are_trained_on():
    rows = [{"id": f"p{n}", "path": f"{n}.nii.gz", "patient": f"p{n}", "split": "test", "label_path": "m.nii.gz"}
            for n in range(10)]  # fmt: skip
    settled, _ = settle_split(manifest_of_rows(rows), val=0.0, test=0.3, seed=0)
    assert sorted(settled.frame["split"].to_list()) == ["test"] * 3 + ["train"] * 7


def test_every_class_is_trained_on_and_tested():
    rows = [{"id": f"p{n}", "path": f"{n}.nii.gz", "patient": f"p{n}", "split": "train", "kind": "volume",
             "error": None, "content_hash": None, "targets": json.dumps({"grade": "rare" if n < 2 else "usual"})}
            for n in range(30)]  # fmt: skip
    for seed in range(8):
        settled, _ = settle_split(manifest_of_rows(rows), val=0.0, test=0.2, seed=seed,
                                  class_of=lambda row: json.loads(row["targets"])["grade"])  # fmt: skip
        there = {(row["split"], json.loads(row["targets"])["grade"]) for row in settled.rows()}
        assert there == {(split, grade) for split in ("train", "test") for grade in ("rare", "usual")}


def classed(count, **targets):
    return [{"id": f"p{n}", "patient": f"p{n}", "label_path": None,
             "targets": json.dumps({name: labels[n % len(labels)] for name, labels in targets.items()})}
            for n in range(count)]  # fmt: skip


def test_what_is_learned_follows_from_what_is_there():
    rows = classed(8, grade=["low", "high"], site=list("abcdefgh"), sure=["yes"])
    name, decision = decide_target(rows, "")
    assert (name, decision.chosen) == ("grade", "classes of grade: high 4, low 4")
    assert decide_target([rows[0] | {"label_path": "m.nii.gz"}, *rows[1:]], "") == ("", None)  # label maps come first
    assert decide_target([rows[0] | {"label_path": "m.nii.gz"}, *rows[1:]], "grade")[0] == "grade"
    assert decide_target(classed(8, site=list("abcdefgh")), "") == ("", None)  # a patient a class
    two = decide_target(classed(8, grade=["low", "high"], age=["old", "young"]), "")[1]
    assert "target=NAME takes another: grade" in two.because
    with pytest.raises(ConfigError, match="Did you mean 'grade'"):
        decide_target(rows, "grad")
    with pytest.raises(ConfigError, match="'sure' has one class"):
        decide_target(rows, "sure")


def test_a_class_without_a_patient_to_train_on_is_left_out():
    pairs = [("train", "a"), ("", "b"), ("test", "c")]
    assert seen_classes(pairs, "grade") == Target("grade", ("a", "b"))
    assert seen_classes(pairs[:2], "grade") == Target("grade", None)


def test_without_labels_all_is_for_pretraining():
    settled, decision = settle_split(
        manifest([(False, s, s) for s in ("train", "test", "val")]), val=0, test=0.3, seed=0
    )
    assert splits(settled) == ["train", "train", "val"]
    assert "none can be scored" in decision.because


# ---- stages and words


def test_stages_know_what_was_done_with_what(tmp_path):
    stages = Stages(tmp_path / "stages.json")
    assert stages.state("cache", "a") == "new"
    stages.begin("cache", "a")
    assert stages.state("cache", "a") == "started"
    before = stages.key_after("cache")
    stages.finish("cache", "a")
    assert stages.key_after("cache") != before
    assert (stages.state("cache", "a"), stages.state("cache", "b")) == ("done", "changed")
    (tmp_path / "stages.json").write_text("{cut sho")
    assert stages.state("cache", "a") == "new"
    assert key_of([1, 2]) != key_of([2, 1])


def test_what_a_comparison_says_is_what_evaluate_wrote_and_what_to_do_next(tmp_path):
    rng = np.random.default_rng(0)
    other = rng.normal(0.6, 0.1, 9)
    wanted = {
        0.05: ("better", "an improvement"),
        -0.05: ("worse", "Train it longer"),
        0.0: ("inconclusive", "More test"),
    }
    for gain, (verdict, word) in wanted.items():
        own = other + gain + rng.normal(0, 0.01, 9)
        rows = [(run, "", 0, 0, None, f"c{n}", f"p{n}", "organ", "dice", float(v), "")
                for run, values in (("pretrained", own), ("scratch", other)) for n, v in enumerate(values)]  # fmt: skip
        found = found_in(ScoreTable.of_rows(rows), [("pretrained", "scratch")], metrics=["dice"], compared=["dice"],
                         level=0.95, pooled=False)  # fmt: skip
        write_scores(found, tmp_path, "scores.json", kind="segmentation", unit="patient", metrics=["dice"], content={})
        outcome = outcome_of(tmp_path / "scores.json", arm="pretrained", baseline="scratch")
        assert outcome.facts["verdict"] == verdict
        assert word in outcome.sentence
        assert "9 test patients" in outcome.sentence


# ---- the whole chain


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("auto")
    scans = cohort(folder / "scans")
    (folder / "scans" / "broken.nii.gz").write_text("no scan")
    return scans, folder / "out", tiny(scans, folder / "out")


def test_the_chain_leaves_everything(whole):
    _, out, result = whole
    assert result.ok, result.failed
    assert {"manifest.parquet", "manifest-check.html", "decisions.json", "stages.json", "report.html"} <= {
        path.name for path in out.iterdir()
    }
    assert (out / "runs/encoder/encoder.safetensors").exists()
    assert result.comparison["patients"] == 2
    assert 0 <= result.comparison["dice"]["scratch"][0] <= 1
    assert len(list((out / "runs/scratch/predictions").glob("*.nii.gz"))) == 2
    check = json.loads((out / "manifest-check.json").read_text())
    assert any("broken" in finding["scan"] for finding in check["findings"])


def test_both_arms_have_the_same_recipe(whole):
    from medssl.engine.run import differences
    from medssl.settings import load_yaml

    _, out, _ = whole
    arms = [load_yaml(out / "runs" / name / "run.yaml") for name in ("pretrained", "scratch")]
    assert [key for key, *_ in differences(*arms)] == ["transfer.from_scratch"]


def test_a_second_run_trains_nothing(whole, monkeypatch, capsys):
    scans, out, first = whole
    before = {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*") if path.is_file()}

    def forbidden(name):
        raise AssertionError(name)

    monkeypatch.setattr(auto_chain, "function_of", forbidden)
    again = tiny(scans, out)
    assert again.comparison == first.comparison
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert capsys.readouterr().out.count("already done") >= 5


def test_a_dry_run_writes_nothing_and_explains(whole, tmp_path, capsys):
    scans, _, _ = whole
    result = tiny(scans, tmp_path / "none", dry_run=True)
    assert not (tmp_path / "none").exists()
    said = capsys.readouterr().out
    assert "percentiles" in said
    assert {"window", "method", "voxel size", "split"} <= {decision.what for decision in result.decisions}


def test_a_late_failure_loses_nothing(whole, monkeypatch):
    scans, out, _ = whole

    def broken(name):
        if name == "report":
            raise RuntimeError("the disk is full")
        return function_of(name)

    monkeypatch.setattr(auto_chain, "function_of", broken)
    (out / "report.html").unlink()
    result = tiny(scans, out)
    assert not result.ok
    assert "the disk is full" in result.failed["report"]
    assert result.comparison


def test_new_scans_move_old_runs_aside(tmp_path):
    scans, out = cohort(tmp_path / "scans", unlabelled=6), tmp_path / "out"
    tiny(scans, out)
    old = weights(out / "runs/encoder")
    cohort(scans, subjects=7, unlabelled=7)
    result = tiny(scans, out)
    assert result.encoder is not None
    assert weights(out / "runs/encoder.old") == old
    assert weights(out / "runs/encoder") != old


def test_auto_exports_what_export_exports():
    assert AutoSettings(export=tuple(EXPORTS)).export == tuple(EXPORTS)
    with pytest.raises(ConfigError, match=r"no export to 'onx'. Did you mean 'onnx'"):
        resolve(AutoSettings, overrides=["export=[onx]"])
    for verb in ("auto", "export"):
        said = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "200"}).output
        assert all(name in said for name in EXPORTS), verb


def test_without_labels_it_ends_with_the_encoder_and_says_what_to_do(tmp_path, capsys):
    result = tiny(cohort(tmp_path / "scans", subjects=4, unlabelled=4), tmp_path / "out", export=["safetensors"])
    assert (tmp_path / "out/export/safetensors/encoder.safetensors").is_file()
    assert result.pretrained is None
    assert result.comparison == {}
    assert (tmp_path / "out/vectors.parquet").exists()
    said = capsys.readouterr().out
    assert "_seg.nii.gz" in said
    assert said.splitlines()[-1].startswith("next: medssl auto")


def test_classes_of_patients_are_learned_where_no_scan_has_a_label_map(tmp_path, capsys):
    scans = cohort(tmp_path / "scans", subjects=8, unlabelled=8)
    table = tmp_path / "table.csv"
    table.write_text("patient,diagnosis\n" + "".join(f"case_{n:03d},{'sick' if n % 2 else 'well'}\n" for n in range(8)))
    words = [w for w in TINY if "inference" not in w] + [f"targets={table}"]
    result = auto(scans, out=tmp_path / "out", overrides=words, method="masked")
    assert result.ok, result.failed
    assert result.comparison["metric"] == "auroc"
    assert (tmp_path / "out/runs/scratch/predictions.csv").is_file()
    following, new = capsys.readouterr().out.splitlines()[-2:]
    assert following.startswith("next: ")
    assert "probe.scans.target=diagnosis" in following
    assert new.startswith("on new data: medssl predict ")


def test_a_folder_without_a_usable_scan_is_refused(tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans/a.nii.gz").write_text("no scan")
    with pytest.raises(DataError, match="none of the 1 scans can be used"):
        tiny(tmp_path / "scans", tmp_path / "out")


# ---- killed


@pytest.mark.slow
def test_killed_at_any_moment_the_same_command_ends_with_the_same_bits(tmp_path):
    scans = cohort(tmp_path / "scans")
    words = [sys.executable, "-m", "pipelines.cli", "auto", str(scans), "--method", "voco_masked"]
    settings = [*(w for w in TINY if not w.startswith("pretrain_steps")), "pretrain_steps=16"]
    env = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

    def start(out: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*words, "--out", str(out), *settings], env=env, stdout=subprocess.DEVNULL)

    began = time.monotonic()
    assert start(tmp_path / "whole").wait() == 0
    took_s = time.monotonic() - began
    chance = random.Random(os.getpid())
    for _ in range(2):
        process = start(tmp_path / "killed")
        try:
            process.wait(timeout=chance.uniform(0.2, 0.8) * took_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert start(tmp_path / "killed").wait() == 0
    for name in ("encoder/encoder.safetensors", "pretrained/network.safetensors", "scratch/network.safetensors"):
        digests = {
            hashlib.sha256((tmp_path / out / "runs" / name).read_bytes()).hexdigest() for out in ("whole", "killed")
        }
        assert len(digests) == 1, name
