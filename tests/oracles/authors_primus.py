"""dynamic_network_architectures' Primus with numbers that a formula gives, and what its encoder makes of them.

It needs a timm before 1.0.23. Run with both on the path it writes the features that ``dna_primus.json`` keeps:

    pip install --no-deps --target old dynamic-network-architectures==0.4.4 timm==1.0.22 einops
    PYTHONPATH=old:. python tests/oracles/authors_primus.py tests/oracles/dna_primus.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import nn

from tests.oracles.authors_swin import images, sampled

SIDE, PATCH, WIDTH, DEPTH = 3, 4, 144, 2  # two heads of 72
CUBE = (SIDE * PATCH,) * 3


def formula(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return tensors of the same names and shapes, each number by its place, far from where it was drawn."""
    made = {}
    for number, (name, tensor) in enumerate(sorted(state.items())):
        wave = torch.sin(torch.arange(tensor.numel(), dtype=torch.float64) * 0.731 + number).view(tensor.shape)
        if tensor.dim() == 1:
            wave = 0.3 * wave + (1.0 if "norm" in name and name.endswith("weight") else 0.0)
        elif tensor.dim() > 1 and not name.endswith("pos_embed"):
            wave = wave * (2.0 / tensor[0].numel()) ** 0.5
        made[name] = wave.float()
    return made


def primus() -> nn.Module:
    """Return the makers' network with the formula's numbers."""
    from dynamic_network_architectures.architectures.primus import Primus

    sizes = {"eva_depth": DEPTH, "eva_numheads": WIDTH // 72, "input_shape": CUBE}
    network = Primus(1, WIDTH, (PATCH,) * 3, 2, init_values=0.1, scale_attn_inner=True, **sizes)
    state = network.state_dict()
    network.load_state_dict({**state, **formula({k: v for k, v in state.items() if k != "mask_token"})})
    return network.eval()


def features(network: nn.Module, seen: torch.Tensor, *, swapped: bool) -> torch.Tensor:
    """Return the normed tokens as a map; ``swapped`` flattens them by (2nd, 1st, 3rd) axis, as EvaMAE does."""
    with torch.no_grad():
        grid = network.down_projection(seen)
        laid = grid.transpose(2, 3) if swapped else grid
        tokens, _ = network.eva(laid.flatten(2).transpose(1, 2))
        found = tokens.transpose(1, 2).unflatten(2, laid.shape[2:])
        return found.transpose(2, 3) if swapped else found


def main(path: str) -> None:
    import timm

    network = primus()
    shapes = {name: "x".join(map(str, tensor.shape)) for name, tensor in network.state_dict().items()}
    kept: dict[str, object] = {"timm": timm.__version__, "shapes": shapes}
    for order, swapped in (("straight", False), ("swapped", True)):
        level = features(network, images(CUBE), swapped=swapped)
        kept[order] = {"norm": float(level.norm()), "sampled": sampled(level)}
    Path(path).write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
