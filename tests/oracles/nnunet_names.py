"""nnU-Net's names of an encoder's parameters, back to ours: the inverse of what the export does, written apart."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

_BACK = {
    "residual": (
        (r"stem\.convs\.0\.(conv|norm)", r"stem.\1"),
        (r"stages\.(\d+)\.blocks\.(\d+)\.(conv1|conv2|skip\.\d+)\.(conv|norm)", r"stages.\1.\2.\3.\4"),
    ),
    "unet": ((r"stages\.(\d+)\.0\.convs\.(\d+)\.(conv|norm)", r"stages.\1.\2.\3"),),
}


def encoder_from_nnunet(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return the parameters of an nnU-Net encoder under this project's names, ready for ``load_state_dict``.

    Args:
        state: State dict of nnU-Net's encoder, or of the whole network (then ``encoder.`` is looked for); a
            ``network_weights`` entry of a checkpoint.
        name: "residual" or "unet".

    Raises:
        KeyError: A parameter has no counterpart.
    """
    whole = any(key.startswith("encoder.") for key in state)
    restored: dict[str, Tensor] = {}
    for key, value in state.items():
        if whole and not key.startswith("encoder."):
            continue
        path, _, leaf = key.removeprefix("encoder.").rpartition(".")
        if ".all_modules." in f".{path}." or (leaf == "bias" and path.endswith(".conv")):
            continue  # the second name of a parameter, and the bias that the norm removes
        restored[f"{_rename(path, _BACK[name])}.{leaf}"] = value
    return restored


def _rename(path: str, rules: Sequence[tuple[str, str]]) -> str:
    for pattern, replacement in rules:
        if re.fullmatch(pattern, path):
            return re.sub(pattern, replacement, path)
    raise KeyError(path)
