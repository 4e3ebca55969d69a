"""The lists of mutants fit the code as it stands, and the script that runs them tells killed from survived."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_SPEC = importlib.util.spec_from_file_location("mutants_run", Path(__file__).with_name("run.py"))
run = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = run  # dataclasses look their module up
_SPEC.loader.exec_module(run)
MUTANTS = run.read_lists()


def test_there_are_enough():
    assert len(MUTANTS) >= 100


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_text_is_found_once_and_its_tests_are_there(mutant):
    """After a change of the code the row in the list is mended, so that it says the same as before."""
    run.changed(mutant, (ROOT / mutant.file).read_text(encoding="utf-8"))
    for named in mutant.tests:
        file, _, test = named.partition("::")
        assert (ROOT / file).exists(), named
        assert not test or f"def {test.split('::')[-1].split('[')[0]}(" in (ROOT / file).read_text(encoding="utf-8")


ROW = '[[mutant]]\nname = "{name}"\nfile = "medssl/sums.py"\ntext = "a + b"\nbecomes = "{becomes}"\nwhy = "{name}"\n'
ROW += 'tests = ["tests/test_sums.py"]\n'


@pytest.fixture
def project(tmp_path):
    for name, text in {
        "medssl/sums.py": "def add(a, b):\n    return a + b\n",
        "tests/test_sums.py": "from medssl.sums import add\n\n\ndef test_add():\n    assert add(2, 2) == 4\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "lists").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("becomes", "code", "last"),
    [("a - b", 0, "1 killed, 0 survived"), ("a * b", 1, "0 killed, 1 survived"), ("a +", 2, "no Python")],
)
def test_killed_survived_and_what_cannot_be_judged(project, becomes, code, last):
    """2 * 2 is 4 as well: that change survives. In a process of its own, as it forks."""
    import subprocess

    (project / "lists" / "sums.toml").write_text(ROW.format(name="sum", becomes=becomes))
    script = (
        "import importlib.util, sys; from pathlib import Path; "
        f"spec = importlib.util.spec_from_file_location('run', {str(Path(run.__file__))!r}); "
        "run = importlib.util.module_from_spec(spec); sys.modules['run'] = run; spec.loader.exec_module(run); "
        "run.PRELOADED = (); "
        f"sys.exit(run.main([], lists=Path({str(project / 'lists')!r}), root=Path({str(project)!r})))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    assert last in done.stdout.splitlines()[-1]
    assert (project / "medssl/sums.py").read_text() == "def add(a, b):\n    return a + b\n"


def test_a_text_that_is_gone_is_an_error(project, capsys):
    (project / "lists" / "sums.toml").write_text(ROW.format(name="sum", becomes="a - b").replace('"a + b"', '"a / b"'))
    assert run.main([], lists=project / "lists", root=project) == 2
    assert "found 0 times" in capsys.readouterr().out
