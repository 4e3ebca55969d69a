"""Heavy libraries are imported only where they are used; each check runs in a fresh interpreter."""

from __future__ import annotations

import importlib.util
import pathlib
import pkgutil
import subprocess
import sys

import pytest

import medssl
import medssl.encoders
import medssl.engine
import medssl.methods
import medssl.objectives
import medssl.store
import medssl.tasks
import medssl.views
from medssl.phantoms import write_cohort
from medssl.workflows.verbs import VERBS

READERS = ("SimpleITK", "nibabel", "pydicom")
READERS_AND_TABLES = ("SimpleITK", "open3d", "polars", "pydicom", "nibabel", "skimage", "onnx", "matplotlib.pyplot")
HEAVY = ("torch", "numpy", "pandas", "monai", *READERS_AND_TABLES)


def loaded(statement: str, names: tuple[str, ...]) -> list[str]:
    """Return which of ``names`` are imported after ``statement``, in a new interpreter."""
    code = f"{statement}\nimport sys\nprint(*[n for n in {names!r} if n in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


@pytest.mark.parametrize(
    "statement",
    [
        "import medssl",
        "import medssl.settings",
        "import medssl.methods.table, medssl.encoders.table",
        "import pipelines.cli",
        "import pipelines.console",
        "from medssl.workflows.list_things import list_things; list_things('methods'); list_things('encoders')",
        "import pipelines.cli; pipelines.cli.surface()",
    ],
)
def test_looking_around_imports_nothing_heavy(statement):
    quiet = f"import io, contextlib\nwith contextlib.redirect_stdout(io.StringIO()):\n    exec({statement!r})"
    assert loaded(quiet, HEAVY) == []


@pytest.mark.parametrize(
    "table",
    [
        "medssl.methods.table.METHODS",
        "medssl.encoders.table.ENCODERS",
        "pointcloud.methods.table.CLOUD_METHODS",
        "pointcloud.encoders.table.CLOUD_ENCODERS",
        "medssl.tasks.table.TASKS",
        "pointcloud.tasks.table.CLOUD_TASKS",
    ],
)
def test_settings_of_every_row_need_no_torch(table):
    looked = f"import pkgutil; rows = pkgutil.resolve_name({table!r}); [rows.settings_class(name) for name in rows]"
    assert loaded(looked, ("torch", "monai", "polars", "scipy", *READERS)) == []


@pytest.mark.parametrize(
    "words",
    [
        "--help",
        "list",
        "list encoders",
        "show voco",
        "show pretrain",
        "show pretrain/voco",
        "show cache",
        "show index",
        "validate pretrain/voco",
        "show pretrain --all",
        "show finetune",
        "show evaluate",
        "show predict",
        "show embed",
        "show match",
        "validate pretrain/point_mae_small",
        "validate finetune/segmentation",
        "validate finetune/classification",
        "validate finetune/point_parts_small",
        "copy pretrain/voco --dry-run",
    ],
)
def test_commands_that_look_import_neither_torch_nor_numpy(words):
    assert loaded(command(words), HEAVY) == []


def command(words: str) -> str:
    """Return the statements that run a command line in this process, its words going nowhere."""
    return (
        "import contextlib, io\nfrom pipelines.cli import app\nwith contextlib.redirect_stdout(io.StringIO()):\n"
        f"    with contextlib.suppress(SystemExit):\n        app({words.split()!r})"
    )


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_help_and_settings_of_every_verb_import_no_torch(verb):
    assert loaded(command(f"show {verb}"), ("torch", "monai", "polars", *READERS)) == []
    assert loaded(command(f"{verb} --help"), HEAVY) == []


def test_verbs_that_bring_data_in_import_no_torch(tmp_path):
    """One after the other in one process each; seconds of start are paid a hundred times where scans are few."""
    write_cohort(tmp_path / "scans", subjects=2, shape=(12, 16, 16))
    manifest, store = tmp_path / "m.parquet", tmp_path / "store"
    for words in (
        f"index {tmp_path / 'scans'} --out {manifest} workers=1",
        f"check {manifest} --out {tmp_path / 'c.html'} pictures=0",
        f"cache {manifest} --out {store} workers=1 split=train",
    ):
        assert loaded(command(words), ("torch", "monai", "lightning_fabric")) == [], words
    assert (store / "store.json").is_file()


def test_a_folder_of_the_users_called_pipelines_hides_nothing(tmp_path):
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "__init__.py").touch()

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *words], capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path
        )

    assert run("-m", "medssl", "--version").stdout.startswith("medssl ")
    write_cohort(tmp_path / "scans", subjects=2, shape=(12, 16, 16))
    called = "import medssl; print(len(medssl.index('scans', out='a.parquet', overrides=['workers=1']).manifest))"
    said = run("-c", called)
    assert (said.stdout, said.returncode) == ("2\n", 0), said.stderr
    ran = run("-m", "medssl", "index", "scans", "--out", "b.parquet", "workers=1")
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "b.parquet").is_file()
    (tmp_path / "pipelines" / "__init__.py").write_text("raise RuntimeError('a package of the user')")
    every = "from medssl.workflows.verbs import VERBS, function_of, settings_of\nfor name in VERBS:\n"
    every += "    function_of(name), settings_of(name)\n"
    every += "import medssl\nfor name in medssl.__all__:\n    getattr(medssl, name)"
    said = run("-c", every)
    assert said.returncode == 0, said.stderr
    chains = "import medssl\nprint(medssl.auto('scans', out='auto', dry_run=True).folder.name)\n"
    chains += "print(medssl.demo(out='demo', dry_run=True).next[0])"
    said = run("-c", chains)
    assert (said.stdout, said.returncode) == ("auto\ndemo\n", 0), said.stderr


def test_no_verb_and_nothing_below_one_names_the_command_line():
    """What is imported by a dotted path would escape the walk of imports."""
    root = pathlib.Path(medssl.__file__).parent
    files = [*root.rglob("*.py"), *(root.parent / "pointcloud").rglob("*.py")]
    naming = [str(path.relative_to(root.parent)) for path in files if "pipelines." in path.read_text(encoding="utf-8")]
    assert naming == ["medssl/__main__.py"]


@pytest.mark.parametrize(
    ("statement", "names"),
    [
        ("import medssl.worker, medssl.workers, medssl.pool", HEAVY),
        ("import medssl.manifest.describe, medssl.manifest.series", ("torch", "polars", "pandas", "monai", *READERS)),
        (
            "import pointcloud.describe, pointcloud.formats.reading, pointcloud.formats.ply",
            ("torch", "polars", "monai"),
        ),
        ("import medssl.store.build, medssl.reduction.fingerprint, pointcloud.storing", ("torch", "monai")),
    ],
)
def test_workers_that_read_files_begin_light(statement, names):
    assert loaded(statement, names) == []


def modules_of(package) -> list[str]:
    return [f"{package.__name__}.{found.name}" for found in pkgutil.iter_modules(package.__path__)]


def test_training_from_a_store_needs_no_reader_and_no_table():
    """A store and a preset are enough on another machine: training imports no format reader and no manifest."""
    packages = (medssl.encoders, medssl.methods, medssl.objectives, medssl.views, medssl.engine, medssl.tasks)
    names = [name for package in packages for name in modules_of(package)]
    # What writes or checks a store reads scans, and is not on the way of training.
    names += ["medssl.store.entry", "medssl.store.read", "medssl.loading"]
    names = [name for name in names if importlib.util.find_spec(name)]
    assert len(names) > 20
    assert loaded("import " + ", ".join(names), ("SimpleITK", "open3d", "polars", "onnx", "ray")) == []
