"""What else was tried on the reader of weights: what test_containers has not of the list in docs/weights.md."""

from __future__ import annotations

import collections
import io
import json
import os
import re
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

from medssl.errors import ConfigError, DataError, FormatError
from medssl.weights.containers import read_container
from medssl.weights.finding import found_at
from medssl.weights.importing import ready
from tests.oracles.authors_stages import jittered
from tests.oracles.authors_volumes import MedicalResNet


def refused(path: Path, said: str) -> None:
    with pytest.raises(FormatError, match=said) as caught:
        read_container(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    torch.save({"a": torch.arange(10.0)}, tmp_path / "good.pth")
    return tmp_path / "good.pth"


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "good/../../evil", "..\\evil", "good/data/../../../evil"])
def test_a_name_that_leads_out_of_the_archive(tmp_path: Path, good: Path, name: str) -> None:
    with zipfile.ZipFile(good, "a") as archive:
        archive.writestr(name, b"x")
    refused(good, "leads out of it")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good.pth"]


def test_a_zip_bomb(tmp_path: Path, good: Path) -> None:
    """50 MB in 50 kB; and stored rows that lie on one another, so that they claim more than the file."""
    with zipfile.ZipFile(good, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("good/data/1", b"\0" * 50_000_000)
    assert good.stat().st_size < 100_000
    refused(good, r"archive claims \d+ bytes, and the file has")
    path = tmp_path / "layers.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("good/data.pkl", b"\0" * 1000)
        first = archive.infolist()[0]
        for number in range(50):
            row = zipfile.ZipInfo(f"good/data/{number}")
            row.file_size, row.compress_size, row.CRC = first.file_size, first.compress_size, first.CRC
            row.header_offset = first.header_offset
            archive.filelist.append(row)
        archive._didModify = True
    refused(path, "archive claims 51000 bytes")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_nested_sparse_quantised_and_empty_tensors(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    quantised = torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8)
    for tensor, said in (
        (nested, "nested tensor"),
        (torch.eye(4).to_sparse(), "sparse tensor"),
        (torch.eye(4).to_sparse_csr(), "sparse tensor"),
        (quantised, "quantised tensor"),
        (torch.empty(2**40, device="meta"), "'meta'"),
    ):
        torch.save({"state_dict": {"a": tensor}}, path)
        refused(path, said)


@pytest.mark.parametrize(
    ("size", "stride", "offset"), [((10,), (1000,), 0), ((10,), (1,), 5), ((4, 4), (2, 2), 0), ((2,), (1,), 2**60)]
)
def test_strides_and_offsets_beyond_the_storage(tmp_path: Path, good: Path, size, stride, offset) -> None:
    """The words of a file of torch.save that say where a tensor lies in its storage, changed to lie beyond it."""

    class Elsewhere(torch.Tensor):
        def __reduce_ex__(self, _):
            of = torch.storage.TypedStorage(wrap_storage=self.untyped_storage(), dtype=self.dtype, _internal=True)
            return torch._utils._rebuild_tensor_v2, (of, offset, size, stride, False, collections.OrderedDict())

    torch.save({"a": torch.arange(10.0).as_subclass(Elsewhere)}, good)
    refused(good, "not a complete file of weights|claims")


def test_a_negative_stride_or_size(tmp_path: Path, good: Path) -> None:
    for size, stride in (((10,), (-1,)), ((-10,), (1,))):

        class Backwards(torch.Tensor):
            def __reduce_ex__(self, _, size=size, stride=stride):
                of = torch.storage.TypedStorage(wrap_storage=self.untyped_storage(), dtype=self.dtype, _internal=True)
                return torch._utils._rebuild_tensor_v2, (of, 0, size, stride, False, collections.OrderedDict())

        torch.save({"a": torch.arange(10.0).as_subclass(Backwards)}, good)
        refused(good, "not a complete file of weights")


def test_a_view_that_is_not_contiguous_is_read_as_it_is(good: Path) -> None:
    whole = torch.arange(12.0).view(3, 4)
    torch.save({"a": whole.t(), "b": whole[1:, ::2]}, good)
    held = read_container(good).states[""]
    assert torch.equal(held["a"], whole.t())
    assert torch.equal(held["b"], whole[1:, ::2])


def test_mappings_in_a_circle_and_a_thousand_deep(tmp_path: Path) -> None:
    circle: dict = {"a": torch.ones(2)}
    circle["self"] = circle
    torch.save(circle, tmp_path / "circle.pth")
    assert read_container(tmp_path / "circle.pth").states[""]["a"].tolist() == [1.0, 1.0]
    deep: dict = {"a": torch.ones(2)}
    for _ in range(200):
        deep = {"x": deep}
    torch.save(deep, tmp_path / "deep.pth")
    refused(tmp_path / "deep.pth", "no tensor under a name")


def test_a_folder_or_a_pipe_in_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(ConfigError, match="holds no weights"):
        found_at(tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match="holds no weights"):
        found_at(tmp_path)
    refused(tmp_path / "model.safetensors", "is no file that could hold weights")
    os.mkfifo(tmp_path / "pipe.pth")
    with pytest.raises(FormatError, match="is no file that could hold weights"):
        found_at(tmp_path / "pipe.pth")


OTHERS = {
    "text": (b"hello, these are no weights\n", r"is text, not weights \(it begins 'hello, these"),
    "page": (b"<!DOCTYPE html>\n<html>404</html>", "is a web page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n", "git lfs pull"),
    "gzip": (b"\x1f\x8b\x08\x00" + b"\0" * 40, "packed with gzip"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 40, "HDF5"),
    "noise": (bytes(range(200, 256)) * 4, "not a file of torch or safetensors|not a complete file"),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".bin"])
@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_file_of_weights_is_said_to_be_what_it_is(tmp_path: Path, kind: str, suffix: str) -> None:
    content, said = OTHERS[kind]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    if kind == "noise" and suffix == ".safetensors":
        said = "header claims .* download it again"
    refused(path, said)


def test_archives_of_other_things(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("net/weights.npy", b"x")
    refused(tmp_path / "a.pth", "none of torch's")
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        row = tarfile.TarInfo("../../evil")
        row.size = 3
        archive.addfile(row, io.BytesIO(b"abc"))
    refused(tmp_path / "b.tar", "tar archive")


def test_a_cut_file_says_what_to_do(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(100)}, path)
    path.write_bytes(path.read_bytes()[:-40])
    refused(path, "claims the bytes 0 to 400, and the file holds 360 .*download it again")
    header = json.dumps({"a": {"dtype": "F32", "shape": [-4], "data_offsets": [0, -16]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    refused(path, "header is damaged")


def test_nothing_is_written_beside_what_is_read(tmp_path: Path, good: Path) -> None:
    read_container(good)
    assert [path.name for path in tmp_path.iterdir()] == ["good.pth"]


@pytest.mark.parametrize(("gone", "said"), [("layer1.0.conv2.weight", "conv2.weight"), ("layer1.0.bn1.bias", "bias")])
def test_a_lost_tensor_is_named_with_where_the_complete_file_is(tmp_path: Path, gone: str, said: str) -> None:
    state = jittered(MedicalResNet((1, 1, 1, 1), (4, 6, 8, 10), "B", deep=False)).state_dict()
    kept = {f"module.{key}": value for key, value in state.items() if key != gone}
    assert len(kept) == len(state) - 1
    torch.save({"state_dict": kept}, tmp_path / "a.pth")
    with pytest.raises(
        DataError, match=rf"{re.escape(said)}.*github\.com/Tencent/MedicalNet.*medssl show medicalnet"
    ) as told:
        ready(tmp_path / "a.pth")
    assert str(told.value).startswith(str(tmp_path / "a.pth"))
