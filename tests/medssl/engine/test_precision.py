"""The precision of a run, and the check that keeps wrong bfloat16 kernels out of it."""

import pytest
import torch

from medssl.engine import precision
from medssl.engine.launch import launch
from medssl.engine.precision import choose_precision, wrong_bf16_convolutions
from medssl.engine.train_settings import TrainSettings
from medssl.errors import ConfigError


@pytest.fixture
def spoil(monkeypatch):
    """Return a function that lets the convolutions of one type and depth go wrong by a factor or a NaN."""

    def spoiled(dtype, depth, factor):
        right = precision._convolved

        def wrong(kind, at, seed):
            values = right(kind, at, seed) if kind != torch.bfloat16 else right(torch.float32, at, seed)
            if (kind, at) == (dtype, depth):
                values["the weights' gradient"][3, 2, 1, 1, 1] *= factor
            return values

        monkeypatch.setattr(precision, "_convolved", wrong)
        wrong_bf16_convolutions.cache_clear()

    yield spoiled
    wrong_bf16_convolutions.cache_clear()


@pytest.mark.parametrize("factor", [1e30, float("nan"), float("inf")])
def test_a_wrong_gradient_is_found_and_refused(spoil, factor):
    spoil(torch.bfloat16, 2, factor)
    assert "the weights' gradient of a convolution over a map 2 voxels deep" in wrong_bf16_convolutions()
    with pytest.raises(ConfigError, match=r"Set train\.precision=32-true"):
        launch(TrainSettings(accelerator="cpu", precision="bf16-mixed"))
    assert choose_precision("auto", "cpu") == "32-true"
    assert choose_precision("32-true", "cpu") == "32-true"


def test_right_gradients_pass(spoil):
    spoil(torch.bfloat16, 2, 1.0)
    assert wrong_bf16_convolutions() == ""
    assert choose_precision("bf16-mixed", "cpu") == "bf16-mixed"


def test_rounding_is_no_fault():
    exact, rough = (precision._convolved(kind, 4, 0) for kind in (torch.float32, torch.bfloat16))
    for name, value in exact.items():
        error = float((rough[name] - value).abs().max() / value.abs().max())
        assert 0.0 < error < 0.02, name
