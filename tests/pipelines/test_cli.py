"""The command line: its frozen surface, its exit codes, and that every command fits the function it calls."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from medssl.errors import DataError
from medssl.methods.table import METHODS
from medssl.workflows import doctor
from medssl.workflows.setting_docs import setting_docs
from medssl.workflows.verbs import VERBS, function_of, settings_of
from pipelines import options
from pipelines.cli import app, surface
from pipelines.options import call, split_overrides

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/golden/cli.txt"
# One call of every command with all that it can be given, to bind to the signature of its function.
FULL_CALLS: dict[str, str] = {
    "demo": "a=1 --out d --data x --preset p --overwrite --dry-run",
    "auto": "scans a=1 --out d --budget small --method voco --labels 2 --export onnx --preset p --overwrite --dry-run",
    "index": "scans a=1 --out m.parquet --preset x --dry-run",
    "fetch": "msd-hippocampus a=1 --out data --accept-licence --preset x --dry-run",
    "check": "m.parquet a=1 --out c.html --preset x --dry-run",
    "report": "r few ct.parquet a=1 --out o.html --preset x --dry-run",
    "export": "r a=1 --to onnx --out o --preset x --dry-run",
    "import": "w.pth --as voco --out o --overwrite --dry-run",
    "embed": "r a=1 --data s --out o.npz --preset x --dry-run",
    "reduce": "m.parquet a=1 --out k.parquet --by random --keep 9 --unit slice --index f --shard 1/2 --workers 2 "
    "--preset x --dry-run",
    "check-split": "m.parquet a=1 --test t.parquet --out c.html --index f --workers 2 --preset x --dry-run",
    "query": "s.nii.gz a=1 --index f --preset x",
    "cache": "ct.parquet --out stores/ct workers=2 --preset x --dry-run",
    "pretrain": "voco --data s --out r a=1 --method voco --devices 2 --init-from q --resume --overwrite --dry-run",
    "finetune": "r a=1 --data s --out o --preset p --task segmentation --from-scratch --labels 4 --draw 1 "
    "--predict test --devices 2 --resume --overwrite --dry-run",
    "evaluate": "r --data s --out o --against a --against b --protocol few-label --shard 1/2 --preset x --dry-run a=1",
    "match": "r a.nii.gz --point 1,2,3 --in b.nii.gz c.nii.gz a=1 --out m --preset x --dry-run",
    "predict": "r new.nii.gz more/ a=1 --run q --out p --preset x --overwrite --dry-run",
    "list": "methods",
    "show": "voco",
    "validate": "my.yaml a=1 --for pretrain",
    "copy": "voco my.yaml --dry-run",
    "doctor": "--out .",
}


@pytest.fixture
def run():
    runner = CliRunner()

    def invoke(*words: str):
        return runner.invoke(app, list(words))

    return invoke


def test_surface_is_the_frozen_one():
    """A command line is a promise to scripts. After a change that is meant: make golden."""
    assert surface() == GOLDEN.read_text(encoding="utf-8"), "the surface has changed; if it is meant, run: make golden"


def test_every_verb_is_a_command_and_the_other_way_round():
    assert {command.name for command in app.registered_commands} == set(VERBS) == set(FULL_CALLS)


@pytest.mark.parametrize("verb", FULL_CALLS)
@pytest.mark.parametrize("flags", [[], ["--json"], ["-q"], ["-v"]])
def test_commands_fit_the_functions_they_call(run, monkeypatch, verb, flags):
    real = function_of(verb)
    bound = []

    def record(*args, **kwargs):
        bound.append(inspect.signature(real).bind(*args, **kwargs))

    monkeypatch.setattr(options, "function_of", lambda name: record)
    outcome = run(verb, *FULL_CALLS[verb].split(), *flags)
    # A command may read the answer to choose its exit code; there is none here, so only the call itself is looked at.
    assert len(bound) == 1, outcome.output


@pytest.mark.parametrize("verb", VERBS)
def test_help_is_of_use(run, verb):
    outcome = run(verb, "--help")
    assert outcome.exit_code == 0
    assert "For example" in outcome.output
    assert f"medssl {verb}" in outcome.output
    assert "--json" in outcome.output


@pytest.mark.parametrize("verb", [verb for verb in VERBS if VERBS[verb].settings])
def test_every_setting_is_explained(verb):
    cls = settings_of(verb)
    silent = [doc.key for doc in setting_docs(cls) if not doc.meaning and not doc.key.endswith("name")]
    assert not silent


def test_mistyped_words_get_a_suggestion(run):
    assert "Did you mean 'show'?" in run("shw").output
    assert "--json" in run("show", "voco", "--jsn").output
    assert "Did you mean 'voco'?" in run("show", "vocco").output
    assert run("shw").exit_code == 2


def test_a_mistake_of_the_user_is_one_sentence_without_traceback(run):
    outcome = run("show", "vocco")
    assert outcome.exit_code == 2
    assert "Traceback" not in outcome.output
    assert outcome.stderr.startswith("error: Nothing is called 'vocco'")


def test_a_mistake_is_in_the_json_object_too(run):
    outcome = run("show", "vocco", "--json")
    assert outcome.exit_code == 2
    assert json.loads(outcome.stdout)["error"]["kind"] == "ConfigError"


@pytest.mark.parametrize(("error", "code"), [(DataError("too few"), 2), (KeyboardInterrupt(), 130)])
def test_exit_codes(monkeypatch, error, code):
    import typer

    def fails():
        raise error

    monkeypatch.setattr(options, "function_of", lambda name: fails)
    with pytest.raises(typer.Exit) as caught:
        call("list", as_json=False, quiet=False, verbose=False)
    assert caught.value.exit_code == code


def test_a_fault_of_ours_is_one_line_and_keeps_its_traceback_in_a_file(monkeypatch, capsys, tmp_path):
    def fails():
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(options, "function_of", lambda name: fails)
    monkeypatch.setattr(options.tempfile, "tempdir", str(tmp_path))
    with pytest.raises(typer.Exit) as caught:
        call("list", as_json=False, quiet=False, verbose=False)
    assert caught.value.exit_code == 3
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "ZeroDivisionError: of ours" in said
    (kept,) = tmp_path.iterdir()
    assert str(kept) in said
    assert "Traceback" in kept.read_text()


def test_overrides_in_the_place_of_an_optional_positional(tmp_path):
    assert split_overrides("train.steps=3", ["seed=1"]) == (None, ["train.steps=3", "seed=1"])
    assert split_overrides("runs/a", None) == ("runs/a", [])
    assert split_overrides(None, None) == (None, [])
    odd = tmp_path / "a=b"
    odd.mkdir()
    assert split_overrides(str(odd), ["seed=1"]) == (str(odd), ["seed=1"])


@pytest.mark.parametrize("kind", ["presets", "methods", "encoders", "data", "formats", "verbs"])
def test_lists(run, kind):
    listed = json.loads(run("list", kind, "--json").stdout)[kind]
    assert len(listed) >= 3
    assert all(row["name"] for row in listed)


def test_list_of_nothing_known(run):
    assert "Did you mean 'methods'?" in run("list", "method").output


@pytest.mark.parametrize(("name", "key"), [("voco", "momentum"), ("unet", "channels")])
def test_show_names_every_setting(run, name, key):
    shown = json.loads(run("show", name, "--json").stdout)
    (row,) = [setting for setting in shown["settings"] if setting["key"] == key]
    assert row["meaning"]
    assert row["default"]


def test_show_a_verb_shows_what_it_takes_by_default_and_how_to_see_the_rest(run):
    lines = run("show", "pretrain").output.splitlines()
    assert len(lines) < 150
    keys = [line.split()[0] for line in lines if line and line.split()[0].startswith("method.")]
    assert "method.momentum" in keys
    assert not any("[" in key for key in keys)
    assert any("medssl show NAME" in line and "--all" in line for line in lines)
    every = run("show", "pretrain", "--all").output
    assert "method[cvrl]." in every
    assert "method[2]" not in every


def test_show_a_data_card_names_its_licence(run):
    shown = run("show", "msd-hippocampus")
    assert shown.exit_code == 0, shown.output
    assert "CC" in shown.output
    assert "next: medssl fetch msd-hippocampus" in shown.output


def test_validate_shows_one_setting_a_line(run):
    lines = run("validate", "pretrain/voco").output.splitlines()
    assert lines[0] == "method:"
    assert any(line.split()[:2] == ["name:", "voco"] and "# preset voco" in line for line in lines)


def test_copy_validates_and_never_writes_over(run, tmp_path):
    target = tmp_path / "sub" / "voco.yaml"
    assert run("copy", "pretrain/voco", str(target), "--dry-run").exit_code == 0
    assert not target.exists()
    copied = run("copy", "pretrain/voco", str(target))
    assert copied.exit_code == 0, copied.output
    assert f"wrote {target}" in copied.output
    assert target.read_text("utf-8") == (ROOT / "configs/pretrain/voco.yaml").read_text("utf-8")
    target.write_text("mine\n", encoding="utf-8")
    again = run("copy", "pretrain/voco", str(target))
    assert again.exit_code == 2
    assert "not written over" in again.output
    assert target.read_text("utf-8") == "mine\n"


def test_validate_tells_the_verb_from_the_header(run, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("# Command: medssl pretrain mine.yaml\ntrain:\n  steps: 7\n", encoding="utf-8")
    found = json.loads(run("validate", str(path), "train.lr=0.5", "--json").stdout)
    assert found["verb"] == "pretrain"
    assert found["settings"]["train"]["steps"] == 7
    assert found["origins"]["train.lr"] == "command line"
    assert found["origins"]["train.steps"] == f"file {path}"


def test_validate_names_every_error(run, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("train:\n  setps: 7\n  lr: -1\n", encoding="utf-8")
    unclear = run("validate", str(path))
    assert "--for" in unclear.output
    outcome = run("validate", str(path), "--for", "pretrain")
    assert outcome.exit_code == 2
    assert "Did you mean 'train.steps'?" in outcome.output
    assert "train.lr: found -1; allowed is above 0" in " ".join(outcome.output.split())


def test_version_and_bare_call(run):
    assert run("--version").output.startswith("medssl ")
    assert "demo" in run().output


def test_help_loads_nothing_heavy():
    """It is what makes help quick: half a second on a quiet machine."""
    heavy = "torch monai SimpleITK nibabel pydicom open3d scipy sklearn skimage matplotlib polars lightning_fabric timm"
    code = f"""
import sys
sys.argv = ["medssl", "--help"]
try:
    from pipelines.cli import main
    main()
except SystemExit:
    pass
print(sorted(set("{heavy}".split()) & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert "pretrain" in done.stdout
    assert done.stderr.strip().splitlines()[-1] == "[]"


def test_a_closed_pipe_is_no_error():
    command = f"{sys.executable} -m pipelines.cli show voco | head -n 1"
    ran = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=ROOT, check=False)
    assert ran.stdout.startswith("Method voco")
    assert "Traceback" not in ran.stderr
    assert "BrokenPipe" not in ran.stderr


@pytest.mark.parametrize(
    ("torch", "vision", "fits"),
    [
        ("2.9.0", "0.24.1", True),
        ("2.14.1", "0.29.1", True),
        ("2.9.0+cu128", "0.24.0+cu128", True),
        ("2.9.0", "0.23.0", False),
        ("2.9.0+cpu", "0.24.0", False),
    ],
)
def test_doctor_knows_pairs_of_torch_and_torchvision(torch, vision, fits):
    assert (doctor.matching_torchvision(torch, vision) == "") is fits


def test_doctor_reports_a_broken_pair(monkeypatch):
    versions = {"torch": "2.9.0+cpu", "torchvision": "0.24.0"}
    monkeypatch.setattr(doctor.importlib.metadata, "version", versions.__getitem__)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    (finding,) = doctor._pairing()
    assert finding.fatal
    assert "reinstall" in finding.hint


def test_doctor_names_the_missing_library(monkeypatch):
    failed = subprocess.CompletedProcess([], 1, stdout="", stderr="ImportError: libusb-1.0.so.0: cannot open\n")
    monkeypatch.setattr(doctor.subprocess, "run", lambda *a, **k: failed)
    monkeypatch.setattr(doctor, "_has_library", lambda name: name != "usb-1.0")
    (finding,) = doctor._open3d()
    assert "libusb" in finding.found
    assert finding.hint.startswith("apt-get install libusb-1.0-0;")
    assert not finding.fatal


def test_doctor_leaves_nothing_and_finds_this_machine_fit(run, tmp_path):
    outcome = run("doctor", "--out", str(tmp_path), "--json")
    assert outcome.exit_code == 0, outcome.output
    found = json.loads(outcome.stdout)
    assert found["healthy"] is True
    assert {row["what"] for row in found["findings"]} >= {"Python", "Packages", "GPU", "Disk", "Window reads"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"joined"}))  # which has parts without defaults
def test_shown_defaults_are_those_that_hold(name):
    """A method may give a group of settings other defaults than the group's class has."""
    made = METHODS.settings_class(name)()
    for doc in setting_docs(METHODS.settings_class(name)):
        value = made
        for part in doc.key.split("."):
            value = getattr(value, part, None)
        if doc.allowed != "a group" and isinstance(value, tuple | float):
            assert doc.default == (str(list(value)).replace("'", "") if isinstance(value, tuple) else str(value)), (
                doc.key
            )


def test_options_and_defaults_are_those_of_the_verb():
    """An option that the verb does not know, or another default than its own, is a second description of one thing."""
    by_hand = {"workers", "as_json", "quiet", "verbose"}  # a setting, and how things are said
    named = {
        "predict": {"inputs": None, "runs": None},
        "match": {"more": None},
    }  # what the command line spells otherwise
    for made in app.registered_commands:
        known = inspect.signature(function_of(made.name)).parameters
        options_ = any(one.kind is one.VAR_KEYWORD for one in known.values())  # settings by name
        for name, own in inspect.signature(made.callback).parameters.items():
            if name in by_hand or name in named.get(made.name, {}):
                continue
            assert name in known or options_, (made.name, name)
            if name not in known or own.default in (None, False):
                continue  # not given, not passed
            wanted = known[name].default
            assert own.default == own.empty or str(own.default) == str(wanted), (made.name, name, own.default, wanted)


def test_workers_is_one_word_and_its_old_name_still_works(run, monkeypatch):
    said = []
    monkeypatch.setattr(options, "function_of", lambda name: lambda *args, **kwargs: said.append(kwargs["overrides"]))
    for verb in (
        "index scans",
        "cache m --out s",
        "reduce m",
        "check-split m",
        "evaluate r --data s",
        "auto s --out o",
    ):
        for word in ("--workers", "-j", "--jobs"):
            run(*verb.split(), word, "3", "a=1")
    assert said == [["a=1", "workers=3"]] * 18
