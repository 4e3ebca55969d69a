"""From names in a published file to names here: each tensor falls under one rule, and a report says its fate."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from medssl.errors import DataError

__all__ = ["Fate", "ImportReport", "ImportRow", "Renamed", "Rule", "fill", "rename"]

Fate = Literal["matched", "permuted", "folded", "dropped", "fresh"]
_WORDS: dict[Fate, str] = {
    "matched": "carried over",
    "permuted": "carried over, axes or rows permuted",
    "folded": "folded into others, exactly",
    "dropped": "left out",
    "fresh": "not in the file; drawn anew",
}
_SHOWN = 10


@dataclass(frozen=True)
class Rule:
    """What becomes of the tensors whose whole name a pattern matches. The first rule that does is taken.

    Attributes:
        pattern: Regular expression.
        to: The name here, with the pattern's groups; "" leaves the tensor out.
        part: What it is of: stem, blocks, skips, decoder, heads, beside.
        why: Why it is left out, or what is done to it.
        change: What is done to its numbers, and to those of ``takes``; None leaves them.
        fate: Of one that is changed: "permuted" or "folded"; "folded" of one that is left out, too.
        takes: Names of more tensors that the change takes, with the pattern's groups.
        also: More names here, each with what is made for it of the same tensor.
        twin: Of one that is left out as another's second name: that name, with the pattern's groups. Both must be
            equal.
    """

    pattern: str
    to: str
    part: str
    why: str = ""
    change: Callable[..., Tensor] | None = None
    fate: Fate = "permuted"
    twin: str = ""
    takes: tuple[str, ...] = ()
    also: tuple[tuple[str, Callable[[Tensor], Tensor]], ...] = ()


@dataclass(frozen=True)
class ImportRow:
    """One tensor: its name there and here ("" where it has none), its part, its fate, why, its shape and numbers."""

    there: str
    here: str
    part: str
    fate: Fate
    why: str = ""
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Renamed:
    """Tensors under their names here, and a row for each that the file holds."""

    state: dict[str, Tensor]
    rows: tuple[ImportRow, ...]


@dataclass(frozen=True)
class ImportReport:
    """What became of every tensor of a file, and of every tensor of the network.

    Attributes:
        rows: One a tensor.
        shares: Of each part of the network, the share of its numbers that came from the file, in [0, 1].
        beside: Tensors elsewhere in the file (an optimiser's), by their place.
    """

    rows: tuple[ImportRow, ...]
    shares: Mapping[str, float] = field(default_factory=dict)
    beside: Mapping[str, int] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Return the report as text: a line a part and fate, with why."""
        said = [f"{part}: {100 * share:.1f} % of its numbers from the file" for part, share in self.shares.items()]
        counts = Counter((row.part, row.fate, row.why) for row in self.rows)
        for (part, fate, why), count in counts.items():
            of = "beside these" if part == "beside" else f"of {part}"
            said.append(f"  {count:4d} tensors {of} {_WORDS[fate]}{f' ({why})' if why else ''}")
        return said + [f"  {count:4d} tensors in '{place}', of no network" for place, count in self.beside.items()]

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        rows = [{key: value for key, value in vars(row).items() if value != ""} for row in self.rows]
        return {"shares": dict(self.shares), "beside": dict(self.beside), "tensors": rows}


def rename(state: Mapping[str, Tensor], rules: Sequence[Rule], *, source: str) -> Renamed:
    """Return the tensors that have a place here under their names here, as float32 where they are floating.

    Args:
        state: Tensors by name.
        rules: What becomes of them.
        source: The file, for messages.

    Raises:
        DataError: A tensor falls under no rule, two come to one name, twins differ, or a number is not finite.
    """
    compiled = [(re.compile(rule.pattern), rule) for rule in rules]
    found: dict[str, Tensor] = {}
    rows: list[ImportRow] = []
    left: list[str] = []
    for name, tensor in state.items():
        match, rule = next(((m, rule) for pattern, rule in compiled if (m := pattern.fullmatch(name))), (None, None))
        if match is None or rule is None:
            left.append(name)
            continue
        shape = tuple(tensor.shape)
        if not rule.to:
            if rule.twin:
                _check_twin(state, name, match.expand(rule.twin), source)
            left_out: Fate = "folded" if rule.fate == "folded" else "dropped"
            rows.append(ImportRow(name, "", rule.part, left_out, rule.why, shape))
            continue
        here = match.expand(rule.to)
        made = {here: _changed(tensor, rule, [match.expand(other) for other in rule.takes], state, source)}
        made |= {match.expand(to): change(tensor) for to, change in rule.also}
        for own, value in made.items():
            if own in found:
                raise DataError(f"{source}: '{name}' comes to the name '{own}', which another tensor has already.")
            found[own] = _finite(value, name, source)
        fate: Fate = "matched" if rule.change is None else rule.fate
        rows.append(ImportRow(name, here, rule.part, fate, rule.why, shape))
    if left:
        shown = ", ".join(left[:_SHOWN]) + (f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else "")
        raise DataError(f"{source}: {len(left)} tensors have no place in this kind of weights: {shown}.")
    return Renamed(found, tuple(rows))


def fill(
    module: nn.Module,
    renamed: Renamed,
    *,
    part_of: Callable[[str], str],
    may_be_fresh: Sequence[str] = (),
    source: str,
) -> ImportReport:
    """Load renamed tensors into a module; what it lacks stays as it was drawn, of parts where that is allowed.

    Args:
        module: What they are loaded into; changed only if all fits.
        renamed: The tensors.
        part_of: The part of a name of the module.
        may_be_fresh: Parts that a file of this kind need not hold.
        source: The file, for messages.

    Raises:
        DataError: A shape differs, a tensor has no place, or one is lacking that must be there.
    """
    state = module.state_dict()
    wrong = [
        f"{name} {tuple(renamed.state[name].shape)} there and {tuple(here.shape)} here"
        for name, here in state.items()
        if name in renamed.state and renamed.state[name].shape != here.shape
    ]
    wrong += [
        f"{name} is {renamed.state[name].dtype} there and {here.dtype} here".replace("torch.", "")
        for name, here in state.items()
        if name in renamed.state and here.is_floating_point() and not renamed.state[name].is_floating_point()
    ]
    wrong += [f"{name} has no place here" for name in renamed.state if name not in state]
    fresh = [name for name in state if name not in renamed.state]
    begun = {part_of(name) for name in renamed.state}  # a part that may be lacking lacks as a whole
    wrong += [f"{name} is lacking" for name in fresh if part_of(name) not in may_be_fresh or part_of(name) in begun]
    if wrong:
        shown = "; ".join(wrong[:_SHOWN]) + (f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else "")
        raise DataError(f"{source}: {len(wrong)} tensors do not fit the network that the file is of: {shown}.")
    with torch.no_grad():
        for name, tensor in renamed.state.items():
            state[name].copy_(tensor)  # the state shares memory with the module
    total: Counter[str] = Counter()
    held: Counter[str] = Counter()
    for name, tensor in state.items():
        total[part_of(name)] += tensor.numel()
        held[part_of(name)] += tensor.numel() if name in renamed.state else 0
    rows = [ImportRow("", name, part_of(name), "fresh", "", tuple(state[name].shape)) for name in fresh]
    return ImportReport((*renamed.rows, *rows), {part: held[part] / total[part] for part in total if total[part]})


def _changed(tensor: Tensor, rule: Rule, others: Sequence[str], state: Mapping[str, Tensor], source: str) -> Tensor:
    lacking = [name for name in others if name not in state]
    if lacking:
        raise DataError(f"{source}: {lacking[0]} is missing.")
    return tensor if rule.change is None else rule.change(tensor, *(state[name] for name in others))


def _check_twin(state: Mapping[str, Tensor], name: str, first: str, source: str) -> None:
    if first not in state:
        raise DataError(f"{source}: '{name}' is the second name of '{first}', which is not there.")
    if not torch.equal(state[name], state[first]):
        raise DataError(f"{source}: '{name}' and '{first}' are two names of one tensor, and their numbers differ.")


def _finite(tensor: Tensor, name: str, source: str) -> Tensor:
    if tensor.is_floating_point():
        tensor = tensor.float()
        if not torch.isfinite(tensor).all():
            raise DataError(f"{source}: '{name}' holds numbers that are not finite.")
    return tensor
