"""nnssl's (OpenMind's) networks, whatever method trained them: ResEnc-L and Primus, by their adaptation plans."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from medssl.encoders.settings.primus import PrimusSettings
from medssl.engine.card import CardInput
from medssl.errors import DataError
from medssl.weights.axes import turning_kernels
from medssl.weights.finding import Found, Wanted, found_in
from medssl.weights.nnunet import TOPS, ZSCORE, agreed, init_of, staged
from medssl.weights.plans import planned_network, turning
from medssl.weights.positions import cube_side, turning_rows
from medssl.weights.renaming import Rule
from medssl.weights.staged_names import from_shapes

__all__ = ["openmind_primus", "openmind_resenc"]

Triple = tuple[int, int, int]
_HEADS = Rule(
    r"(projector|predictor|\w*proj_head|rotation_head|contrastive_head)\..+", "", "heads", "a head of its method"
)


@dataclass(frozen=True)
class _Seen:
    """What a plan says of a network's input and training."""

    axes: Triple
    spacing_mm: tuple[float, float, float] | None
    window: Triple | None
    inputs: tuple[CardInput, ...]
    trainer: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    guesses: tuple[str, ...] = (ZSCORE, "scans lay as their files had them there, and are turned to RAS here")

    @property
    def by(self) -> str:
        """Which trainer it was, for a line of evidence."""
        return f", trained by {self.trainer}" if self.trainer else ""


def openmind_resenc(found: Found) -> Wanted | None:
    """Take a ResEnc-L of nnssl, whatever method trained it: its adaptation plan is in the file or beside it."""
    plan = _plan_of(found)
    if plan is None:
        return None
    said = dict(plan.get("architecture_plans") or {})
    kind = str(said.get("arch_class_name", ""))
    if kind.startswith("Primus"):
        return None
    if kind == "NoSkipResEncL":
        raise DataError(
            f"{found.shown}: is a {kind} of nnssl, whose decoder has no skips. Nearest: ResEncL of the same method."
        )
    place, state, stripped = found.state(*TOPS)
    sizes = from_shapes(state, shown=found.shown)
    if said.get("arch_kwargs"):
        sizes = agreed(
            planned_network(
                {"network_class_name": kind, "arch_kwargs": said["arch_kwargs"]},
                in_channels=sizes.in_channels,
                heads=sizes.heads,
                shown=found.shown,
            ),
            sizes,
            found.shown,
        )
    levels = any(
        key.startswith("projector.") and tensor.ndim == 2 and tensor.shape[1] == sum(sizes.channels)
        for key, tensor in state.items()
    )
    if levels:  # VoCo's own vector there
        sizes = replace(sizes, pool="levels")
    seen = _seen(found, plan, sizes.in_channels)
    beside = [
        Rule(r"architecture\.(encoder|decoder)\.(.+)", "", "beside", "the second name of a tensor", twin=r"\1.\2"),
        Rule(r"(densify_\w+|mask_tokens?)(\..+)?", "", "beside", "only its pretraining needs it"),
        _HEADS,
    ]
    return staged(
        found,
        place,
        state,
        stripped,
        sizes,
        seen.axes,
        heads=False,
        classes=None,
        beside=beside,
        inputs=seen.inputs,
        spacing_mm=seen.spacing_mm,
        window=seen.window,
        evidence=(
            f"an adaptation plan of nnssl: {kind or 'no class'}{seen.by}",
            *(["its projector takes the means of all levels: encoder.pool=levels"] if levels else []),
        ),
        guesses=seen.guesses,
        facts=seen.facts,
    )


def openmind_primus(found: Found) -> Wanted | None:
    """Take a Primus of nnssl: its tokens lie in the order of EvaMAE or of SimMIM, which its trainer tells."""
    plan = _plan_of(found)
    kind = str(dict((plan or {}).get("architecture_plans") or {}).get("arch_class_name", ""))
    if plan is None or not kind.startswith("Primus"):
        return None
    place, state, stripped = found.state(*TOPS)
    at = next((one for one in ("", "encoder.") if f"{one}eva.norm.weight" in state), None)
    projection = state.get(f"{at}down_projection.proj.weight")
    if at is None or projection is None or f"{at}eva.blocks.0.attn.q_proj.weight" not in state:
        raise DataError(f"{found.shown}: its plan says {kind}, and no 'eva' with 'down_projection' is in it.")
    if f"{at}register_tokens" in state or f"{at}eva.blocks.0.gamma_1" not in state:
        raise DataError(
            f"{found.shown}: its blocks have registers or no scales, which those of Primus S, B, M and L have not."
        )
    seen = _seen(found, plan, int(projection.shape[1]))
    straight = "simmim" in seen.trainer.lower()
    # which axis of the file's arrays each axis of its tokens, and each third of its rotary code, is along
    order = (0, 1, 2) if straight else (1, 0, 2)
    axes = (seen.axes[order[0]], seen.axes[order[1]], seen.axes[order[2]])
    width = int(projection.shape[0])
    heads = next((size.heads for size in PrimusSettings.sizes.values() if size.width == width), max(1, width // 72))
    depth = next(n for n in range(1000) if f"{at}eva.blocks.{n}.norm1.weight" not in state)
    table = state.get(f"{at}eva.pos_embed")
    side = 0 if table is None else cube_side(int(table.shape[1]), found.shown)
    before = re.escape(at)
    block, to = rf"{before}eva\.blocks\.(\d+)\.", r"encoder.blocks.\1."
    patch = [int(projection.shape[2 + seen.axes.index(axis)]) for axis in range(3)]
    thirds = None if axes == (0, 1, 2) else _turning_thirds(width // heads, axes)
    turned = "" if thirds is None else "thirds of each head put into the order z, y, x"
    kernel = None if seen.axes == (0, 1, 2) else turning_kernels(seen.axes)
    rows = None if axes == (0, 1, 2) else turning_rows((side,) * 3, axes)
    rules = [
        Rule(rf"{before}down_projection\.proj\.weight", "encoder.patch_embed.proj.weight", "stem", "", kernel),
        Rule(rf"{before}down_projection\.proj\.bias", "encoder.patch_embed.proj.bias", "stem"),
        Rule(rf"{before}eva\.pos_embed", "encoder.pos_embed", "stem", "rows in the order z, y, x", rows),
        Rule(rf"{block}attn\.((?:q_proj|k_proj)\.(?:weight|bias))", rf"{to}attn.\2", "blocks", turned, thirds),
        Rule(
            rf"{block}((?:norm[12]|attn\.(?:v_proj|norm|proj)|mlp\.(?:fc1_g|fc1_x|norm|fc2))\.(?:weight|bias)|gamma_[12])",
            rf"{to}\2",
            "blocks",
        ),
        Rule(rf"{before}eva\.(norm\.(?:weight|bias))", r"encoder.\1", "blocks"),
        Rule(rf"{before}(?:decoder|up_projection)\..+", "", "decoder", "of its pretraining, or of one stride"),
        Rule(rf"{before}mask_token", "", "beside", "only its pretraining needs it"),
        _HEADS,
    ]
    return Wanted(
        encoder={
            "name": "primus",
            "in_channels": int(projection.shape[1]),
            "size": "medium",
            "width": width,
            "depth": depth,
            "heads": heads,
            "mlp_ratio": int(state[f"{at}eva.blocks.0.mlp.fc2.weight"].shape[1]) / width,
            "patch": tuple(patch),
            "grid": (side,) * 3 if side else None,
            "pool": "mean",
        },
        place=place,
        state=state,
        rules=rules,
        part_of=lambda name: "blocks" if name.startswith(("encoder.blocks.", "encoder.norm.")) else "stem",
        inputs=seen.inputs,
        spacing_mm=seen.spacing_mm,
        window=(side * patch[0], side * patch[1], side * patch[2]) if side else seen.window,
        evidence=(
            f"an adaptation plan of nnssl: {kind}{seen.by}, {depth} blocks of width {width}",
            found_in(place, stripped),
            f"tokens in the order of its {'(1st, 2nd, 3rd)' if straight else '(2nd, 1st, 3rd)'} axis, by its trainer",
        ),
        guesses=(
            *seen.guesses,
            f"{heads} heads, as Primus of that width has: no tensor shows it",
            *(
                []
                if seen.trainer
                else ["tokens lie in the order (2nd, 1st, 3rd) axis, as EvaMAE has them: no trainer is named"]
            ),
        ),
        facts=seen.facts,
    )


def _turning_thirds(head: int, axes: Triple) -> Callable[[Tensor], Tensor]:
    """Return what puts the thirds of each head's channels, of axes ``axes`` of (z, y, x), into the order z, y, x."""
    back = [axes.index(axis) for axis in range(3)]

    def turned(values: Tensor) -> Tensor:
        return values.view(-1, 3, head // 3, *values.shape[1:])[:, back].flatten(0, 2).contiguous()

    return turned


def _plan_of(found: Found) -> Mapping[str, Any] | None:
    return found.container.facts.get("nnssl_adaptation_plan") or found.beside.get("adaptation_plan.json")


def _seen(found: Found, plan: Mapping[str, Any], channels: int) -> _Seen:
    """Return what a plan says of the input of a network of so many channels."""
    pretrain = dict(plan.get("pretrain_plan") or {})
    config = _used(pretrain, found)
    axes = turning(pretrain, found.shown)
    back = [axes.index(axis) for axis in range(3)]
    spacing, patch = config.get("spacing"), plan.get("recommended_downstream_patchsize")
    resampled = spacing is not None and len(spacing) == 3 and str(config.get("spacing_style")) != "noresample"
    schemes = [str(one) for one in config.get("normalization_schemes", ["ZScoreNormalization"])]
    if set(schemes) != {"ZScoreNormalization"}:
        raise DataError(f"{found.shown}: is normalised by {', '.join(schemes)}; ZScoreNormalization can be followed.")
    init, trainer = init_of(found), str(found.container.facts.get("trainer_name", ""))
    return _Seen(
        axes,
        _three([float(spacing[i]) for i in back]) if spacing is not None and resampled else None,
        _ints([patch[i] for i in back]) if patch and len(patch) == 3 else None,
        tuple(CardInput(name=_channel(n, channels), normalise="zscore") for n in range(channels)),
        trainer,
        {
            "trainer": trainer,
            **({"configuration": str(init["configuration_name"])} if "configuration_name" in init else {}),
        },
    )


def _used(pretrain: Mapping[str, Any], found: Found) -> dict[str, Any]:
    """Return the configuration of a pretraining plan, which holds one or several."""
    configurations = dict(pretrain.get("configurations") or {})
    if "spacing" in configurations or "spacing_style" in configurations:
        return configurations
    named = str(init_of(found).get("configuration_name") or init_of(found).get("configuration") or "")
    if named in configurations:
        return dict(configurations[named])
    if len(configurations) == 1:
        return dict(next(iter(configurations.values())))
    raise DataError(
        f"{found.shown}: nothing says which configuration of its pretraining plan it is: {', '.join(configurations)}."
    )


def _channel(number: int, count: int) -> str:
    return "image" if count == 1 else f"channel {number}"


def _three(values: list[float]) -> tuple[float, float, float]:
    return values[0], values[1], values[2]


def _ints(values: Any) -> Triple:
    a, b, c = (int(one) for one in values)
    return a, b, c
