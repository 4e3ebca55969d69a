"""Several methods trained at once: one window, one encoder, a weighted sum of their losses.

Contrast is reported to help classification and masked reconstruction segmentation (Wald et al., "An OpenMind for 3D
medical vision self-supervised learning", ICCV 2025, arXiv:2412.17041); joined they train for both. Every step pays for
every part: each cuts its own views of the window and runs the encoder on them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from medssl.encoders.contract import Encoder
from medssl.methods.contract import Losses, Method
from medssl.methods.fitting import Room
from medssl.methods.settings.joined import JoinedPart, JoinedSettings
from medssl.methods.table import METHODS, build_method
from medssl.randomness import Stream
from medssl.windows import WindowBatch, WindowPlan

__all__ = ["Joined", "JoinedPart", "JoinedSettings", "JoinedViews", "Parts"]

_T = TypeVar("_T")


@dataclass(frozen=True)
class JoinedViews:
    """The views of every part, by the part's name."""

    parts: dict[str, Any]


class Parts(Method):
    """Methods around one encoder, each with a weight.

    Where two parts name something alike (a signal, a picture, what is kept) the first keeps the name and the later one
    gets its part's name in front, as in ``masked_spread``.

    Args:
        parts: Methods by name, all built around ``encoder``.
        weights: The weight of each part's loss.
        encoder: What is pretrained.

    Raises:
        ValueError: If the parts want different windows, or one freezes the encoder.
    """

    items_per_step = (4, 2)

    def __init__(self, parts: Mapping[str, Method], weights: Mapping[str, float], encoder: Encoder) -> None:
        super().__init__()
        plans = {name: part.plan for name, part in parts.items()}
        first = next((name for name, plan in plans.items() if not _single(plan)), next(iter(plans)))
        leading = plans[first]
        for name, plan in plans.items():
            if _single(plan):  # any windows serve it, also those that belong together for another part
                plan = dataclasses.replace(leading, size=plan.size, labels=plan.labels)
            if dataclasses.replace(plan, placement=leading.placement) != leading:
                raise ValueError(f"All parts must want the same windows. Got {first}: {leading} and {name}: {plan}.")
        self._plan: WindowPlan = leading
        if not any(parameter.requires_grad for parameter in encoder.parameters()):
            raise ValueError(
                "A part freezes the encoder, and the others would train nothing. Run that part by itself afterwards, "
                "with --init-from."
            )
        self.pairs_channels = any(part.pairs_channels for part in parts.values())  # the others see every channel
        self.pools = any(part.pools for part in parts.values())
        self.encoder = encoder
        self.parts = nn.ModuleDict(dict(parts))
        self.weights = dict(weights)
        self.coupled = "; ".join(f"{name}: {part.coupled}" for name, part in parts.items() if part.coupled)
        self.alone = "; ".join(f"{name}: {part.alone}" for name, part in parts.items() if part.alone)
        for name, plan in plans.items():
            if _single(plan):  # its rows come as the leading part's windows of each scan do
                parts[name].rows_per_item = leading.count

    @property
    def plan(self) -> WindowPlan:
        """The windows of the parts, as the first part wants them that asks for several of a scan, else as the first."""
        return self._plan

    def begin(self, items: int) -> None:
        """Let every part make what each item has."""
        for part in self._methods().values():
            part.begin(items)

    def check(self) -> None:
        """Look at every part."""
        for part in self._methods().values():
            part.check()

    def exported_modules(self) -> dict[str, nn.Module]:
        """Keep what the parts keep: the encoder, and a decoder where one reconstructs."""
        return {"encoder": self.encoder} | _by_name(
            {name: part.exported_modules() for name, part in self._methods().items()}
        )

    def views(self, batch: WindowBatch, stream: Stream) -> JoinedViews:
        """Cut every part's views, in the order of the parts."""
        return JoinedViews({name: part.views(batch, stream) for name, part in self._methods().items()})

    def forward(self, views: JoinedViews, progress: float) -> Losses:
        """Return the weighted sum of the parts' losses; the parts' own parts are shown without their weights."""
        losses: dict[str, Losses] = {name: part(views.parts[name], progress) for name, part in self.parts.items()}
        total = torch.stack([self.weights[name] * loss.total for name, loss in losses.items()]).sum()
        terms = {
            f"{name}/{term}": self.weights[name] * value
            for name, loss in losses.items()
            for term, value in (loss.terms or {"total": loss.total}).items()
        }
        return Losses(
            total,
            _by_name({name: loss.parts for name, loss in losses.items()}),
            _by_name({name: loss.signals for name, loss in losses.items()}),
            terms,
        )

    def counted(self, views: JoinedViews) -> dict[str, Tensor]:
        """Return what the parts' terms count over."""
        found = {name: part.counted(views.parts[name]) for name, part in self._methods().items()}
        return {f"{name}/{term}": count for name, counts in found.items() for term, count in counts.items()}

    def after_step(self, progress: float) -> None:
        """Let every part move its teacher, queue or centre."""
        for part in self._methods().values():
            part.after_step(progress)

    def pictures(self, views: JoinedViews) -> dict[str, Tensor]:
        """Return the pictures of all parts."""
        return _by_name({name: part.pictures(views.parts[name]) for name, part in self._methods().items()})

    def probe(self, views: JoinedViews) -> dict[str, Tensor]:
        """Return the measurements of all parts."""
        return _by_name({name: part.probe(views.parts[name]) for name, part in self._methods().items()})

    def chance(self, views: JoinedViews) -> dict[str, Tensor]:
        """Return what guessing is worth in all parts, by the names that ``probe`` gives their signals."""
        return _by_name({name: part.chance(views.parts[name]) for name, part in self._methods().items()})

    def _methods(self) -> dict[str, Method]:
        return {name: part for name, part in self.parts.items() if isinstance(part, Method)}


class Joined(Parts):
    """Any methods of the table, joined.

    Args:
        settings: See ``JoinedSettings``; all parts must want windows of the same size.
        encoder: What is pretrained.

    Raises:
        ValueError: If the windows differ, or a part freezes the encoder.
    """

    coupled = "what is among the items of a batch in one of its methods"

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """Position contrast beside masked reconstruction."""
        voco, spark = ({"name": name, **METHODS.load(name).smallest()} for name in ("voco", "spark"))
        return {"parts": {"place": {"method": voco}, "drawn": {"weight": 10.0, "method": spark}}}

    @classmethod
    def fit(cls, room: Room) -> dict[str, Any]:
        """Fit the parts of the presets: contrast of crops, and masked reconstruction."""
        parts = {"contrast": "simclr", "masked": "masked"}
        return {"parts": {part: {"method": METHODS.load(name).fit(room)} for part, name in parts.items()}}

    def __init__(self, settings: JoinedSettings, encoder: Encoder) -> None:
        super().__init__(
            {name: build_method(part.method, encoder, alone=False) for name, part in settings.parts.items()},
            {name: part.weight for name, part in settings.parts.items()},
            encoder,
        )
        self.settings = settings


def _single(plan: WindowPlan) -> bool:
    """Return whether a plan asks for one window of a scan, by itself."""
    return plan.count == 1 and plan.relation == "independent"


def _by_name(found: dict[str, dict[str, _T]]) -> dict[str, _T]:
    """Return everything that the parts name; a name that is taken already gets its part's name in front."""
    merged: dict[str, _T] = {}
    for part, named in found.items():
        for name, value in named.items():
            if merged.get(name) is value:
                continue
            merged[f"{part}_{name}" if name in merged else name] = value
    return merged
