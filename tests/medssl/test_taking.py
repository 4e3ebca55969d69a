"""What verbs take where they want a path, a number or a list: one rule, and no error in Python's words."""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import medssl
from medssl.errors import CacheError, ConfigError, DataError, ManifestError, MedSSLError
from medssl.manifest.schema import Manifest, read_manifest
from medssl.phantoms import write_cohort
from medssl.store.read import Store
from medssl.workflows.result import Result
from medssl.workflows.taking import takes_places
from medssl.workflows.verbs import VERBS, function_of


@takes_places
def verb(
    where: str | Path | None = None,
    *more: str | Path,
    several: Sequence[str | Path] = (),
    words: Sequence[str] = (),
    number: int | None = None,
    share: float | None = None,
    manifest: str | Path | Manifest | None = None,
    one_or_more: str | Path | Sequence[str | Path] = (),
):
    """Return what was given."""
    return {
        "where": where,
        "more": more,
        **{name: value for name, value in locals().items() if value not in ((), None)},
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    write_cohort(home / "scans", subjects=3, shape=(12, 16, 16))
    indexed = medssl.index(home / "scans", out=home / "m.parquet", overrides=["workers=1", "val=0", "test=0.34"])
    cached = medssl.cache(indexed, out=home / "store", overrides=["workers=1"])
    return home, indexed, cached


def test_a_path_is_text_a_path_or_what_lies_somewhere(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    made = Result(written=(tmp_path / "a.parquet", tmp_path / "b.json"))
    assert verb("ct.parquet")["where"] == "ct.parquet"  # a name stays one: it may be that of a preset
    assert verb("~/ct")["where"] == tmp_path / "ct"
    assert verb(Path("~/ct"))["where"] == tmp_path / "ct"
    assert verb(made)["where"] == tmp_path / "a.parquet"
    assert verb("x", made, "~/y")["more"] == (tmp_path / "a.parquet", tmp_path / "y")
    assert verb(several=[made, "z"])["several"] == [tmp_path / "a.parquet", "z"]


def test_one_word_where_several_may_stand_is_a_list_of_one():
    assert verb(several="runs/scratch")["several"] == ["runs/scratch"]
    assert verb(words="train.steps=5")["words"] == ["train.steps=5"]
    assert verb(one_or_more="runs/a")["one_or_more"] == "runs/a"
    assert verb(one_or_more=("runs/a", Path("b")))["one_or_more"] == ["runs/a", Path("b")]


def test_numbers_of_numpy_are_numbers():
    found = verb(number=np.int64(4), share=np.float32(0.5))
    assert (found["number"], found["share"]) == (4, 0.5)
    assert (type(found["number"]), type(found["share"])) == (int, float)


@pytest.mark.parametrize("wrong", [3, b"scans", 2.5, True, {"a": 1}, object(), "", "  "])
def test_what_lies_nowhere_is_refused_by_the_verb_and_the_name(wrong):
    with pytest.raises(ConfigError, match=r"^verb: where: a path is wanted"):
        verb(wrong)


def test_none_goes_only_where_a_path_may_be_left_out():
    with pytest.raises(ConfigError, match=r"^verb: one_or_more: a path is wanted .* Got NoneType"):
        verb(one_or_more=None)


def test_what_wrote_nothing_is_no_place():
    with pytest.raises(DataError, match="wrote nothing, as after a dry run"):
        verb(Result())


def test_every_verb_with_a_path_takes_it_so():
    """A verb that is added without the rule fails here."""
    for name in VERBS:
        function = function_of(name)
        paths = [p for p in inspect.signature(function).parameters.values() if "Path" in str(p.annotation)]
        for parameter in paths:
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                continue
            others = {p.name: "x" for p in inspect.signature(function).parameters.values()
                      if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}  # fmt: skip
            with pytest.raises(ConfigError, match=rf"{parameter.name}: a path is wanted"):
                function(**{**others, parameter.name: 3})


@pytest.mark.parametrize("address", ["s3://bucket/x", Path("s3://bucket/x"), "gs://bucket/x", "https://host/x"])
def test_an_address_is_no_place_for_any_verb(address, tmp_path, monkeypatch):
    """A folder called `s3:` was made, and its last line read like success."""
    monkeypatch.chdir(tmp_path)
    for name in VERBS:
        function = function_of(name)
        parameters = inspect.signature(function).parameters.values()
        needed = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
        for parameter in parameters:
            if "Path" not in str(parameter.annotation):
                continue
            given = {p.name: "x" for p in needed if p.kind is not p.VAR_POSITIONAL}
            places = []
            if parameter.kind is parameter.VAR_POSITIONAL:
                places = [*(given.pop(p.name) for p in needed if p.kind is p.POSITIONAL_OR_KEYWORD), address]
            else:
                given[parameter.name] = address
            with pytest.raises(ConfigError, match=rf"{parameter.name}: '\w+://\w+/x' is an address"):
                function(*places, **given)
    assert not list(tmp_path.iterdir())


def test_an_address_in_settings_is_refused_by_its_key(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="data: 's3://b/store' is an address"):
        medssl.pretrain(method="simclr", out="run", overrides=["data=s3://b/store"])
    with pytest.raises(ConfigError, match="init_from: 's3://b/run' is an address"):
        medssl.pretrain(method="simclr", data="store", out="run", overrides=["init_from=s3://b/run"])
    assert not list(tmp_path.iterdir())


def test_a_folder_of_such_a_name_is_reached_by_its_path():
    assert verb("./s3:/bucket")["where"] == "./s3:/bucket"
    assert verb("C:/scans")["where"] == "C:/scans"
    with pytest.raises(ConfigError, match="Give the path alone: /scans/ct"):
        verb("file:///scans/ct")


def test_a_value_that_a_verb_returned_goes_where_a_path_is_wanted(home):
    folder, indexed, cached = home
    assert os.fspath(indexed) == os.fspath(indexed.manifest) == str(folder / "m.parquet")
    assert os.fspath(cached) == os.fspath(cached.store) == str(folder / "store")
    for given in (indexed, indexed.manifest, folder / "m.parquet", str(folder / "m.parquet")):
        assert medssl.check(given, out=folder / "c.html", overrides=["pictures=0"]).ok is not None
        assert len(medssl.cache(given, out=folder / "store", overrides=["workers=1"]).store) == 3
    for given in (cached, cached.store):
        small = ["encoder.name=unet", "encoder.channels=[4,8]", "encoder.blocks=1", "method.window=[16,16,16]"]
        small += ["method.patch=[4,4,4]", "train.steps=1", "data.held_out_scans=0"]
        planned = medssl.pretrain(method="masked", data=given, out=folder / "run", dry_run=True, overrides=small)
        assert planned.folder == folder / "run"
        assert not planned.folder.exists()


def test_a_part_is_refused_where_the_whole_would_be_read(home):
    folder, indexed, cached = home
    part = cached.store.subset([cached.store.entries[0].id])
    with pytest.raises(CacheError, match="1 of its 3 scans"):
        os.fspath(part)
    assert os.fspath(Store.open(folder / "store")) == str(folder / "store")
    some = indexed.manifest.of_split("test")
    with pytest.raises(ManifestError, match="not the one of a file"):
        os.fspath(some)
    assert os.fspath(read_manifest(folder / "m.parquet")) == str(folder / "m.parquet")
    # a verb that takes a manifest itself takes the part
    assert len(medssl.cache(some, out=folder / "part", overrides=["workers=1"]).store) == len(some) == 1


def test_what_ran_dry_is_refused_in_our_words(home):
    folder, *_ = home
    with pytest.raises(MedSSLError, match="wrote nothing"):
        medssl.cache(medssl.index(folder / "scans", out=folder / "no.parquet", dry_run=True), out=folder / "no")
