"""Files of weights that lie: nothing of them is executed, and each is refused in one line that names it."""

from __future__ import annotations

import argparse
import collections
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from medssl.errors import ConfigError, DataError, FormatError
from medssl.weights.containers import read_container, read_json
from medssl.weights.finding import Found, found_at
from medssl.weights.renaming import Rule, fill, rename


class Touches:
    """A pickle of it makes a file when it is executed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def refused(path: Path, said: str) -> None:
    with pytest.raises(FormatError, match=said) as caught:
        read_container(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_a_call_is_refused_and_not_executed(tmp_path: Path, zipped: bool) -> None:
    made, path = tmp_path / "made", tmp_path / "evil.pth"
    content = {"state_dict": {"a": torch.ones(2)}, "x": Touches(made)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    refused(path, "not executed")
    assert not made.exists()
    torch.load(path, weights_only=False)
    assert made.exists(), "the file does execute where it is let"


def test_a_bare_pickle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps({"x": Touches(tmp_path / "made")}))
    refused(path, "weights")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_what_is_harmless_is_read(tmp_path: Path, zipped: bool) -> None:
    content = {
        "state_dict": collections.OrderedDict(a=torch.ones(2)),
        "args": argparse.Namespace(lr=0.1),
        "best": np.float64(0.5),
        "seen": np.arange(3),
        "groups": collections.defaultdict(list),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}},
        "device": torch.device("cpu"),
    }
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    found = read_container(tmp_path / "a.pth")
    assert found.states["state_dict"]["a"].tolist() == [1.0, 1.0]
    assert found.facts["best"] == 0.5
    assert len(found.sha256) == 64


def _rewritten(path: Path, to: Path, change, **options) -> None:
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(to, "w", **options) as made:
        for row in archive.infolist():
            made.writestr(row.filename, change(row.filename, archive.read(row)))


def test_a_claimed_size_of_a_tebibyte_is_refused(tmp_path: Path) -> None:
    repeated = torch.ones(1).as_strided((2**40,), (0,))  # one number, repeated without end
    torch.save({"state_dict": {"a": repeated}}, tmp_path / "repeated.pth")
    refused(tmp_path / "repeated.pth", "claims 4398046511104 bytes")
    torch.save({"state_dict": {"a": torch.ones(2**20)}}, tmp_path / "a.pth")
    small, huge = b"J" + (2**20).to_bytes(4, "little"), b"\x8a\x06" + (2**40).to_bytes(6, "little")

    def grown(name: str, data: bytes) -> bytes:
        if not name.endswith("data.pkl"):
            return data
        assert small in data
        return data.replace(small, huge)

    _rewritten(tmp_path / "a.pth", tmp_path / "huge.pth", grown)
    refused(tmp_path / "huge.pth", "not a complete file")


def test_a_packed_archive_a_second_name_and_a_cut_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"state_dict": {"a": torch.zeros(10_000)}}, path)
    _rewritten(path, tmp_path / "packed.pth", lambda _, data: data, compression=zipfile.ZIP_DEFLATED)
    refused(tmp_path / "packed.pth", "archive claims")
    _rewritten(path, tmp_path / "twice.pth", lambda _, data: data)
    with zipfile.ZipFile(tmp_path / "twice.pth", "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(archive.infolist()[0].filename, b"")
    refused(tmp_path / "twice.pth", "twice")
    (tmp_path / "cut.pth").write_bytes(path.read_bytes()[:-2000])
    refused(tmp_path / "cut.pth", "not a complete")
    (tmp_path / "empty.pth").write_bytes(b"")
    refused(tmp_path / "empty.pth", "empty")
    refused(tmp_path / "none.pth", "no such file")
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    refused(tmp_path / "none.pth", "no tensor")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "script.pt")
    refused(tmp_path / "script.pt", "TorchScript")


def test_a_header_of_safetensors_is_held_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(4), "b": torch.ones(2)}, path)
    assert read_container(path).states[""]["a"].shape == (4,)
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header, data = whole[8 : 8 + length].decode(), whole[8 + length :]

    def written(text: str, said: str) -> None:
        path.write_bytes(len(text.encode()).to_bytes(8, "little") + text.encode() + data)
        refused(path, said)

    rows = json.loads(header)
    written(json.dumps({**rows, "a": {**rows["a"], "shape": [2**40]}}), "claims 4398046511104 bytes")
    beyond = {**rows["a"], "shape": [2**40], "data_offsets": [0, 2**42]}
    written(json.dumps({**rows, "a": beyond}), "the file holds")
    written(header.replace('"b":', '"a":', 1), "occurs twice")
    written("[" * 5000, "damaged")
    path.write_bytes((2**40).to_bytes(8, "little") + whole[8:])
    refused(path, "header claims 1099511627776 bytes")


def test_two_tensors_of_one_name_and_numbers_that_are_none(tmp_path: Path) -> None:
    rules = (Rule(r"(?:x\.)?a", "a", "stem"), Rule(r"n", "n", "stem"))
    with pytest.raises(DataError, match=r"file: 'x\.a' comes to the name 'a'"):
        rename({"a": torch.ones(1), "x.a": torch.ones(1)}, rules, source="file")
    with pytest.raises(DataError, match="file: 'n' holds numbers that are not finite"):
        rename({"n": torch.tensor([1.0, float("nan")])}, rules, source="file")
    kept = rename({"n": torch.ones(2, dtype=torch.bfloat16)}, rules, source="file")
    assert kept.state["n"].dtype == torch.float32


def test_prefixes_are_taken_off_at_the_start_alone_and_where_all_have_them(tmp_path: Path) -> None:
    torch.save({"state_dict": {"module.a.module.b": torch.ones(1), "module.c": torch.ones(1)}}, tmp_path / "a.pth")
    found = Found(read_container(tmp_path / "a.pth"), {}, "a.pth")
    assert set(found.state("state_dict")[1]) == {"a.module.b", "c"}
    torch.save({"state_dict": {"module.a": torch.ones(1), "c": torch.ones(1)}}, tmp_path / "b.pth")
    found = Found(read_container(tmp_path / "b.pth"), {}, "b.pth")
    assert set(found.state("state_dict")[1]) == {"module.a", "c"}


def test_plans_with_a_key_twice_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "plans.json"
    path.write_text('{"a": 1, "a": 2}')
    with pytest.raises(FormatError, match="'a' occurs twice"):
        read_json(path)


def test_two_tensors_on_one_place_of_the_file(tmp_path: Path) -> None:
    """Of torch they are views of one storage, which is allowed; in safetensors the format forbids it."""
    whole = torch.arange(6.0)
    torch.save({"state_dict": {"a": whole[:4], "b": whole[2:].view(2, 2)}}, tmp_path / "a.pth")
    held = read_container(tmp_path / "a.pth").states["state_dict"]
    network = torch.nn.ParameterDict({"a": torch.zeros(4), "b": torch.zeros(2, 2)})
    renamed = rename(held, (Rule(r"(a|b)", r"\1", "stem"),), source="file")
    fill(network, renamed, part_of=lambda _: "stem", source="file")
    with torch.no_grad():
        network["a"].zero_()
    assert network["b"].tolist() == [[2.0, 3.0], [4.0, 5.0]], "what was loaded shares nothing"
    path = tmp_path / "a.safetensors"
    rows = {name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for name in ("a", "b")}
    header = json.dumps(rows).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 8)
    refused(path, "cannot be read")


@pytest.mark.parametrize("kept", [4, 8, 40])
def test_a_header_that_is_cut_off_is_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(4)}, path)
    path.write_bytes(path.read_bytes()[:kept])
    refused(path, "header")


def test_numbers_of_another_kind_are_refused(tmp_path: Path) -> None:
    network, rules = torch.nn.ParameterDict({"a": torch.zeros(2)}), (Rule("a", "a", "stem"),)
    for values, said in (
        (torch.ones(2, dtype=torch.complex64), "complex64"),
        (torch.ones(2, dtype=torch.bool), "bool"),
        (torch.ones(2, dtype=torch.int8), "int8"),
    ):
        torch.save({"a": values}, tmp_path / "a.pth")
        renamed = rename(read_container(tmp_path / "a.pth").states[""], rules, source="file")
        with pytest.raises(DataError, match=said):
            fill(network, renamed, part_of=lambda _: "stem", source="file")
    path = tmp_path / "a.safetensors"
    header = json.dumps({"a": {"dtype": "X9", "shape": [2], "data_offsets": [0, 8]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 8)
    refused(path, "cannot be read")


def test_links_are_followed_to_files_and_nowhere_else(tmp_path: Path) -> None:
    """A hub's cache is of links; one that leads nowhere, in a circle or to a folder is no file of weights."""
    (tmp_path / "blobs").mkdir()
    torch.save({"a": torch.ones(2)}, tmp_path / "blobs" / "0f3a")
    for name, target in {
        "cache": "../blobs/0f3a",
        "nowhere": "../blobs/none",
        "circle": "model.pth",
        "folder": "../blobs",
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.pth").symlink_to(target)
        if name == "cache":
            assert found_at(tmp_path / name).container.states[""]["a"].tolist() == [1.0, 1.0]
            continue
        with pytest.raises(ConfigError, match="holds no weights"):
            found_at(tmp_path / name)
        with pytest.raises((FormatError, ConfigError), match=r"no such file|holds no weights"):
            found_at(tmp_path / name / "model.pth")
