"""A folder as Hugging Face's hub shows models: weights, our card, and a README.md whose head its pages read.

Nothing is uploaded; ``hf upload NAME FOLDER`` does. ``medssl import FOLDER`` makes a run of it again.
"""

from __future__ import annotations

import json
from pathlib import Path

from medssl.engine.card import Card
from medssl.exporting.exportable import Exportable, write_json, write_text

__all__ = ["write_hub_files"]

_TASKS = {
    "segmenter": "image-segmentation",
    "classifier": "image-classification",
    "encoder": "image-feature-extraction",
}


def write_hub_files(model: Exportable, card: Card, folder: Path) -> list[Path]:
    """Write ``README.md`` and ``config.json`` beside weights and card.

    Args:
        model: What is exported.
        card: Its run's.
        folder: The folder, with ``card.json`` in it.

    Returns:
        The files.
    """
    description = model.description()
    config = write_json(folder / "config.json", {"model_type": "medssl", **description})
    return [write_text(folder / "README.md", _head(model, card) + _body(model, card)), config]


def _head(model: Exportable, card: Card) -> str:
    """Return the YAML that the hub reads; every text is quoted as JSON, which is YAML too."""
    licence = None if card.origin is None else card.origin.weights
    named = ["license: other", f"license_name: {json.dumps(licence)}"] if licence else []
    tags = ["medical-imaging", "3d", model.kind, *(channel.modality for channel in model.channels if channel.modality)]
    listed = [f"- {json.dumps(tag)}" for tag in dict.fromkeys(tags)]
    lines = ["library_name: medssl", f"pipeline_tag: {_TASKS[model.kind]}", *named, "tags:", *listed]
    return "\n".join(["---", *lines, "---", "", ""])


def _body(model: Exportable, card: Card) -> str:
    inputs = "\n".join(
        f"* `{json.dumps(channel.name)[1:-1]}` ({channel.modality or 'modality unknown'}): "
        f"{json.dumps(channel.described())}"
        for channel in model.channels
    )
    of = f"\nClasses: {json.dumps(list(model.classes), ensure_ascii=False)}.\n" if model.classes else ""
    if card.origin is None:
        licence = "The licence is yours to choose: put `license:` into the head of this file before you publish it."
    else:
        limits = f" ({', '.join(card.origin.limits)})" if card.origin.limits else ""
        made = f"{card.origin.title}, {card.origin.published}"
        licence = f"Made from published weights: {made}. {card.origin.licence_line}{limits}."
    cited = "\n".join(f"* {line}" for line in card.citation) or "* (none named)"
    method = card.method.get("name", "unknown")
    window = " x ".join(map(str, model.window))
    known = model.spacing_mm
    voxels = (
        "of a voxel size that nobody says" if known is None else " x ".join(f"{n:g}" for n in known) + " mm (z, y, x)"
    )
    return f"""# {json.dumps(model.name)[1:-1]}

A {model.kind} of medssl: encoder `{card.encoder.get("name", "")}`, method `{method}`, {card.steps} steps.

```
medssl import FOLDER --out runs/NAME
```

Input, {voxels}, windows of {window}:

{inputs}
{of}
## Licence

{licence}

## Please cite

{cited}
"""
