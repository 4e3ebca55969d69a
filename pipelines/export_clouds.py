"""The part of ``medssl export`` for runs on clouds: their weights and card, for ``medssl.load``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from medssl.engine.card import Card, save_encoder
from medssl.evaluation.calibration import DECISION, decision_words, read_decision
from medssl.exporting.exportable import write_json, write_text
from pipelines.export_targets import check_export
from pipelines.load import load
from pointcloud.embedding import load_cloud_encoder

__all__ = ["export_clouds"]

_ABOUT = """# {name}

Points (B, N, 3) about each cloud's mean, in its unit sphere, and `count` (B,), how many rows of each are points;
`card.json` says the rest.

```python
{loader}
```
"""


def export_clouds(run: Path, card: Card, to: str, out: Path, *, encoder_only: bool) -> tuple[Path, ...]:
    """Write a run on clouds as safetensors.

    Args:
        run: The run.
        card: Its card.
        to: What was asked for.
        out: The folder to write.
        encoder_only: Whether the encoder of a fine-tuned network goes alone.

    Raises:
        ConfigError: A form was asked for that networks on clouds do not have.
        CheckpointError: The weights do not fit the card.
    """
    check_export(to, what=str(run), clouds=True)
    encoder = load_cloud_encoder(run)
    out.mkdir(parents=True, exist_ok=True)
    if "network.safetensors" in card.weights and not encoder_only:
        others, loader = {"network": load(run)}, "import medssl\n\nnetwork = medssl.load(FOLDER)"
    else:
        others = {}
        loader = "from pointcloud.embedding import load_cloud_encoder\n\nencoder = load_cloud_encoder(FOLDER)"
    written = [*save_encoder(encoder, card, out, others=others)]
    about = _ABOUT.format(name=run.resolve().name, loader=loader)
    if others and card.method.get("name") == "classification":
        classes = list(card.method["classes"].values())
        decision = read_decision(run, classes)
        written.append(write_json(out / DECISION, asdict(decision)))
        about += f"\n{decision_words(decision, classes)}\n"
    return (*written, write_text(out / "README.md", about))
