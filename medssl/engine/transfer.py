"""Carrying pretrained weights over, strictly: what matched, what did not, and an error when too little did."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from medssl.engine.channel_transfer import ChannelTransfer
from medssl.errors import TransferError

__all__ = ["TransferReport", "TransferRow", "carry_over"]

Status = Literal["matched", "adapted", "missing", "shape", "meaning", "unused"]
_MEANING: dict[Status, str] = {
    "matched": "carried over",
    "adapted": "carried over, input channels adapted",
    "missing": "not in the pretrained weights; stays as it was drawn",
    "shape": "of another shape in the pretrained weights; stays as it was drawn",
    "meaning": "of another meaning, for they end in what pretraining predicts; stays as it was drawn",
    "unused": "only in the pretrained weights",
}
_SHOWN = 20


@dataclass(frozen=True)
class TransferRow:
    """One tensor by name: its fate, its shape in the pretrained weights and in the network (None where absent)."""

    name: str
    status: Status
    pretrained: tuple[int, ...] | None
    network: tuple[int, ...] | None


@dataclass(frozen=True)
class TransferReport:
    """What became of every tensor.

    Attributes:
        part: What was filled: "encoder", "decoder", ...
        source: Where the weights came from, as the user named it.
        rows: One row a tensor, in the network's order, those only in the pretrained weights last.
        share: Share of the part's numbers (parameters and buffers) that were carried over, in [0, 1].
        channels: What was done where the input channels differ; "" where they do not.
    """

    part: str
    source: str
    rows: tuple[TransferRow, ...]
    share: float
    channels: str = ""

    def with_status(self, status: Status) -> tuple[TransferRow, ...]:
        """Return the rows of one fate."""
        return tuple(row for row in self.rows if row.status == status)

    def table(self) -> str:
        """Return the report as text: a line a fate with its count, and the names of all that did not simply match."""
        lines = [f"{self.part} from {self.source}: {100 * self.share:.1f} % of the weights carried over"]
        lines += [f"  {self.channels}"] if self.channels else []
        for status, meaning in _MEANING.items():
            rows = self.with_status(status)
            if not rows and status != "matched":
                continue
            lines.append(f"  {len(rows):4d} tensors {meaning}")
            if status != "matched":
                lines += [f"         {_row_text(row)}" for row in rows[:_SHOWN]]
                if len(rows) > _SHOWN:
                    lines.append(f"         ... and {len(rows) - _SHOWN} more; transfer.json has them all")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        return asdict(self)


def carry_over(
    pretrained: Mapping[str, Tensor],
    target: nn.Module,
    *,
    source: str,
    part: str = "encoder",
    minimum_share: float = 0.9,
    channels: ChannelTransfer | None = None,
    fresh: Collection[str] = (),
) -> TransferReport:
    """Copy every tensor of the same name and shape into ``target``, and adapt kernels over other channels.

    Args:
        pretrained: State of the pretrained part.
        target: The network's part; changed only if enough fits.
        source: Named in the report and in errors.
        part: What ``target`` is, likewise.
        minimum_share: Least share of the target's numbers that must be carried over, in [0, 1].
        channels: What becomes of kernels that see the image; None leaves alone those of another shape.
        fresh: Tensors that mean something else in the pretrained part, and stay as they were drawn even where they fit.

    Returns:
        What became of every tensor.

    Raises:
        TransferError: If less than ``minimum_share`` fits, or channels are in another order; nothing is then changed.
    """
    if channels is not None:
        channels.check(source)
    adapted = frozenset[str]() if channels is None else channels.kernels(target, pretrained)
    state = target.state_dict()
    rows: list[TransferRow] = []
    accepted: dict[str, Tensor] = {}
    for name, here in state.items():
        there = pretrained.get(name)
        fitted, status = _fit(there, here, channels if name in adapted else None)
        if fitted is not None and name in fresh:
            fitted, status = None, "meaning"
        if fitted is not None:
            accepted[name] = fitted
        rows.append(TransferRow(name, status, None if there is None else tuple(there.shape), tuple(here.shape)))
    rows += [TransferRow(n, "unused", tuple(t.shape), None) for n, t in pretrained.items() if n not in state]
    total = sum(tensor.numel() for tensor in state.values())
    share = sum(state[name].numel() for name in accepted) / total if total else 1.0
    report = TransferReport(
        part=part,
        source=source,
        rows=tuple(rows),
        share=share,
        channels=channels.line() if channels is not None and (part == "encoder" or adapted) else "",
    )
    if share < minimum_share:
        raise TransferError(
            f"{source}: only {100 * share:.1f} % of the {part}'s weights fit the network, and at least "
            f"{100 * minimum_share:g} % must. Build the network with the {part} settings that the pretrained run "
            "used (its card.json names them), lower 'transfer.minimum_share' if you mean it, or train with "
            f"--from-scratch.\n{report.table()}"
        )
    with torch.no_grad():
        for name, tensor in accepted.items():
            state[name].copy_(tensor)  # the state shares memory with the target
    return report


def _fit(there: Tensor | None, here: Tensor, channels: ChannelTransfer | None) -> tuple[Tensor | None, Status]:
    if there is None:
        return None, "missing"
    if channels is not None:
        adapted = channels.adapted(there, here)
        return adapted, "shape" if adapted is None else "adapted"
    return (there, "matched") if there.shape == here.shape else (None, "shape")


def _row_text(row: TransferRow) -> str:
    if row.pretrained is not None and row.network is not None and row.pretrained != row.network:
        return f"{row.name}: {row.pretrained} there, {row.network} here"
    return f"{row.name}: {row.pretrained or row.network}"
