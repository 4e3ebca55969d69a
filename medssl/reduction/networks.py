"""Vectors of pictures by a 2D network, for strategies that compare embeddings; nothing is downloaded.

``timm:NAME`` is a network of timm with random weights, drawn from one seed; ``timm:NAME:FILE`` has the weights of a
local safetensors file. A random network is a legitimate and weak fingerprint; weights from one's own field are better.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import ConfigError

__all__ = ["check_network", "embed_pictures"]

_EDGE = 224
_BATCH = 32
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, with which timm's weights are trained


def check_network(name: str) -> None:
    """Raise where a network cannot be made.

    Args:
        name: ``timm:NAME`` or ``timm:NAME:FILE``.

    Raises:
        ConfigError: It names no network of timm, or no readable weights.
    """
    _network(name)


def embed_pictures(pictures: npt.NDArray[np.uint8], name: str) -> npt.NDArray[np.float32]:
    """Return the pooled features of each picture, float32 (n, d).

    Args:
        pictures: uint8 (n, y, x); each is enlarged to 224 x 224 and given to all three channels.
        name: ``timm:NAME`` or ``timm:NAME:FILE``.

    Raises:
        ConfigError: It names no network of timm, or no readable weights.
    """
    import torch

    network = _network(name)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (_MEAN, _STD))
    result = []
    with torch.inference_mode():
        for start in range(0, len(pictures), _BATCH):
            grey = torch.from_numpy(np.ascontiguousarray(pictures[start : start + _BATCH])).float().div(255)
            large = torch.nn.functional.interpolate(grey[:, None], (_EDGE, _EDGE), mode="bilinear", antialias=False)
            result.append(network((large.expand(-1, 3, -1, -1) - mean) / std).float().numpy())
    return np.concatenate(result).astype(np.float32) if result else np.zeros((0, 1), np.float32)


@functools.lru_cache(maxsize=1)
def _network(name: str) -> Any:
    import timm
    import torch

    kind, _, rest = name.partition(":")
    model, _, weights = rest.partition(":")
    if kind != "timm" or not model:
        raise ConfigError(f"network: found '{name}'; allowed is timm:NAME or timm:NAME:WEIGHTS.safetensors.")
    if not timm.is_model(model):
        from medssl.errors import did_you_mean

        raise ConfigError(f"network: timm has no '{model}'. {did_you_mean(model, timm.list_models())}")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model(model, pretrained=False, num_classes=0)
    if weights:
        _load(network, Path(weights))
    return network.eval()


def _load(network: Any, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path}: weights are a safetensors file ({str(error).splitlines()[0]}).") from error
    missing, _ = network.load_state_dict(state, strict=False)
    if missing:
        raise ConfigError(
            f"{path}: these weights are of another network: {len(missing)} tensors are missing, such as {missing[0]}."
        )
