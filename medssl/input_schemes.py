"""The schemes by which stored values become a network's input, by name, for settings; `medssl.normalising` has them."""

from __future__ import annotations

from typing import Literal, get_args

__all__ = ["FOLLOW", "SCHEMES", "Normalise", "Scheme"]

Scheme = Literal["unit", "zscore", "dataset", "nnunet", "nonzero"]
Normalise = Literal["follow", "unit", "zscore", "dataset", "nnunet", "nonzero"]  # what a run may be told
FOLLOW = (
    "How stored values become the network's input: 'unit' (the CT window, or percentiles of the body, become 0 and 1), "
    "'zscore' (of each scan), 'dataset' (z-score over the training scans), 'nnunet' (its CT scheme, z-scores "
    "elsewhere), 'nonzero' (the same with z-scores as nnU-Net takes them: over the box of all that is not 0); "
    "'follow' takes that of the run it starts from, else the store's."
)
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
