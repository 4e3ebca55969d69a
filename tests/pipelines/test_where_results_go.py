"""Every verb asks where its results are to go before it works, and leaves nothing there where it refuses."""

import inspect
import os

import pytest

from medssl.errors import DiskError, MedSSLError
from medssl.workflows.export_targets import EXPORTS
from medssl.workflows.verbs import VERBS, function_of, settings_of

# What a verb must be given besides. Nothing of it is there, so that a verb that reads first fails on that.
_GIVEN = {
    "manifest": "no.parquet",
    "run": "no-run",
    "scan": "no-scan.nii",
    "scans": "no-scans",
    "weights": "no.pth",
    "data": "no-store",
    "into": ["no-other.nii"],
    "inputs": ["no-scan.nii"],
    "point": "1,2,3",
    "to": "monai",
    "runs": ["no-run"],
}
_WRITING = [name for name in VERBS if "out" in inspect.signature(function_of(name)).parameters]
_ENDINGS = {"index": ".parquet", "reduce": ".csv", "check": ".html", "check-split": ".html", "report": ".html"} | {
    "embed": ".npz",
    "copy": ".yaml",
}
_FOLDERS = [name for name in _WRITING if name not in _ENDINGS]


def _call(verb, out, **more):
    function = function_of(verb)
    given = {"name": {"fetch": "msd-hippocampus", "copy": "finetune/segmentation"}.get(verb)} | _GIVEN
    places, named = [], {"out": out, **more}
    for name, parameter in inspect.signature(function).parameters.items():
        if name in named or parameter.default is not inspect.Parameter.empty or name == "options":
            continue
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            places += given[name]
        elif parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            named[name] = given[name]
        elif name != "out":
            places.append(given[name])
    return function(*places, **named)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_all_that_write_are_known():
    """A verb that is new is walked with the folders, or gets its ending above."""
    assert set(_ENDINGS) < set(_WRITING)
    assert len(_FOLDERS) >= 10


@pytest.mark.parametrize("verb", _WRITING)
def test_a_file_on_the_way_is_named(verb, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MedSSLError, match=f"a folder is wanted, and {tmp_path / 'file'} is a file"):
        _call(verb, tmp_path / "file" / "new" / f"x{_ENDINGS.get(verb, '')}")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("verb", _FOLDERS)
def test_a_file_where_a_folder_is_wanted(verb, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MedSSLError, match=f"{tmp_path / 'file'}: a folder is wanted"):
        _call(verb, tmp_path / "file")


@pytest.mark.parametrize("verb", _ENDINGS)
def test_a_folder_where_a_file_is_wanted(verb, tmp_path):
    folder = tmp_path / f"x{_ENDINGS[verb]}"
    inner = folder / {"check": "no-check.html", "report": "report.html", "copy": "segmentation.yaml"}.get(
        verb, "check-split.html" if verb == "check-split" else ""
    )
    inner.mkdir(parents=True)  # a folder gets the page under its own name, which is a folder as well
    with pytest.raises(MedSSLError, match=f"{inner}: a .*(this is a folder|exists)"):
        _call(verb, folder)


@pytest.mark.parametrize("verb", _ENDINGS)
def test_an_ending_that_cannot_be_written(verb, tmp_path):
    with pytest.raises(MedSSLError, match=r"x\.docx: .*Got '\.docx'"):
        _call(verb, tmp_path / "new" / "x.docx")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("form", EXPORTS)
def test_every_form_of_export(form, tmp_path):
    endings = EXPORTS[form].suffixes
    if endings:
        wrong, words = tmp_path / f"x{endings[0]}", "a file is wanted"
        wrong.mkdir()
    else:
        wrong, words = tmp_path / "x", "a folder is wanted"
        wrong.touch()
    out = wrong.with_suffix("") if endings else wrong  # a name without its ending gets it
    with pytest.raises(MedSSLError, match=f"{wrong}: {words}"):
        _call("export", out, to=form)


@pytest.mark.parametrize("verb", _WRITING)
def test_a_folder_that_nothing_can_be_written_to(verb, tmp_path, monkeypatch):
    """Root may write everywhere, so that the system's answer stands in for such a folder."""
    closed = tmp_path / "closed"
    closed.mkdir()
    asked = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(closed) and asked(path, mode))
    with pytest.raises(DiskError, match=r"closed.*: permission to write here is denied"):
        _call(verb, closed / f"x{_ENDINGS.get(verb, '')}")
    assert not any(closed.iterdir())


@pytest.mark.parametrize("verb", [name for name in _WRITING if settings_of(name) is not None])
def test_a_wrong_setting_leaves_no_folder_behind(verb, tmp_path):
    with pytest.raises(MedSSLError):
        _call(verb, tmp_path / "new" / "deep" / f"x{_ENDINGS.get(verb, '')}", overrides=["no.such.setting=1"])
    assert not any(tmp_path.iterdir())


def test_what_cannot_be_read_leaves_no_folder_behind(tmp_path):
    for verb in _WRITING:
        if verb in ("fetch", "copy", "demo"):  # which need nothing that could be missing
            continue
        with pytest.raises(MedSSLError):
            _call(verb, tmp_path / "new" / "deep" / f"x{_ENDINGS.get(verb, '')}")
        assert not any(tmp_path.iterdir()), verb
