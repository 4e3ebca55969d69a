"""How much a step of every method costs over its encoder's own forward and backward on the same images.

    python benchmarks/method_step.py [--device cuda] [--rounds 9] [--only simclr --only dino]

Both are timed in one process, alternately, and the medians are compared (processor time on a CPU). The step is the
whole step: views cut and augmented, student and teacher, loss, backward, optimiser, teacher or queue. The bare encoder
runs forward and backward (of the mean of its embedding) once on every image that the views hold, crops of each size or
windows. So a method that shows images to a teacher as well, or runs a decoder, costs more, and one that computes
visible patches only costs less. Memory is what autograd holds between forward and backward, again as a ratio; it is
counted tensor by tensor, so it is the same on every device. Methods and encoders are those of the small presets.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from voco_step import timed, windows

from medssl.encoders.contract import lay_channels_last
from medssl.encoders.table import build_encoder
from medssl.methods.table import METHODS, build_method
from medssl.presets import list_presets
from medssl.randomness import Stream
from medssl.settings import resolve
from medssl.workflows.pretrain import PretrainSettings

BATCH = 8


def images_in(views: Any) -> Iterator[Tensor]:
    """Yield the image stacks among a method's views, each as (N, 1, z, y, x): every crop, every window."""
    if isinstance(views, Tensor):
        if views.is_floating_point() and views.dim() >= 5:
            yield views.reshape(-1, 1, *views.shape[-3:])
    elif isinstance(views, dict):
        for value in views.values():
            yield from images_in(value)
    elif dataclasses.is_dataclass(views):
        for field in dataclasses.fields(views):
            yield from images_in(getattr(views, field.name))


def held_bytes(forward: Callable[[], Tensor]) -> int:
    """Return the bytes that autograd keeps after ``forward`` for its backward, each storage once."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        forward()
    return sum(kept.values())


def measure(preset: str, device: str, rounds: int) -> tuple[float, float, float, float]:
    """Return step / bare encoder, the share of the step spent on views, memory in MB, and memory / the encoder's."""
    settings = resolve(PretrainSettings, preset=preset).settings
    method = build_method(settings.method, build_encoder(settings.encoder)).to(device)
    encoder = build_encoder(settings.encoder).to(device)  # of its own: a method may freeze the one that it holds
    lay_channels_last(method)
    lay_channels_last(encoder)
    optimiser = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=1e-4)
    batch = windows(method.plan.size, device, batch=BATCH)
    first = method.views(batch, Stream(0, 0, range(BATCH)))
    stacks = [images.to(memory_format=torch.channels_last_3d) for images in images_in(first)]

    def step() -> None:
        losses = method(method.views(batch, Stream(0, 1, range(BATCH))), 0.5)
        optimiser.zero_grad(set_to_none=True)
        losses.total.backward()
        optimiser.step()
        method.after_step(0.5)

    def embedded() -> Tensor:
        return torch.stack([encoder.embed(images).mean() for images in stacks]).sum()

    def bare() -> None:
        encoder.zero_grad(set_to_none=True)
        embedded().backward()

    def cut() -> None:
        method.views(batch, Stream(0, 1, range(BATCH)))

    runs: dict[str, Callable[[], None]] = {"step": step, "bare": bare, "views": cut}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 2):
        for name, run in runs.items():
            took = timed(run, device)
            if number >= 2:  # the first two rounds warm up
                seconds[name].append(took)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    held = held_bytes(lambda: method(first, 0.5).total)
    return median["step"] / median["bare"], median["views"] / median["step"], held / 1e6, held / held_bytes(embedded)


def main() -> None:
    """Measure every method of the table that has a small preset and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", action="append", choices=sorted(METHODS))
    chosen = parser.parse_args()
    presets = {preset.name for preset in list_presets("pretrain")}
    print(f"torch {torch.__version__}, {chosen.device}, {torch.get_num_threads()} threads, batches of {BATCH}\n")
    print("| method | step / bare encoder, same images | share spent on views | memory, MB | memory / bare encoder |")
    print("|---|--:|--:|--:|--:|")
    for name in chosen.only or METHODS:
        if f"{name}_small" not in presets:
            print(f"| {name} | no preset {name}_small | | | |")
            continue
        ratio, views, held, memory = measure(f"{name}_small", chosen.device, chosen.rounds)
        print(f"| {name} | {ratio:.2f} | {views:.0%} | {held:.0f} | {memory:.2f} |", flush=True)


if __name__ == "__main__":
    main()
