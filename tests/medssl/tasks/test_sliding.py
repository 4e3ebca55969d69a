"""Windows added up in place: MONAI's numbers, whatever the axis, the padding and the mirroring."""

from __future__ import annotations

import pytest
import torch
from monai.inferers import sliding_window_inference
from torch import nn

from medssl.tasks.sliding import Pass, add_pass


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
