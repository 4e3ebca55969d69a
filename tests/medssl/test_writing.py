"""Files appear whole or not at all."""

import os
import stat

import pytest

from medssl.errors import ConfigError
from medssl.writing import atomic_write, folder_for


@pytest.mark.parametrize("suffix", [None, ".part"])
def test_nothing_half_written_takes_the_place_of_a_file(tmp_path, suffix):
    target = tmp_path / "x.json"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(target, suffix=suffix) as aside:  # noqa: PT012
        aside.write_text("half")
        assert aside.suffix == (suffix or ".json")
        raise KeyboardInterrupt
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_what_is_written_takes_its_place_and_others_may_read_it(tmp_path):
    target = tmp_path / "new" / "x.json"
    with atomic_write(target) as aside:
        aside.write_text("all")
        assert not target.exists()
    assert target.read_text() == "all"
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~mask


def test_a_file_where_a_folder_is_to_be_is_refused_by_name(tmp_path):
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "deeper" / "still"):
        with pytest.raises(ConfigError, match=f"{out}: a folder is wanted, and {tmp_path / 'file'} is a file"):
            folder_for(out)
    assert folder_for(tmp_path / "new" / "one") == tmp_path / "new" / "one"
    assert not (tmp_path / "new").exists()
    assert folder_for(str(tmp_path)) == tmp_path


def test_a_folder_is_not_called_like_a_file(tmp_path):
    for name in ("net.safetensors", "ct.parquet", "out.nii.gz", "PAGE.HTML"):
        with pytest.raises(ConfigError, match=f"{tmp_path / name}: a folder is written, and this is a file's name"):
            folder_for(tmp_path / name)
    (tmp_path / "run.json").mkdir()
    assert folder_for(tmp_path / "run.json") == tmp_path / "run.json"  # it is there: as you like
    assert folder_for(tmp_path / "v1.2") == tmp_path / "v1.2"
