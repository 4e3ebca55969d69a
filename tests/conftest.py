"""What all tests share: one thread a worker, the same examples on every run, and skips that say why."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before numpy and torch read them
os.environ.setdefault("MPLBACKEND", "Agg")
if sys.dont_write_bytecode and sys.pycache_prefix is None:
    # Where no bytecode may lie beside the sources, every process that a test starts would compile torch and MONAI anew,
    # 15 s of it: kept among what is built, it is made once.
    sys.pycache_prefix, sys.dont_write_bytecode = str(Path(__file__).resolve().parents[1] / "build" / "bytecode"), False
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

hypothesis_settings.register_profile("medssl", deadline=None, max_examples=30, derandomize=True, database=None)
hypothesis_settings.load_profile("medssl")


def _real_data_folder() -> Path | None:
    named = os.environ.get("MEDSSL_DATA", "")
    return Path(named) if named and Path(named).is_dir() else None


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, and say what it lacks."""
    if _real_data_folder() is None:
        lacking = pytest.mark.skip(reason="needs real data: set MEDSSL_DATA to the folder that holds it")
        for item in items:
            if item.get_closest_marker("realdata"):
                item.add_marker(lacking)
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if on_gpu and not _has_cuda():
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture
def real_data() -> Path:
    """Return the folder of real data; the test is skipped without."""
    folder = _real_data_folder()
    if folder is None:
        pytest.skip("needs real data: set MEDSSL_DATA to the folder that holds it")
    return folder


@pytest.fixture(autouse=True)
def verbs_speak(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let verbs that are called as functions talk as those of the command line do, for tests read what is said."""
    if request.node.get_closest_marker("from_python"):
        yield
        return
    from pipelines import console

    with console.speaking(console.Manner()):
        yield


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read files here, as a worker does: what a test replaces is replaced in this process alone."""
    monkeypatch.setattr("medssl.worker._here", True)
