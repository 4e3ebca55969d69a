"""Protocols that read places, where data are not as one would like: what is lacking is said, never just scored."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from medssl.encoders.table import build_encoder
from medssl.engine.card import Card, CardInput, save_encoder
from medssl.errors import ConfigError, DataError
from medssl.store.in_memory import Item, store_from_arrays
from medssl.tasks.dense_samples import ScanPlaces
from medssl.workflows.evaluate import evaluate
from pointcloud.tasks.dense_samples import CloudPlaces
from tests.pipelines.test_dense_probe import ENCODER, run_of

SHAPE = (8, 16, 16)
NAMES = {1: "ball", 2: "cube"}
PROTOCOLS = ("dense-probe", "landmarks", "one-shot", "prompt", "retrieval")
BRIEF = {
    "dense-probe": ["sizes=[2]", "draws=2", "places=60"],
    "landmarks": ["draws=2"],
    "one-shot": ["draws=2", "registration=[]"],
    "prompt": ["draws=2"],
    "retrieval": ["neighbours=2"],
}


def scan(name, split, shows=(1,), *, known=True):
    """Return a scan whose values hang on its name alone."""
    draw = np.random.default_rng(int(name[1:]))
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    labels, values = np.zeros(SHAPE, np.int16), 40 * draw.normal(size=SHAPE)
    for number in shows:
        there = ((grid - draw.uniform(2, np.array(SHAPE) - 3)) ** 2).sum(axis=-1) <= 6
        labels[there] = number
        values[there] += 300 * number
    if not known:
        labels[:] = -1
    return Item(id=name, values=values.astype(np.int16), labels=labels, patient=f"p{name}", split=split)


def store(folder, train, test):
    """Return a store; of each item the structures that it shows, None where its labels are all to be ignored."""
    items = [
        scan(f"s{number}", split, shows or (1,), known=shows is not None)
        if shows != ()
        else scan(f"s{number}", split, ())
        for number, (split, shows) in enumerate([*(("train", s) for s in train), *(("test", s) for s in test)])
    ]
    return store_from_arrays(folder, items, classes=NAMES).folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("runs") / "gc")


def asked(protocol, run, data, out, *more, **given):
    group = protocol.replace("-", "_")
    words = ["random=1", *(["places=300"] if protocol != "dense-probe" else []), *BRIEF[protocol], *more]
    return evaluate(run, data=data, out=out, protocol=protocol, overrides=[f"{group}.{w}" for w in words], **given)


def said(capsys):
    told = capsys.readouterr()
    return " ".join((told.out + told.err).split())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_items_whose_labels_are_all_ignored_are_left_out_and_counted(protocol, run, tmp_path, capsys):
    data = store(tmp_path / "store", [None, (1,), (1,), (1,)], [None, (1,), (1,)])
    found = asked(protocol, run, data, tmp_path / "out")
    assert set(found.table.frame["item"]) == {"s5", "s6"}
    told = said(capsys)
    assert "1 training scan left out, such as s0: all of the labels are to be ignored" in told
    assert "1 test scan left out, such as s4" in told


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("side", "train", "test"), [("training", (), (1,)), ("test", (1,), ())])
def test_a_side_without_a_structure_is_refused(protocol, side, train, test, run, tmp_path):
    data = store(tmp_path / "store", [train] * 3, [test] * 2)
    with pytest.raises(DataError, match=rf"none of its \d labelled {side} scans shows a structure \(ball, cube\)"):
        asked(protocol, run, data, tmp_path / "out", dry_run=True)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_structures_that_one_side_lacks_are_named(protocol, run, tmp_path, capsys):
    asked(protocol, run, store(tmp_path / "a", [(1,)] * 3, [(1, 2)] * 2), tmp_path / "out", dry_run=True)
    assert "no training scan shows cube: scores of it are of nothing that was shown" in said(capsys)
    asked(protocol, run, store(tmp_path / "b", [(1, 2)] * 3, [(1,)] * 2), tmp_path / "out", dry_run=True)
    assert "no scan of split 'test' shows cube" in said(capsys)


def test_the_dense_probe_leaves_draws_out_that_show_nothing(run, tmp_path, capsys):
    data = store(tmp_path / "store", [(), (), (), (1,), (1, 2)], [(1, 2)] * 3)
    found = asked("dense-probe", run, data, tmp_path / "out", "sizes=[1,2]", "draws=6")
    told = said(capsys)
    assert "draws, because no patient in them shows a structure" in told
    assert "n = 1: some draws lack cube, so probes fitted on them never predict it" in told
    drawn = found.table.frame.filter(pl.col("run") == "position")
    assert set(drawn["labels"]) == {1, 2}
    assert drawn["value"].null_count() == 0
    with pytest.raises(DataError, match=r"in none of the 1 draws of 1 labelled patients does one show a structure"):
        asked("dense-probe", run, data, tmp_path / "no", f"subsets={named(tmp_path, '1: [[s0]]')}")


def named(folder, text):
    (folder / "sets.yaml").write_text(f"{{{text}}}")
    return folder / "sets.yaml"


@pytest.mark.parametrize("protocol", ["landmarks", "one-shot", "prompt"])
def test_nobody_is_asked_who_shows_nothing(protocol, run, tmp_path, capsys):
    data = store(tmp_path / "store", [(), (), (1,), (1, 2)], [(1, 2)] * 2)
    asked(protocol, run, data, tmp_path / "out", "draws=5", dry_run=True)
    told = said(capsys)
    assert "asked from 2 of 2 patients (2 scans without a structure left out)" in told
    assert "of these 2 some lack cube (1)" in told


def test_landmarks_that_nobody_shares_are_refused(run, tmp_path):
    data = store(tmp_path / "store", [(1,)] * 2, [(2,)] * 2)
    with pytest.raises(DataError, match="there is no landmark to find again"):
        asked("landmarks", run, data, tmp_path / "out")


def test_too_few_places_for_a_prompt_are_refused(run, tmp_path):
    data = store(tmp_path / "store", [(1,)] * 2, [(1,)] * 2)
    with pytest.raises(DataError, match=r"of the 20 voxels .* in a training scan.*prompt.places"):
        asked("prompt", run, data, tmp_path / "out", "places=20", "seed=3")


@pytest.mark.parametrize("protocol", ["landmarks", "retrieval"])
def test_whole_structures_are_not_measured_in_random_windows(protocol, run, tmp_path):
    data = store(tmp_path / "store", [(1,)] * 3, [(1,)] * 2)
    with pytest.raises(ConfigError, match="measures whole structures"):
        asked(protocol, run, data, tmp_path / "out", "windows=random", dry_run=True)


def test_all_training_patients_are_no_nearest_ones(run, tmp_path):
    data = store(tmp_path / "store", [(1,)] * 3, [(1,)] * 2)
    with pytest.raises(ConfigError, match=r"3 nearest of 3 training scans are all of them.*1 to 2"):
        asked("retrieval", run, data, tmp_path / "out", "neighbours=3", dry_run=True)
    alone = store(tmp_path / "alone", [(1,)], [(1,)])
    with pytest.raises(ConfigError, match="Label more patients"):
        asked("retrieval", run, alone, tmp_path / "out", dry_run=True)
    found = asked("landmarks", run, alone, tmp_path / "two")  # one patient each is enough to try
    assert {score.interval.note for score in found.scores} == {"1 patient is too few for an interval"}


@pytest.mark.parametrize(("protocol", "name"), [("retrieval", "anyone"), ("one-shot", "handmade-placed")])
def test_no_run_is_called_as_an_arm_is(protocol, name, tmp_path):
    data = store(tmp_path / "store", [(1,)] * 3, [(1,)] * 2)
    with pytest.raises(ConfigError, match=f"'{name}'"):
        asked(protocol, run_of(tmp_path / name), data, tmp_path / "out", dry_run=True)
    with pytest.raises(ConfigError, match="'voco-placed'"):
        asked(protocol, run_of(tmp_path / "voco"), data, tmp_path / "out", dry_run=True,
              against=[run_of(tmp_path / "voco-placed")])  # fmt: skip


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_order_of_a_store_changes_nothing(protocol, run, tmp_path):
    items = [scan(f"s{n}", "train" if n < 4 else "test") for n in range(7)]
    frames = []
    for order in (range(7), (6, 2, 5, 0, 3, 1, 4)):
        data = store_from_arrays(tmp_path / f"store{order[0]}", [items[n] for n in order], classes={1: "ball"}).folder
        found = asked(protocol, run, data, tmp_path / f"out{order[0]}", "places=100")
        frames.append(found.table.frame.sort("run", "draw", "labels", "item", "target", "metric"))
    assert frames[0].drop("value").equals(frames[1].drop("value"))
    # a sum in another order may move a probe's weights in their last digits, and with them a voxel
    np.testing.assert_allclose(frames[0]["value"], frames[1]["value"], atol=0.02 if protocol == "dense-probe" else 1e-6)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_several_channels_are_all_read_and_registration_takes_one_that_both_have(protocol, tmp_path, capsys):
    channels = ("ct", "t1")
    items = []
    for number in range(7):
        one = scan(f"s{number}", "train" if number < 4 else "test")
        values = np.stack([one.values, one.values[::-1]])
        lacks = ("ct",) if number == 6 else ()
        items.append(replace(one, values=values, modality=("CT", "MR"), channels=channels, lacks=lacks))
    data = store_from_arrays(tmp_path / "store", items, classes={1: "ball"}).folder
    torch.manual_seed(0)
    encoder = build_encoder({**ENCODER, "in_channels": 2})
    scales = ((-1024.0, 1024.0), (0.0, 16384.0))
    inputs = tuple(
        CardInput(name=n, modality=m, scale=s) for n, m, s in zip(channels, ("CT", "MR"), scales, strict=True)
    )
    card = Card(
        encoder=encoder.settings.model_dump(mode="json"),
        in_channels=2,
        channels=encoder.channels,
        strides=encoder.strides,
        window=(8, 16, 16),
        modality="CT+MR",
        inputs=inputs,
    )
    (tmp_path / "two").mkdir()
    save_encoder(encoder, card, tmp_path / "two")
    more = ["registration=[affine]"] if protocol == "one-shot" else []
    found = asked(protocol, tmp_path / "two", data, tmp_path / "out", *more)
    assert {"two", "random-seed0"} <= set(found.table.runs)
    assert np.isfinite(found.table.frame["value"].to_numpy()).all()


def test_clouds_of_more_points_have_no_larger_parts():
    places = CloudPlaces({1: "lid"}, None)
    assert 30 * places.size(None, 100) == pytest.approx(300 * places.size(None, 1000))


def test_a_case_is_registered_by_a_channel_that_it_has(tmp_path, monkeypatch):
    one, other = scan("s0", "train"), scan("s1", "test")
    both = {"modality": ("CT", "MR"), "channels": ("ct", "t1")}
    items = [
        replace(one, values=np.stack([one.values, one.values[::-1]]), **both),
        replace(other, values=np.stack([other.values, other.values[::-1]]), lacks=("ct",), **both),
    ]
    made = store_from_arrays(tmp_path / "store", items, classes={1: "ball"})
    seen = []

    def registered(fixed, moving, labels, *_, **__):
        seen.extend([fixed, moving])
        return labels, ""

    monkeypatch.setattr("medssl.tasks.dense_samples.registered_labels", registered)
    places = ScanPlaces({1: "ball"}, (8, 16, 16), "whole")
    found = places.registered(made, 0, made, 1, np.array([[0.0, 0, 0]], np.float32), way="affine", seed=0)
    assert (found.labels.tolist(), found.why) == ([0], "")
    assert np.array_equal(seen[0], other.values[::-1])
    assert np.array_equal(seen[1], one.values[::-1])
