"""To TorchScript: one file that C++ loads with ``torch::jit::load``, traced at the network's window.

torch calls TorchScript deprecated in favour of ``torch.export``; what that writes cannot be read from C++ without
compiling it for one machine first, so that this form stays.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import torch

from medssl.errors import DataError
from medssl.exporting.exportable import Exportable, example_input, write_json
from medssl.exporting.onnx import Outputs
from medssl.writing import atomic_write

__all__ = ["export_torchscript"]

_TOLERANCE = 1e-4  # of the greatest output


def export_torchscript(model: Exportable, path: Path) -> tuple[list[Path], float]:
    """Write the network as ``path`` and what its input must be as ``path`` with ``.json``; compare with torch.

    It takes images (B, C, z, y, x) of the window, any number of them, and returns a tuple: what the ONNX form has, in
    the JSON's order of ``outputs``.

    Returns:
        The files, and the greatest difference from torch.

    Raises:
        DataError: What is loaded again differs from torch.
    """
    wrapped = Outputs(model).eval()
    device = next(model.network.parameters()).device
    model.network.eval().to("cpu")
    try:
        with warnings.catch_warnings(), torch.no_grad(), atomic_write(path) as aside:
            warnings.simplefilter(
                "ignore"
            )  # of its deprecation, and of sizes that the trace fixes: the window is fixed
            traced: Any = torch.jit.trace(wrapped, example_input(model), check_trace=False)  # type: ignore[no-untyped-call]
            held = io.BytesIO()
            torch.jit.save(traced, held)  # type: ignore[no-untyped-call]
            aside.write_bytes(held.getbuffer())  # torch's own writer ends the process where the disk is full
            loaded = torch.jit.load(str(aside))  # type: ignore[no-untyped-call]
            difference = greatest = 0.0
            for batch in (1, 3):
                images = example_input(model, batch=batch, seed=batch)
                for ours, theirs in zip(wrapped(images), loaded(images), strict=True):
                    difference = max(difference, float((ours - theirs).abs().max()))
                    greatest = max(greatest, float(ours.abs().max()))
            if not difference <= _TOLERANCE * max(greatest, 1.0):
                raise DataError(
                    f"The TorchScript form of '{model.name}' differs from torch by {difference:.2g} (greatest output "
                    f"{greatest:.2g}), so it was not kept. Export to ONNX instead."
                )
    finally:
        model.network.to(device)
    about = {**model.description(), "torchscript": {"outputs": wrapped.names, "max_difference_from_torch": difference}}
    return [path, write_json(path.with_suffix(".json"), about)], difference
