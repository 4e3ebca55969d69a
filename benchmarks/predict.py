"""Whole scans: our windows beside MONAI's ``sliding_window_inference``, interleaved in one process.

    python benchmarks/predict.py [SIDE] [CLASSES] [WINDOW] [ROUNDS]

Both go over one synthetic scan with one network that is nothing but its last layer, so that what is measured is what
stands around the network; then with a small U-Net. It prints the medians, the ratio, the greatest difference of the
probabilities, and the peak of memory above what stood before, in maps of all classes (float32), each in a process of
its own.
"""

from __future__ import annotations

import contextlib
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from medssl.tasks.sliding import Pass, add_pass

OVERLAP = 0.5


class Last(nn.Module):
    """One 1x1x1 convolution: the output of a segmenter for next to no work."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layer = nn.Conv3d(1, classes, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        found: torch.Tensor = self.layer(images)
        return found


def unet(classes: int) -> nn.Module:
    """Return a small U-Net of ours."""
    from medssl.encoders.table import build_encoder
    from medssl.tasks.segmentation import SegmentationSettings, SegmentationTask

    encoder = build_encoder({"name": "unet", "channels": [8, 16, 32]})
    settings = SegmentationSettings(window=(32, 32, 32))
    return SegmentationTask(settings, encoder, {n: str(n) for n in range(1, classes)}).network.eval()


def softmax(logits: torch.Tensor) -> torch.Tensor:
    """Return probabilities."""
    return torch.softmax(logits.float(), dim=1)


def ours(network: nn.Module, image: torch.Tensor, window: int, flips: list[tuple[int, ...]]) -> torch.Tensor:
    """Return probabilities (classes, z, y, x)."""
    total: torch.Tensor | None = None
    for flip in flips:
        one = Pass(
            network=network,
            probabilities=softmax,
            window=(window,) * 3,
            overlap=OVERLAP,
            batch_size=2,
            mirrored=flip,
            share=1 / len(flips),
        )
        total = add_pass(total, image, one)
    assert total is not None
    return total


def monai(network: nn.Module, image: torch.Tensor, window: int, flips: list[tuple[int, ...]]) -> torch.Tensor:
    """Return the same through MONAI."""
    from monai.inferers import sliding_window_inference

    total: torch.Tensor | float = 0.0
    for flip in flips:
        dims = [2 + axis for axis in flip]
        turned = image.flip(dims) if dims else image
        logits = sliding_window_inference(turned, (window,) * 3, 2, network, overlap=OVERLAP, mode="gaussian")
        found = softmax(logits)
        total = total + (found.flip(dims) if dims else found)
    assert isinstance(total, torch.Tensor)
    return total[0] / len(flips)


WAYS = {"ours": ours, "monai": monai}
FLIPS: dict[str, list[tuple[int, ...]]] = {"plain": [()], "mirrored": [(), (2,)]}


def peak(way: str, how: str, side: int, classes: int, window: int) -> float:
    """Return the peak of memory above what stood before, in maps of all classes."""
    words = [str(Path(__file__).resolve()), "--peak", way, how, str(side), str(classes), str(window)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def measure_peak(way: str, how: str, side: int, classes: int, window: int) -> None:
    """Print it, in a process of its own."""
    torch.manual_seed(0)
    network = Last(classes)
    with torch.no_grad():
        WAYS[way](network, torch.rand(1, 1, window, window, window), window, FLIPS[how])  # libraries are loaded
        image = torch.rand(1, 1, side, side, side)
        before = forgotten_kb()
        WAYS[way](network, image, window, FLIPS[how])
        after = most_kb()
    print(json.dumps((after - before) * 1024 / (4 * classes * side**3)))


def forgotten_kb() -> float:
    """Let Linux forget the peak so far (that of the imports hides a small one); return what is held now."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return most_kb()


def most_kb() -> float:
    """Return the peak of memory since it was last forgotten."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def main() -> None:
    """Measure and print."""
    if "--peak" in sys.argv:
        way, how, *numbers = sys.argv[2:]
        measure_peak(way, how, *map(int, numbers))
        return
    side, classes, window, rounds = [int(a) for a in sys.argv[1:]] + [128, 16, 48, 5][len(sys.argv) - 1 :]
    torch.manual_seed(0)
    image = torch.rand(1, 1, side, side, side)
    with torch.no_grad():
        for name, network in (("last layer alone", Last(classes)), ("small U-Net", unet(classes))):
            for how, flips in FLIPS.items():
                if name != "last layer alone" and how == "mirrored":
                    continue
                seconds: dict[str, list[float]] = {way: [] for way in WAYS}
                found = {}
                for turn in range(rounds):
                    for way in list(WAYS)[:: 1 if turn % 2 else -1]:
                        start = time.perf_counter()
                        found[way] = WAYS[way](network, image, window, flips)
                        seconds[way].append(time.perf_counter() - start)
                medians = {way: statistics.median(times) for way, times in seconds.items()}
                apart = float((found["ours"] - found["monai"]).abs().max())
                ratio = statistics.median(a / b for a, b in zip(seconds["ours"], seconds["monai"], strict=True))
                times = f"ours {medians['ours']:.2f} s, MONAI {medians['monai']:.2f} s, ratio {ratio:.2f}"
                print(f"{name}, {how}: {times}; probabilities apart by at most {apart:.1e}", flush=True)
    for how in FLIPS:
        ways = ", ".join(f"{way} {peak(way, how, side, classes, window):.2f}" for way in WAYS)
        print(f"peak, {how}, in class maps of {classes} x {side}^3: {ways}")


if __name__ == "__main__":
    main()
