"""Networks on clouds for other programs: their weights and card, which ``medssl.load`` reads."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from medssl.domains.exports import Exported, Exports, Form
from medssl.engine.card import load_card, save_encoder
from medssl.evaluation.calibration import DECISION, decision_words, read_decision
from medssl.exporting.exportable import write_json, write_text
from pointcloud.embedding import load_cloud_encoder
from pointcloud.tasks.loading import load_cloud_task

__all__ = ["EXPORTS", "CloudExports"]

_ABOUT = """# {name}

Points (B, N, 3) about each cloud's mean, in its unit sphere, and `count` (B,), how many rows of each are points;
`card.json` says the rest.

```python
{loader}
```
"""


class CloudExports(Exports):
    """Networks on clouds, as weights and card."""

    def ready(self, run: Path, to: str, out: Path, settings: Any) -> Form:
        """Return a fine-tuned network, or an encoder."""
        return Form("a run on clouds", "", lambda: Exported(_written(run, out, encoder_only=settings.encoder_only)))


def _written(run: Path, out: Path, *, encoder_only: bool) -> tuple[Path, ...]:
    card, encoder = load_card(run), load_cloud_encoder(run)
    out.mkdir(parents=True, exist_ok=True)
    others: dict[str, nn.Module] = {}
    loader = "from pointcloud.embedding import load_cloud_encoder\n\nencoder = load_cloud_encoder(FOLDER)"
    if "network.safetensors" in card.weights and not encoder_only:
        others = {"network": load_cloud_task(run).network.eval()}
        loader = "import medssl\n\nnetwork = medssl.load(FOLDER)"
    written = [*save_encoder(encoder, card, out, others=others)]
    about = _ABOUT.format(name=run.resolve().name, loader=loader)
    if others and card.method.get("name") == "classification":
        classes = list(card.method["classes"].values())
        decision = read_decision(run, classes)
        written.append(write_json(out / DECISION, asdict(decision)))
        about += f"\n{decision_words(decision, classes)}\n"
    return (*written, write_text(out / "README.md", about))


EXPORTS = CloudExports()
