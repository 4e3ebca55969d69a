"""To ONNX, checked against torch on the machine that exports."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medssl.encoders.staged import StagedEncoder
from medssl.errors import DataError
from medssl.exporting.classifying import CalibratedClassifier
from medssl.exporting.exportable import Exportable, Triple, example_input, write_json, write_text
from medssl.exporting.standing_alone import standing_alone
from medssl.extras import EXTRAS, library
from medssl.writing import atomic_write

__all__ = ["OPSET", "STANDING_ALONE", "OnnxReport", "Outputs", "export_onnx", "run_onnx"]

OPSET = 20
STANDING_ALONE = ("medssl_input.py", "run_onnx.py")


@dataclass(frozen=True)
class OnnxReport:
    """What was written, and how far it is from torch.

    Attributes:
        path: The ``.onnx`` file.
        opset: Version of the operator set.
        inputs: Name and shape of each input; a name stands for an axis of any length.
        outputs: Names of the outputs.
        max_difference: Greatest absolute difference of any output from torch's.
        max_output: Greatest absolute value of any output of torch, to judge the difference by.
        shapes_checked: Input shapes that were compared.
    """

    path: Path
    opset: int
    inputs: dict[str, list[int | str]]
    outputs: list[str]
    max_difference: float
    max_output: float
    shapes_checked: list[list[int]]


class Outputs(nn.Module):
    """A network with named outputs: of a segmenter logits, of a classifier probabilities too, levels of an encoder."""

    def __init__(self, model: Exportable) -> None:
        super().__init__()
        self.network = CalibratedClassifier(model) if model.is_classifier else model.network
        self.encoder = model.encoder if model.kind == "encoder" else None
        levels = [] if self.encoder is None else [f"level_{i}" for i in range(len(self.encoder.channels))]
        self.names = [*levels, "embedding"] if levels else ["logits"]
        self.names += ["probability"] if model.is_classifier else []

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs in the order of ``names``."""
        if self.encoder is None:
            found = self.network(images)
            return found if isinstance(found, tuple) else (found,)
        pyramid, embedding = self.encoder(images, pooled=True)
        return (*pyramid, embedding)


def export_onnx(
    model: Exportable, path: Path, *, dynamic_size: bool = False, tolerance: float = 1e-3, opset: int = OPSET
) -> OnnxReport:
    """Write the network as ``path`` (ONNX) and what its input must be as ``path`` with ``.json``; compare with torch.

    A segmenter's output is ``logits`` (B, classes, z, y, x); an encoder's are ``level_0`` ... and ``embedding``; a
    classifier's ``logits`` (B, classes) and ``probability``, calibrated by the temperature that its run chose; its
    threshold stands in the JSON. The batch may have any length.

    Args:
        model: The network.
        path: Where the ``.onnx`` file goes.
        dynamic_size: Whether z, y and x may be any multiple of the encoder's ``size_multiple``, instead of the window.
        tolerance: Greatest difference from torch that is let pass, relative to the greatest output.
        opset: Version of the operator set.

    Raises:
        DataError: The export differs from torch by more than ``tolerance``, or torch cannot express the network.
        MissingDependencyError: A library of the extra ``onnx`` is missing.
    """
    for name in EXTRAS["onnx"]:
        library(name, purpose="to export ONNX")
    if dynamic_size and not isinstance(model.encoder, StagedEncoder):
        raise DataError(
            f"'{model.name}' has an encoder with attention windows or positions, which bind it to one size: ONNX with "
            f"'dynamic_size' is for convolutional encoders. Export the window {model.window}, and slide it."
        )
    training = model.network.training
    wrapped = Outputs(model).eval()
    device = next(model.network.parameters()).device
    model.network.eval().to("cpu")
    try:
        program = _program(wrapped, model, dynamic_size=dynamic_size, opset=opset)
        shapes = [model.window, _larger(model)] if dynamic_size else [model.window]
        with atomic_write(path) as aside:
            program.model.metadata_props["medssl"] = json.dumps(model.description())
            program.save(str(aside), external_data=False)
            difference, greatest, checked = _compare(wrapped, aside, model, shapes)
            if not difference <= tolerance * max(greatest, 1.0):
                raise DataError(
                    f"The ONNX export of '{model.name}' differs from torch by {difference:.2g} (greatest output "
                    f"{greatest:.2g}; allowed {tolerance:g} of it), so it was not kept. "
                    "Raise 'tolerance' if that will do."
                )
    finally:
        model.network.to(device).train(training)
    axes: list[int | str] = ["batch", model.encoder.in_channels, *(("z", "y", "x") if dynamic_size else model.window)]
    report = OnnxReport(path, opset, {"images": axes}, wrapped.names, difference, greatest, checked)
    about = {
        **model.description(),
        "onnx": {
            "opset": opset,
            "inputs": report.inputs,
            "outputs": report.outputs,
            "max_difference_from_torch": difference,
            "max_output": greatest,
            "shapes_checked": checked,
        },
    }
    write_json(path.with_suffix(".json"), about)
    beside = [path.parent / name for name in STANDING_ALONE]
    for one in beside:
        write_text(one, standing_alone(one.name))
    return report


def run_onnx(path: Path, images: Tensor) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
    """Return the outputs of an exported network for ``images`` (B, C, z, y, x), computed by onnxruntime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    outputs: list[np.ndarray[Any, np.dtype[np.float32]]] = session.run(None, {"images": images.numpy()})
    return outputs


def _program(wrapped: Outputs, model: Exportable, *, dynamic_size: bool, opset: int) -> Any:
    """Return torch's ONNX program of the network."""
    dynamic: dict[int, Any] = {0: torch.export.Dim("batch", min=1)}
    if dynamic_size:
        for axis, (name, multiple) in enumerate(zip("zyx", model.encoder.size_multiple, strict=True), start=2):
            dynamic[axis] = multiple * torch.export.Dim(f"{name}_steps", min=2, max=4096)
    images = example_input(model)
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)  # it warns of operators of packages that this network does not use
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            exported = torch.export.export(wrapped, (images,), dynamic_shapes=({**dynamic},), strict=False)
            return torch.onnx.export(
                exported,
                input_names=["images"],
                output_names=wrapped.names,
                opset_version=opset,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # the exporter's own errors have no common root below Exception
        hint = " Try again without 'dynamic_size'." if dynamic_size else ""
        raise DataError(
            f"torch cannot express '{model.name}' in ONNX (opset {opset}): {str(error).strip().splitlines()[0]}.{hint}"
        ) from error
    finally:
        exporter.setLevel(level)


def _larger(model: Exportable) -> Triple:
    """Return a size that is not the window's and not cubic, to show that sizes are free."""
    z, y, x = model.window
    step_z, _, step_x = model.encoder.size_multiple
    return z + step_z, y, x + 2 * step_x


def _compare(
    wrapped: nn.Module, path: Path, model: Exportable, sizes: Sequence[Triple]
) -> tuple[float, float, list[list[int]]]:
    """Return (greatest difference, greatest output, shapes) over each size, with one and with three images."""
    difference = greatest = 0.0
    checked = []
    for size in sizes:
        for batch in (1, 3):
            images = example_input(model, batch=batch, size=size, seed=batch)
            checked.append(list(images.shape))
            with torch.no_grad():
                expected = wrapped(images)
            for ours, theirs in zip(expected, run_onnx(path, images), strict=True):
                if tuple(ours.shape) != theirs.shape:
                    raise DataError(
                        f"The ONNX export of '{model.name}' gives shape {theirs.shape} for images {checked[-1]}; "
                        f"torch gives {tuple(ours.shape)}. Export without 'dynamic_size'."
                    )
                difference = max(difference, float(np.abs(ours.numpy() - theirs).max()))
                greatest = max(greatest, float(ours.abs().max()))
    return difference, greatest, checked
