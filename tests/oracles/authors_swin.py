"""MONAI's Swin UNETR with numbers that a formula gives, and what its encoder makes of them.

Run with a MONAI before 1.5 on the path, it writes the features that ``monai_1_4_swin.json`` keeps:

    pip install --no-deps --target old monai==1.4.0
    PYTHONPATH=old:. python tests/oracles/authors_swin.py tests/oracles/monai_1_4_swin.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import nn

SIZES = {"feature_size": 24, "depths": (1, 1, 1, 1), "num_heads": (3, 6, 12, 24)}
SHAPE = (32, 64, 96)  # (x, y, z)
_KEPT = 24


def filled(network: nn.Module) -> nn.Module:
    """Set every number by a formula of its place, so that any version of any library has the same."""
    with torch.no_grad():
        for number, (_, tensor) in enumerate(sorted(network.state_dict().items())):
            if not tensor.is_floating_point():
                continue
            wave = torch.sin(torch.arange(tensor.numel(), dtype=torch.float64) * 0.731 + number).view(tensor.shape)
            if tensor.dim() == 1:
                wave = 0.2 * wave + (1.0 if "norm" in _ and _.endswith("weight") else 0.0)
            else:
                wave = wave * (2.0 / tensor[0].numel()) ** 0.5
            tensor.copy_(wave)
    return network.eval()


def images(shape: tuple[int, int, int] = SHAPE, channels: int = 1) -> torch.Tensor:
    """Return images (1, channels, x, y, z) by a formula."""
    count = channels * shape[0] * shape[1] * shape[2]
    places = torch.arange(count, dtype=torch.float64)
    return (torch.sin(places * 0.0137) + torch.sin(places * places * 1e-6)).view(1, channels, *shape).float()


def features(network: nn.Module, seen: torch.Tensor) -> list[torch.Tensor]:
    """Return the six levels that Swin UNETR's decoder takes, finest first."""
    with torch.no_grad():
        hidden = network.swinViT(seen, True)
        return [
            network.encoder1(seen),
            network.encoder2(hidden[0]),
            network.encoder3(hidden[1]),
            network.encoder4(hidden[2]),
            hidden[3],
            network.encoder10(hidden[4]),
        ]


def sampled(level: torch.Tensor) -> list[float]:
    """Return some of a level's numbers, spread over it."""
    flat = level.flatten()
    places = torch.linspace(0, flat.numel() - 1, _KEPT).long()
    return [round(float(value), 6) for value in flat[places]]


def swin_unetr(*, use_v2: bool, out_channels: int = 2) -> nn.Module:
    """Return MONAI's network with the formula's numbers."""
    import inspect

    from monai.networks.nets import SwinUNETR

    old = {"img_size": SHAPE} if "img_size" in inspect.signature(SwinUNETR.__init__).parameters else {}
    return filled(SwinUNETR(in_channels=1, out_channels=out_channels, use_v2=use_v2, **SIZES, **old))


def main(path: str) -> None:
    import monai

    kept = {"monai": monai.__version__, "shape_xyz": SHAPE}
    for use_v2 in (False, True):
        levels = features(swin_unetr(use_v2=use_v2), images())
        rows = [{"norm": float(level.norm()), "sampled": sampled(level)} for level in levels]
        kept["v2" if use_v2 else "v1"] = rows
    Path(path).write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
