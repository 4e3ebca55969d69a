"""nnU-Net v2 and TotalSegmentator: networks of stages, recognised by their plans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medssl.engine.card import CardInput
from medssl.errors import DataError
from medssl.weights.finding import Found, Segmenter, Wanted, found_in
from medssl.weights.plans import planned, planned_inputs
from medssl.weights.renaming import Rule
from medssl.weights.staged_names import Staged, from_shapes, part_of, rules

__all__ = ["TOPS", "ZSCORE", "agreed", "init_of", "nnunet", "staged", "totalsegmentator", "vocomni_nnunet"]

Triple = tuple[int, int, int]
ZSCORE = "each scan's z-score is of the voxels in its body box here, and of its cropped image there"
_POOLED = "its makers take no single vector of it: ours is encoder.pool=prenorm (mean before the last norm)"
TOPS = ("network_weights", "state_dict", "model", "")


def nnunet(found: Found) -> Wanted | None:
    """Take a network that nnU-Net v2 trained: its checkpoint holds the plans, or plans.json lies beside it."""
    return _nnunet(found, total=False)


def totalsegmentator(found: Found) -> Wanted | None:
    """Take one of TotalSegmentator's networks: nnU-Net's, with its own data's name in the plans."""
    return _nnunet(found, total=True)


def vocomni_nnunet(found: Found) -> Wanted | None:
    """Take VoComni's nnU-Net: no plans, 21 classes, trained in MONAI, so on (x, y, z)."""
    place, state, stripped = found.state(*TOPS)
    if _plans_of(found) is not None or "encoder.stages.0.0.convs.0.conv.weight" not in state:
        return None
    if any(name in found.beside for name in ("adaptation_plan.json", "plans.json")):
        return None
    sizes = from_shapes(state, shown=found.shown)
    if sizes.heads != 21 or sizes.in_channels != 1:
        return None
    return staged(
        found,
        place,
        state,
        stripped,
        sizes,
        (2, 1, 0),
        heads=False,
        classes=None,
        inputs=(CardInput(name="ct", modality="CT", normalise="dataset", numbers=(-175.0, 250.0, -175.0, 425.0)),),
        spacing_mm=(1.5, 1.5, 1.5),
        window=(64, 64, 64),
        evidence=(f"a plain U-Net of nnU-Net's names without plans, {sizes.heads} classes, one channel: VoComni",),
        guesses=(
            "axes (x, y, z), 1.5 mm and -175 to 250 HU, as MONAI trained VoComni's other networks: its makers publish "
            "no plans of this one",
        ),
    )


def _nnunet(found: Found, *, total: bool) -> Wanted | None:
    plans = _plans_of(found)
    if plans is None or found.container.facts.get("nnssl_adaptation_plan") or "adaptation_plan.json" in found.beside:
        return None
    if ("totalseg" in str(plans.get("dataset_name", "")).lower()) != total:
        return None
    init = init_of(found)
    place, state, stripped = found.state(*TOPS)
    sizes = from_shapes(state, shown=found.shown)
    name = str(init.get("configuration") or _only(plans, found))
    said = planned(plans, name, in_channels=sizes.in_channels, heads=sizes.heads, shown=found.shown)
    network = agreed(said.network, sizes, found.shown)
    data = dict(init.get("dataset_json") or found.beside.get("dataset.json") or {})
    channels = {str(k): str(v) for k, v in dict(data.get("channel_names") or data.get("modality") or {}).items()}
    inputs, guesses = planned_inputs(plans, name, channels, found.shown)
    if len(inputs) != network.in_channels:
        raise DataError(
            f"{found.shown}: its plans normalise {len(inputs)} channels, and its network takes {network.in_channels}. "
            "A cascade's second stage also takes masks; nearest: 3d_fullres or 3d_lowres of the same data."
        )
    classes = _classes(data, network.heads)
    if network.heads and classes is None:
        guesses += (
            f"its head of {network.heads} channels is left out: dataset.json names no class for each of them (regions, "
            "or none)",
        )
    if not said.reoriented and not total:
        guesses += ("scans lay as their files had them there, and are turned to RAS here",)
    return staged(
        found,
        place,
        state,
        stripped,
        network,
        said.axes,
        heads=classes is not None,
        classes=classes,
        inputs=inputs,
        spacing_mm=said.spacing_mm,
        window=said.window,
        evidence=(
            f"plans of nnU-Net: {said.dataset or 'no name'}, {name}, {network.name}, {len(network.channels)} stages",
        ),
        guesses=guesses,
        facts={"configuration": name, "dataset": said.dataset},
    )


def staged(
    found: Found,
    place: str,
    state: Mapping[str, Any],
    stripped: tuple[str, ...],
    sizes: Staged,
    axes: Triple,
    *,
    heads: bool,
    classes: Mapping[int, str] | None,
    inputs: tuple[CardInput, ...],
    spacing_mm: tuple[float, float, float] | None,
    window: Triple | None,
    evidence: tuple[str, ...],
    guesses: tuple[str, ...] = (),
    beside: list[Rule] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Wanted:
    """Return a network of stages, turned to this project's axes."""
    own = sizes.turned(axes)
    seen = window or (128, 128, 128)
    decoder = Segmenter(convs=own.decoder_convs, classes=classes, window=seen) if own.decoder_convs else None
    said = [found_in(place, stripped)]
    said += [f"{own.name}: channels {list(own.channels)}, blocks {list(own.blocks)}"]
    if axes != (0, 1, 2):
        said.append(f"its axes are (z, y, x) in the order {list(axes)}: kernels are turned")
    return Wanted(
        encoder=own.settings,
        place=place,
        state=state,
        rules=rules(axes, decoder=decoder is not None, heads=heads, beside=beside or ()),
        part_of=part_of,
        inputs=inputs,
        spacing_mm=spacing_mm,
        window=seen,
        evidence=(*evidence, *said),
        guesses=(*guesses, *([_POOLED] if own.pool == "prenorm" else [])),
        decoder=decoder,
        facts=dict(facts or {}),
    )


def _plans_of(found: Found) -> Mapping[str, Any] | None:
    init = init_of(found)
    plans = init.get("plans") or found.beside.get("plans.json")
    return plans if isinstance(plans, Mapping) and "configurations" in plans else None


def init_of(found: Found) -> Mapping[str, Any]:
    """Return what a checkpoint's trainer was made with; empty where it does not say."""
    init = found.container.facts.get("init_args")
    return init if isinstance(init, Mapping) else {}


def _only(plans: Mapping[str, Any], found: Found) -> str:
    """Return the configuration where the file does not say: that of its folder's name, or the only one in 3D."""
    named = [
        name
        for name in plans["configurations"]
        if any(part.endswith(f"__{name}") for part in found.container.path.resolve().parts)
    ]
    every = list(plans["configurations"])
    if len(named) == 1 or len(every) == 1:
        return str((named or every)[0])
    raise DataError(
        f"{found.shown}: nothing says which of the plans' configurations it is ({', '.join(plans['configurations'])}): "
        "its init_args do not, and no folder above it ends in __CONFIGURATION. Put it in such a folder, as "
        "nnUNetTrainer__nnUNetPlans__3d_fullres/fold_0."
    )


def agreed(said: Staged, seen: Staged, shown: str) -> Staged:
    """Return what plans say, which must be what the tensors show."""
    for field in ("name", "channels", "blocks", "kernels"):
        ours, theirs = getattr(seen, field), getattr(said, field)
        if ours != theirs:
            raise DataError(f"{shown}: its plans say {field} {theirs}, and its tensors are of {ours}.")
    if seen.decoder_convs and seen.strides != said.strides:
        raise DataError(f"{shown}: its plans say strides {said.strides}, and its decoder has {seen.strides}.")
    if seen.decoder_convs and said.decoder_convs != seen.decoder_convs:
        raise DataError(
            f"{shown}: its plans say {said.decoder_convs} convolutions a stage of the decoder, and its tensors are of "
            f"{seen.decoder_convs}."
        )
    return Staged(**{**vars(said), "decoder_convs": seen.decoder_convs, "pool": seen.pool})


def _classes(data: Mapping[str, Any], heads: int) -> dict[int, str] | None:
    """Return the structures by number where dataset.json names one for each channel of the head; None elsewhere."""
    found: dict[int, str] = {}
    for name, value in dict(data.get("labels") or {}).items():
        if isinstance(value, int) and value > 0 and name != "ignore":
            found[value] = str(name)
        elif not isinstance(value, int):
            return None  # regions, or the older value -> name
    return dict(sorted(found.items())) if sorted(found) == list(range(1, heads)) else None
