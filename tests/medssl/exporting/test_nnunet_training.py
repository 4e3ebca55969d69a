"""nnU-Net trains from what is exported, by the commands that the export prints: ``benchmarks/nnunet_start.py``."""

from __future__ import annotations

import importlib.util
import os
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

START = runpy.run_path(str(Path(__file__).parents[3] / "benchmarks/nnunet_start.py"))


def _environment() -> Path:
    """Return an environment with nnunetv2: the one that MEDSSL_NNUNET names, or this one."""
    if "MEDSSL_NNUNET" in os.environ:
        return Path(os.environ["MEDSSL_NNUNET"])
    if importlib.util.find_spec("nnunetv2") is None:
        pytest.skip("needs nnunetv2 2.8.1 here, or MEDSSL_NNUNET=FOLDER of an environment that has it")
    return Path(sys.prefix)


def test_figures_of_epochs_are_read_from_what_nnunet_prints() -> None:
    printed = (
        "train_loss -0.1013 \nval_loss 0.2 \nPseudo dice [np.float32(0.5), np.float32(0.25)] \n"
        "train_loss nan \nval_loss -0.3 \nPseudo dice [nan, np.float32(0.0)] \n"
    )
    first, second = START["epochs_of"](printed)
    assert first == (-0.1013, 0.2, 0.375)
    assert np.isnan(second[0])
    assert second[1:] == (-0.3, 0.0)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nnunet_trains_from_the_weights_as_printed(tmp_path) -> None:
    """The synthetic scans are few and the epoch short: that it begins from our numbers is what is shown."""
    venv = _environment()
    asked = ["--steps", "2", "--epochs", "1", "--iterations", "2", "--window", "16", "16", "16", "--others", "4"]
    found = START["compared"](tmp_path, venv, START["settings"](asked))
    assert set(found) == {"ours 0", "own 0"}
    assert all(np.isfinite(figures).all() and len(epochs) == 1 for epochs in found.values() for figures in epochs)
    weights = torch.load(tmp_path / "start" / "pretrained.pth", weights_only=True)["network_weights"]
    assert any(name.startswith("decoder.stages.") for name in weights)
