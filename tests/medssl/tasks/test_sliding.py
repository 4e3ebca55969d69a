"""Windows added up in place: MONAI's numbers, whatever the axis, the padding and the mirroring."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers import sliding_window_inference
from torch import nn

from medssl.tasks.sliding import Pass, _weight, _windows, add_pass


class Odd(nn.Module):
    """A network that sees where in its window a voxel lies."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv3d(2, 3, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        ramp = torch.linspace(-1, 1, images.shape[2]).view(1, 1, -1, 1, 1)
        return self.layer(images) + ramp * torch.tensor([1.0, 0.0, -2.0]).view(1, 3, 1, 1, 1)


def softmax(logits: torch.Tensor) -> torch.Tensor:
    return torch.softmax(logits, dim=1)


@pytest.mark.parametrize("shape", [(9, 30, 17), (31, 12, 12), (5, 6, 40), (8, 8, 8), (6, 7, 5)])
@pytest.mark.parametrize("mirrored", [(), (0,), (1, 2), (0, 1, 2)])
def test_passes_add_up_to_what_monai_says(shape, mirrored):
    torch.manual_seed(1)
    image, network, window = torch.rand(1, 2, *shape), Odd(), (8, 8, 8)
    flips = [(), mirrored] if mirrored else [()]
    total, expected = None, torch.zeros(1, 3, *shape)
    for flip in flips:
        one = Pass(network=network, probabilities=softmax, window=window, overlap=0.4, batch_size=3, outside=0.25,
                   mirrored=flip, share=1 / len(flips))  # fmt: skip
        total = add_pass(total, image, one)
        dims = [2 + axis for axis in flip]
        with torch.no_grad():
            logits = sliding_window_inference(image.flip(dims), window, 3, network, overlap=0.4, mode="gaussian",
                                              cval=0.25)  # fmt: skip
        expected += softmax(logits).flip(dims) / len(flips)
    torch.testing.assert_close(total, expected[0], atol=1e-6, rtol=1e-5)


def test_at_most_one_map_and_a_stretch_are_held(monkeypatch):
    """Counted in numbers that are allocated, not in what the system says of a busy machine."""
    made = []
    whole = torch.Tensor.new_zeros
    monkeypatch.setattr(torch.Tensor, "new_zeros", lambda self, *n, **k: made.append(whole(self, *n, **k)) or made[-1])
    shape, window, classes = (64, 24, 24), (16, 16, 16), 3
    image, network = torch.rand(1, 2, *shape), Odd()
    total = None
    for flip in ((), (0,)):
        one = Pass(network=network, probabilities=softmax, window=window, overlap=0.5, batch_size=1, mirrored=flip,
                   share=0.5)  # fmt: skip
        total = add_pass(total, image, one)
        held = sum(t.numel() for t in made) / (classes * 64 * 24 * 24)
        assert held <= (0.34 if not flip else 0.35), "beside the result: weights, or the stretch of a window's depth"
        made.clear()


@pytest.mark.parametrize("window", [(8, 8, 8), (1, 16, 24), (5, 7, 96), (128, 4, 33)])
def test_weights_are_monais_to_the_bit(window):
    expected = compute_importance_map(window, mode="gaussian", sigma_scale=0.125)
    assert torch.equal(_weight(window, torch.device("cpu")), expected)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 20)), min_size=3, max_size=3),
    overlap=st.sampled_from([0.0, 0.25, 0.4, 0.5, 0.75, 0.9]),
)
def test_windows_are_where_monai_has_them(sizes, overlap):
    window, size = tuple(w for w, _ in sizes), tuple(w + more for w, more in sizes)
    steps = [w if w == n else max(1, int(w * (1 - overlap))) for w, n in zip(window, size, strict=True)]
    expected = dense_patch_slices(size, window, steps)
    assert _windows(size, window, overlap, first=0) == sorted(expected, key=lambda place: place[0].start)


def test_predicting_imports_no_monai():
    """It takes longer than most scans do."""
    code = (
        "import sys, torch; from medssl.tasks.sliding import Pass, add_pass; "
        "one = Pass(network=torch.nn.Conv3d(1, 2, 1), probabilities=lambda x: x, window=(4, 4, 4), overlap=0.5, "
        "batch_size=1); add_pass(None, torch.rand(1, 1, 6, 6, 6), one); import medssl.workflows.predict; "
        "assert 'monai' not in sys.modules, 'monai'"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
