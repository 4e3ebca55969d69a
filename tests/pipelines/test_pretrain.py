import json
import shlex
import shutil

import numpy as np
import pytest
import torch

from medssl.engine.checkpoint import checkpoints_of, load_latest
from medssl.engine.guards import NonFiniteLossError
from medssl.engine.loop import Interrupted
from medssl.engine.meters import Report
from medssl.errors import CheckpointError, ConfigError, DataError
from medssl.settings import load_yaml
from medssl.store.in_memory import Item, store_from_arrays
from medssl.workflows.pretrain import pretrain, screen_note
from pipelines import console
from tests.stopping import stopping

QUICK = [
    "train.steps=6", "train.batch_size=2", "train.log_every=2", "train.probe_every=3", "train.checkpoint_every=2",
    "train.accelerator=cpu", "encoder.name=unet", "encoder.channels=[4,8]", "method.name=masked",
    "method.window=[16,16,16]", "method.patch=[8,8,8]",
]  # fmt: skip


def cohort(folder, splits, name="scan"):
    draw = np.random.default_rng(0)
    items = []
    for number, split in enumerate(splits):
        values = draw.normal(0, 60, (20, 24, 20)).astype(np.int16)
        values[5:15, 6:18, 5:15] += 200 + 40 * number
        items.append(Item(id=f"{name}-{number}", values=values, patient=f"p{number // 2}", split=split, modality="CT"))
    return store_from_arrays(folder, items)


@pytest.fixture
def store(tmp_path):
    cohort(tmp_path / "store", ["train"] * 4 + ["val"] * 2 + ["test"] * 2)
    return tmp_path / "store"


@pytest.fixture(autouse=True)
def _quick(request, monkeypatch):
    if "real_pictures" not in request.fixturenames:
        import medssl.engine.reporter

        for name in ("draw_progress", "draw_views"):
            monkeypatch.setattr(medssl.engine.reporter, name, lambda *_: None)


@pytest.fixture
def real_pictures():
    """Ask for pictures."""


def identical(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_it_leaves_an_encoder_a_card_and_the_whole_record(store, tmp_path, capsys, real_pictures):
    run = pretrain("masked_small", data=store, out=tmp_path / "run", overrides=QUICK)
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "card.json", "checkpoints", "decoder.safetensors", "encoder.safetensors", "environment.json", "input.json",
        "log.txt", "metrics.jsonl", "progress.png", "run.yaml", "tensorboard", "views.png",
    ]  # fmt: skip
    said = capsys.readouterr().out
    assert "4 scans of 2 patients (CT, 1 x 1 x 1 mm); 2 held out" in said
    assert "preset masked_small" in said
    assert f"wrote {run.folder / 'encoder.safetensors'}" in said
    assert (
        f"once a STORE of labelled scans is there (index and cache them as these): medssl finetune {run.folder}" in said
    )
    card = json.loads((run.folder / "card.json").read_text())
    assert card["encoder"]["channels"] == [4, 8]
    assert card["scale"] == [-1000.0, 1000.0]
    assert card["data"]["scans"] == 4
    assert card["steps"] == 6
    assert any("arXiv" in paper for paper in card["citation"])
    assert [row["step"] for row in run.metrics] == [0, 2, 3, 4, 6]
    assert any(name.startswith("held_out/") for name in run.metrics[-1])
    assert run.encoder().channels == (4, 8)
    assert run.plot().axes[0].get_title(loc="left") == "loss and its parts"
    assert run.plot("views").axes[0].images[0].get_array().shape[2] == 4
    assert repr(run).startswith("RunResult\n  folder")
    assert "loss" in repr(run)


def test_stopped_and_resumed_it_is_the_run_that_was_never_stopped(store, tmp_path, capsys, monkeypatch):
    whole = pretrain("masked_small", data=store, out=tmp_path / "whole", overrides=QUICK)
    import medssl.volumes.training as verb

    out = tmp_path / "run"
    capsys.readouterr()
    with monkeypatch.context() as patched:
        patched.setattr(verb, "WindowLoader", stopping(verb.WindowLoader))
        with pytest.raises(Interrupted) as stop:
            pretrain("masked_small", data=store, out=out, overrides=QUICK)
    assert stop.value.code == 130
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("to continue: ")]
    words = shlex.split(line.removeprefix("to continue: "))
    assert words[:3] == ["medssl", "pretrain", "masked_small"]
    assert words[-5:] == ["--data", str(store), "--out", str(out), "--resume"]
    assert not (out / "encoder.safetensors").exists()
    with pytest.raises(CheckpointError, match=f"medssl pretrain --out {out} --finish"):
        pretrain("masked_small", data=store, out=tmp_path / "next", overrides=QUICK, init_from=out)
    shutil.copytree(out, tmp_path / "bare")
    bare = pretrain(out=tmp_path / "bare", resume=True)  # the settings that it was given
    assert identical(bare.encoder(), whole.encoder())
    resumed = pretrain("masked_small", data=store, out=out, overrides=words[3:-5], resume=True)
    assert identical(resumed.encoder(), whole.encoder())
    assert [row["step"] for row in resumed.metrics] == [0, 2, 3, 4, 6]


def test_a_stopped_run_is_closed_at_the_step_that_it_reached(store, tmp_path, capsys, monkeypatch):
    import medssl.volumes.training as verb

    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(verb, "WindowLoader", stopping(verb.WindowLoader))
        with pytest.raises(Interrupted) as stop:
            pretrain("masked_small", data=store, out=out, overrides=QUICK)
    done = stop.value.step
    assert 0 < done < 6
    capsys.readouterr()
    closed = pretrain(out=out, finish=True)
    assert f"closed at step {done} of 6; the learning rate stood at" in capsys.readouterr().out
    card = json.loads((out / "card.json").read_text())
    assert card["steps"] == done
    kept = load_latest(out / "checkpoints", warn=print)
    assert kept.step == done
    encoder = closed.encoder().state_dict()
    assert all(torch.equal(value, kept.model[f"encoder.{name}"]) for name, value in encoder.items())
    pretrain("masked_small", data=store, out=tmp_path / "next", overrides=QUICK, init_from=out)
    whole = pretrain("masked_small", data=store, out=tmp_path / "whole", overrides=QUICK)
    assert identical(pretrain(out=out, resume=True).encoder(), whole.encoder())  # closed, and still no dead end
    assert json.loads((out / "card.json").read_text())["steps"] == 6


def test_nothing_is_closed_where_no_step_was_kept(store, tmp_path):
    run = pretrain("masked_small", data=store, out=tmp_path / "run", overrides=QUICK)
    shutil.rmtree(run.folder / "checkpoints")
    with pytest.raises(CheckpointError, match="no step of this run was kept"):
        pretrain(out=run.folder, finish=True)


def test_resume_begins_where_there_is_no_run_yet(store, tmp_path, capsys):
    """A job of a cluster is put in the queue again as it is; the first time it had been refused."""
    out = tmp_path / "run"
    begun = pretrain("masked_small", data=store, out=out, overrides=QUICK, resume=True)
    assert "no run here yet; starting a new one" in capsys.readouterr().out
    again = pretrain("masked_small", data=store, out=out, overrides=QUICK, resume=True)
    assert "begins here" not in capsys.readouterr().out
    assert identical(begun.encoder(), again.encoder())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("not a run")
    for wrong in ({"preset": None, "out": tmp_path / "new"}, {"preset": "masked_small", "out": tmp_path / "mine"}):
        preset = wrong.pop("preset")
        with pytest.raises(CheckpointError, match="no run to resume"):
            pretrain(preset, data=store, overrides=QUICK, resume=True, **wrong)
    with pytest.raises(ConfigError, match=r"--resume.*--overwrite"):
        pretrain("masked_small", data=store, out=tmp_path / "new", overrides=QUICK, resume=True, overwrite=True)


def test_a_changed_setting_is_refused_on_resume(store, tmp_path):
    pretrain("masked_small", data=store, out=tmp_path / "run", overrides=QUICK)
    with pytest.raises(ConfigError, match=r"train\.lr: .* -> 0\.5"):
        pretrain("masked_small", data=store, out=tmp_path / "run", overrides=[*QUICK, "train.lr=0.5"], resume=True)
    with pytest.raises(ConfigError, match=r"--resume.*--overwrite"):
        pretrain("masked_small", data=store, out=tmp_path / "run", overrides=QUICK)
    with pytest.raises(ConfigError, match="neither --overwrite nor --init-from"):
        pretrain("masked_small", data=store, out=tmp_path / "run", overrides=QUICK, resume=True, overwrite=True)


def test_overwrite_moves_the_old_run_aside(store, tmp_path):
    first = pretrain("masked_small", data=store, out=tmp_path / "run", overrides=QUICK).encoder()
    pretrain("masked_small", data=store, out=tmp_path / "run", overrides=[*QUICK, "train.seed=1"], overwrite=True)
    from medssl.engine.card import load_encoder

    assert identical(load_encoder(tmp_path / "run.old"), first)
    assert not identical(load_encoder(tmp_path / "run"), first)


def test_a_run_may_start_from_anothers_weights(store, tmp_path):
    first = pretrain("masked_small", data=store, out=tmp_path / "a", overrides=QUICK)
    still = [*QUICK, "train.steps=1", "train.lr=1e-12", "train.weight_decay=0", "train.seed=5"]
    second = pretrain("masked_small", data=store, out=tmp_path / "b", overrides=still, init_from=first.folder)
    for name, value in first.encoder().state_dict().items():
        assert torch.allclose(second.encoder().state_dict()[name], value, atol=1e-6), name
    with pytest.raises(CheckpointError, match="channels"):
        pretrain("masked_small", data=store, out=tmp_path / "c", overrides=[*QUICK, "encoder.channels=[4,16]"],
                 init_from=first.folder)  # fmt: skip
    assert not (tmp_path / "c").exists()


def test_a_teacher_copies_the_weights_that_it_starts_from(store, tmp_path):
    first = pretrain("masked_small", data=store, out=tmp_path / "a", overrides=QUICK)
    from medssl.settings import resolve
    from medssl.workflows.pretrain import PretrainSettings, build

    voco = ["encoder.name=unet", "encoder.channels=[4,8]", "method.name=voco", "method.crop=[8,8,8]"]
    method = build(resolve(PretrainSettings, overrides=voco).settings, init_from=first.folder)
    assert identical(method.encoder, first.encoder())
    assert identical(method.teacher.module.encoder, method.encoder)


def test_the_silence_while_compiling_is_explained(store, tmp_path, capsys, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(module))
    pretrain("masked_small", data=store, out=tmp_path / "run", overrides=[*QUICK, "train.compile=true"])
    assert compiled
    assert "the first step compiles the encoder" in capsys.readouterr().out


def test_a_dry_run_writes_nothing(store, tmp_path, capsys):
    pretrain("masked_small", data=store, out=tmp_path / "run", overrides=QUICK, dry_run=True)
    assert not (tmp_path / "run").exists()
    said = capsys.readouterr().out
    assert "6 steps of 2 windows of 16 x 16 x 16" in said
    assert "its first step runs (loss" in said


@pytest.mark.parametrize(
    ("method", "settings", "said"),
    [
        ("simclr", {"window": [16, 16, 16], "crop": [2, 2, 2]}, "shrinks to a single voxel"),
        (
            "dino",
            {"window": [16, 16, 16], "crop": [8, 8, 8], "local_crop": [2, 2, 2], "local_views": 1},
            "single voxel",
        ),
        ("voco", {"crop": [2, 2, 2]}, "shrinks to a single voxel"),
        ("masked", {"window": [8, 8, 8], "patch": [8, 8, 8]}, "is one patch"),
        ("global_contrast", {"window": [1, 2, 2]}, "shrinks to a single voxel"),
        (
            "voco_masked",
            {"voco.crop": [2, 2, 2], "voco.window": [8, 8, 8], "masked.window": [8, 8, 8], "masked.patch": [4, 4, 4]},
            "single",
        ),
        ("global_contrast", {"window": [4, 8, 8], "hidden": 16, "projected": 8}, "multiple of the 4 windows"),
    ],
)
def test_a_dry_run_refuses_what_would_fail_at_the_first_step(store, tmp_path, method, settings, said):
    words = [f"method.{key}={value}" for key, value in settings.items()]
    small = ["encoder.name=unet", "encoder.channels=[4,8]", "encoder.blocks=1", "train.batch_size=2"]
    with pytest.raises(ConfigError, match=said):
        pretrain(method=method, data=store, out=tmp_path / "run", overrides=[*small, *words], dry_run=True)
    assert not (tmp_path / "run").exists()


def test_a_method_may_be_named_instead_of_a_preset(store, tmp_path):
    run = pretrain(
        method="voco_masked",
        data=store,
        out=tmp_path / "run",
        dry_run=True,
        overrides=["encoder.name=unet", "encoder.channels=[4,8]", "encoder.blocks=2"],
    )
    assert run.folder == tmp_path / "run"
    with pytest.raises(ConfigError, match="Both a preset"):
        pretrain("masked_small", method="voco", data=store, out=tmp_path / "run")
    with pytest.raises(ConfigError, match="list presets"):
        pretrain(data=store, out=tmp_path / "run")
    with pytest.raises(ConfigError, match="--data"):
        pretrain("masked_small", out=tmp_path / "run")
    with pytest.raises(ConfigError, match="Did you mean 'masked'"):
        pretrain("maskd", data=store, out=tmp_path / "run")


def test_what_does_not_fit_is_a_config_error(store, tmp_path):
    bad = ["encoder.channels=[4,8,16]", "method.crop=[10,10,10]"]
    with pytest.raises(ConfigError, match="multiple"):
        pretrain("voco_small", data=store, out=tmp_path / "run", overrides=bad)
    assert not (tmp_path / "run").exists()


def test_scans_of_a_patient_are_never_on_both_sides(tmp_path, store):
    from medssl.domains.choosing import choose_items
    from medssl.settings import resolve
    from medssl.store.read import Store
    from medssl.workflows.pretrain import PretrainSettings

    many = cohort(tmp_path / "many", ["train"] * 60)
    settings = resolve(PretrainSettings, overrides=["data.held_out_share=0.2"]).settings
    scans = choose_items(many, settings.data, seed=0)
    sides = [{entry.patient for entry in side.entries} for side in (scans.train, scans.held_out)]
    assert [len(side) for side in sides] == [24, 6]
    assert not sides[0] & sides[1]
    few = choose_items(many, resolve(PretrainSettings, overrides=["data.held_out_scans=3"]).settings.data, seed=0)
    assert len(few.held_out) == 3 or len(few.held_out) == 2  # two scans a patient, at most three of them
    named = choose_items(Store.open(store), settings.data, seed=0)
    assert [entry.id for entry in named.held_out.entries] == ["scan-4", "scan-5"]
    with pytest.raises(DataError, match=r"data\.splits"):
        choose_items(many, resolve(PretrainSettings, overrides=["data.splits=[nope]"]).settings.data, seed=0)


def test_a_bad_batch_names_the_scans(store, tmp_path, monkeypatch):
    from medssl.windows import WindowBatch

    monkeypatch.setattr(WindowBatch, "network_input", lambda self: self.values.float() * float("nan"))
    with pytest.raises(NonFiniteLossError, match="scan-"):
        pretrain("masked_small", data=store, out=tmp_path / "run", overrides=QUICK)
    assert not checkpoints_of(tmp_path / "run" / "checkpoints")


def test_the_settings_of_the_run_load_again(store, tmp_path):
    first = pretrain("masked_small", data=store, out=tmp_path / "a", overrides=QUICK)
    second = pretrain(first.folder / "run.yaml", data=store, out=tmp_path / "b")
    assert load_yaml(first.folder / "run.yaml") == load_yaml(second.folder / "run.yaml")
    assert identical(first.encoder(), second.encoder())


def test_json_names_what_was_written(store, tmp_path, capsys):
    with console.speaking(console.Manner(as_json=True)):
        pretrain("masked_small", data=store, out=tmp_path / "run", overrides=QUICK)
    facts = json.loads(capsys.readouterr().out)
    assert facts["run"] == str(tmp_path / "run")
    assert str(tmp_path / "run" / "encoder.safetensors") in facts["written"]


def test_the_screen_line():
    values = {"loss": 4.312, "signal/spread": 0.92, "lr": 2e-4, "signal/other": 1.0}
    report = Report(step=1240, steps=50_000, values=values, data_wait=0.031, memory_gib=11.2)
    assert screen_note(report) == "loss 4.31 | spread 0.92 | lr 2.0e-4 | data-wait 3% | 11.2 GiB"


def slices_of(store, path, keep, depth=None):
    """Write a table of slices as `reduce --unit slice` does: the same ones of every scan."""
    import polars as pl

    from medssl.reduction.parts import write_parts
    from medssl.store.read import Store

    rows = []
    for entry in Store.open(store).entries:
        shape = [depth or entry.shape[0], *entry.shape[1:]]
        rows += [{"id": entry.id, "axis": "z", "index": i, "start": [i, 0, 0], "stop": [i + 1, *shape[1:]],
                  "shape": shape, "keep": i in keep} for i in range(shape[0])]  # fmt: skip
    write_parts(pl.DataFrame(rows), path, {"by": "hand"})
    return path


def test_chosen_slices_are_counted_in_the_store(store, tmp_path):
    from medssl.store.read import Store
    from medssl.volumes.training import chosen_slices

    scans = Store.open(store)
    depth = scans.entries[0].shape[0]
    same = chosen_slices(str(slices_of(store, tmp_path / "a.parquet", {0, 3})), scans)
    assert set(map(tuple, same.values())) == {(0, 3)}
    twice = chosen_slices(str(slices_of(store, tmp_path / "b.parquet", {0, 1, 7}, depth=2 * depth)), scans)
    assert set(map(tuple, twice.values())) == {(0, 3)}
    some = scans.subset([entry.id for entry in scans.entries[:2]])
    slices_of(store, tmp_path / "c.parquet", {0})
    assert set(chosen_slices(str(tmp_path / "c.parquet"), some)) == {entry.id for entry in some.entries}


def test_a_run_on_chosen_slices_draws_no_others(store, tmp_path, capsys):
    table = slices_of(store, tmp_path / "kept.slices.parquet", {2, 5})
    slices = ["method.window=[1,24,16]", "method.patch=[1,8,8]", f"data.slices={table}",
              "encoder.kernels=[[1,3,3],[1,3,3]]", "encoder.strides=[[1,1,1],[1,2,2]]"]  # fmt: skip
    seen = []
    from medssl.loading import WindowLoader

    plain = WindowLoader.batch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WindowLoader, "batch", lambda self, step: seen.append(plain(self, step)) or seen[-1])
        pretrain("masked_small", data=store, out=tmp_path / "run", overrides=[*QUICK, *slices])
    assert {int(z) for batch in seen for z in batch.origin[:, 0]} == {2, 5}
    said = capsys.readouterr().out
    assert f"on the slices of {table}" in said
    assert "times through the slices" in said


def test_a_table_of_other_scans_is_refused(store, tmp_path):
    table = slices_of(store, tmp_path / "kept.slices.parquet", {2})
    other = tmp_path / "other"
    cohort(other, ["train"] * 2, name="stranger")
    with pytest.raises(DataError, match=r"says nothing about 2 of the 2 scans.*stranger"):
        pretrain("masked_small", data=other, out=tmp_path / "run", overrides=[*QUICK, f"data.slices={table}"])


CVRL = [
    "train.steps=2", "train.batch_size=4", "train.accelerator=cpu", "encoder.name=unet", "encoder.channels=[4,8]",
    "method.name=cvrl", "method.window=[16,16,16]", "method.crop=[16,16,16]", "method.hidden=8", "method.projected=8",
]  # fmt: skip


def test_phases_of_frames_reach_the_loader_and_are_checked(store, tmp_path):
    table = tmp_path / "phases.csv"
    table.write_text("scan,phase\nscan-0,0.0\nscan-1,0.4\n", encoding="utf-8")
    frames = [*CVRL, "method.apart=frame", f"data.phases={table}"]
    assert pretrain(data=store, out=tmp_path / "run", method="cvrl", overrides=frames).folder == tmp_path / "run"
    with pytest.raises(ConfigError, match="apart=frame"):
        pretrain(data=store, out=tmp_path / "gap", method="cvrl", overrides=[*CVRL, f"data.phases={table}"])
    for text, told in (
        ("scan,phase\nscan-0,early\n", "number of cycles"),
        ("id,phase\na,0\n", "columns"),
        ("scan,phase\nx,0\n", "names none"),
    ):
        table.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=told):
            pretrain(data=store, out=tmp_path / told[:3], method="cvrl", overrides=frames)


def test_a_frozen_encoder_comes_from_another_run(store, tmp_path, capsys):
    sizes = ["method.window=[8,32,32]", "method.partitions=2", "method.projected=8", "encoder.name=unet",
             "encoder.channels=[4,8]", "train.steps=1", "train.batch_size=2", "train.accelerator=cpu"]  # fmt: skip
    first = pretrain(data=store, out=tmp_path / "g", method="global_contrast", overrides=[*sizes, "method.hidden=8"])
    local = [*sizes, "method.blocks=1"]
    second = pretrain(
        data=store, out=tmp_path / "l", method="local_contrast", overrides=local, init_from=tmp_path / "g"
    )
    assert identical(first.encoder(), second.encoder())
    assert (tmp_path / "l" / "decoder.safetensors").is_file()
    assert "doubtful" not in capsys.readouterr().err
    pretrain(data=store, out=tmp_path / "bare", method="local_contrast", overrides=local)
    assert "freezes the encoder" in (tmp_path / "bare" / "log.txt").read_text()
    assert "freezes the encoder" not in (tmp_path / "l" / "log.txt").read_text()


def test_batches_by_groups_are_refused_before_a_run_or_said(store, tmp_path, capsys):
    run, groups = tmp_path / "run", tmp_path / "groups.csv"
    grouped = [*QUICK, "data.order=one_group", "train.batch_size=2"]
    with pytest.raises(ConfigError, match=r"needs data\.groups"):
        pretrain("masked_small", data=store, out=run, overrides=grouped)
    scans = [f"scan-{number}" for number in range(4)]
    groups.write_text("scan,group\n" + "".join(f"{s},{i}\n" for i, s in enumerate(scans)), encoding="utf-8")
    grouped += [f"data.groups={groups}"]
    with pytest.raises(ConfigError, match=r"largest of \d groups has 1 items, and a batch takes 2"):
        pretrain("masked_small", data=store, out=run, overrides=grouped)
    assert not run.exists()
    groups.write_text("scan,group\n" + "".join(f"{s},a\n" for s in scans), encoding="utf-8")
    one = pretrain("masked_small", data=store, out=run, overrides=grouped)
    assert "order: one_group of 1 groups" in capsys.readouterr().out
    shuffled = pretrain("masked_small", data=store, out=tmp_path / "plain", overrides=[*QUICK, "train.batch_size=2"])
    assert identical(one.encoder(), shuffled.encoder())


def test_batches_by_groups_are_gone_on_with_and_a_changed_file_is_told(store, tmp_path, monkeypatch):
    groups = tmp_path / "groups.csv"
    text = "scan,group\nscan-0,a\nscan-1,b\nscan-2,a\nscan-3,b\n"
    groups.write_text(text, encoding="utf-8")
    grouped = [*QUICK, "data.order=one_group", "train.batch_size=2", f"data.groups={groups}"]
    whole = pretrain("masked_small", data=store, out=tmp_path / "whole", overrides=grouped)
    import medssl.volumes.training as verb

    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(verb, "WindowLoader", stopping(verb.WindowLoader))
        with pytest.raises(Interrupted):
            pretrain("masked_small", data=store, out=out, overrides=grouped)
    groups.write_text(text.replace("scan-1,b", "scan-1,a").replace("scan-2,a", "scan-2,b"), encoding="utf-8")
    with pytest.raises(CheckpointError, match="2 of 4 scans are in other groups than when the run"):
        pretrain("masked_small", data=store, out=out, overrides=grouped, resume=True)
    groups.write_text(text, encoding="utf-8")
    resumed = pretrain("masked_small", data=store, out=out, overrides=grouped, resume=True)
    assert identical(resumed.encoder(), whole.encoder())


def test_a_run_on_chosen_slices_does_not_go_on_with_others(store, tmp_path):
    """The table was changed in between: other windows had been read without a word."""
    table = slices_of(store, tmp_path / "kept.slices.parquet", {2, 5})
    slices = ["method.window=[1,24,16]", "method.patch=[1,8,8]", f"data.slices={table}",
              "encoder.kernels=[[1,3,3],[1,3,3]]", "encoder.strides=[[1,1,1],[1,2,2]]"]  # fmt: skip
    before, out = table.read_bytes(), tmp_path / "run"
    pretrain("masked_small", data=store, out=out, overrides=[*QUICK, *slices])
    (out / "card.json").unlink()  # as if it had not ended
    slices_of(store, table, {3})
    with pytest.raises(CheckpointError, match=r"data\.slices was changed since the run"):
        pretrain("masked_small", data=store, out=out, overrides=[*QUICK, *slices], resume=True)
    table.write_bytes(before)
    pretrain("masked_small", data=store, out=out, overrides=[*QUICK, *slices], resume=True)
    assert (out / "card.json").is_file()
