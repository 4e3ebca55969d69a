"""``medssl fetch`` from outside: the licence first, then the data; a server on localhost stands for the source."""

import functools
import hashlib
import http.server
import io
import json
import tarfile
import threading

import pytest

import medssl
from medssl.errors import ConfigError, DataError


@pytest.fixture
def card(tmp_path):
    served = tmp_path / "served"
    served.mkdir()
    with tarfile.open(served / "set.tar", "w") as archive:
        for name, body in {"Set/dataset.json": b"{}", "Set/imagesTr/a.nii": b"123"}.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(served))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    digest = hashlib.sha256((served / "set.tar").read_bytes()).hexdigest()
    path = tmp_path / "my-set.yaml"
    path.write_text(
        "title: My set\nabout: Three bytes.\nlicence: CC0\nlicence_url: https://example.org/cc0\n"
        "source: https://example.org\nfolder: Set\n"
        f"url: http://127.0.0.1:{server.server_address[1]}/set.tar\nsha256: {digest}\n"
    )
    yield path
    server.shutdown()
    server.server_close()


def test_without_the_licence_nothing_is_downloaded(card, tmp_path, capsys):
    with pytest.raises(ConfigError, match="--accept-licence"):
        medssl.fetch(card, out=tmp_path / "data")
    assert "licence: CC0 https://example.org/cc0" in capsys.readouterr().out
    assert not (tmp_path / "data").exists()


def test_with_it_the_data_come_once(card, tmp_path, capsys):
    folder = medssl.fetch(card, out=tmp_path / "data", accept_licence=True).folder
    assert folder == tmp_path / "data" / "Set"
    assert (folder / "imagesTr" / "a.nii").read_bytes() == b"123"
    assert json.loads((folder / ".medssl-fetched.json").read_text())["licence"] == "CC0"
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["Set"]
    assert f"next: medssl index {folder}" in capsys.readouterr().out
    assert medssl.fetch(card, out=tmp_path / "data", accept_licence=True).folder == folder
    assert "is there already" in capsys.readouterr().out


def test_the_archive_can_be_kept(card, tmp_path):
    medssl.fetch(card, out=tmp_path / "data", accept_licence=True, overrides=["keep_archive=true"])
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == ["Set", "set.tar"]


def test_a_dry_run_brings_nothing(card, tmp_path):
    assert medssl.fetch(card, out=tmp_path / "data", dry_run=True).folder is None
    assert not (tmp_path / "data").exists()


def test_a_folder_of_the_users_is_left_alone(card, tmp_path):
    (tmp_path / "data" / "Set").mkdir(parents=True)
    with pytest.raises(DataError, match="not put there by medssl fetch"):
        medssl.fetch(card, out=tmp_path / "data", accept_licence=True)


def test_what_a_person_has_to_get_is_explained(tmp_path, capsys):
    assert medssl.fetch("acdc", out=tmp_path).folder is None
    said = capsys.readouterr().out
    assert "agree to its terms" in said
    assert "CC BY-NC-SA 4.0" in said
    assert "modality=MR" in said


def test_unknown_sets_get_a_suggestion():
    with pytest.raises(ConfigError, match="Did you mean 'acdc'"):
        medssl.fetch("acdd")
