"""What ``medssl auto`` decides on point clouds, and why: pure functions from counts to settings and sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from medssl.domains.deciding import BUDGETS, Decision, Machine, Recipe, decide_device, decide_steps
from medssl.domains.suited_method import suited_cloud_method
from medssl.errors import ConfigError, did_you_mean
from medssl.presets import find_preset, list_presets
from medssl.settings import flatten, load_yaml
from pointcloud.methods.contract import CloudMethod, CloudRoom
from pointcloud.methods.table import CLOUD_METHODS

__all__ = ["CloudFacts", "decide_cloud_recipe"]

Turning = Literal["none", "z", "any"]
_TUNING_BATCH = {True: 16, False: 32}


@dataclass(frozen=True, kw_only=True)
class CloudFacts:
    """What is known of the clouds.

    Attributes:
        train: Clouds to train on.
        units: Units that occur: "mm", "m", "unknown".
        classes: Class -> training clouds of it, 0 for one that only other splits have.
        parts: Training clouds whose points have classes.
    """

    train: int
    units: Sequence[str]
    classes: Mapping[str, int] = field(default_factory=dict)
    parts: int = 0


def decide_cloud_recipe(facts: CloudFacts, settings: Any, machine: Machine) -> Recipe:
    """Return how to train on clouds.

    Args:
        facts: What is known of them.
        settings: What the user gave is kept.
        machine: Where it will run.

    Raises:
        ConfigError: The method is unknown.
    """
    budget = BUDGETS[settings.budget]
    small = budget.small or not machine.gpu
    decisions = [decide_device(machine, small=small, wants_gpu=not budget.small)]
    task, learns, tuned, decided = _task(facts)
    decisions.append(decided)
    method, decided = _method(facts, settings)
    decisions.append(decided)
    rotate, decided = _rotate(facts, settings)
    decisions.append(decided)
    steps, tuning, decided = decide_steps(settings)
    decisions.append(decided)
    kind: type[CloudMethod] = CLOUD_METHODS.load(_trained(method))
    usual = kind.items_per_step[0 if small else 1]
    batch, tuning_batch = (min(most, max(2, facts.train)) for most in (usual, _TUNING_BATCH[small]))
    why = "as the presets have it" if batch == usual else f"there are {facts.train} clouds to train on"
    decisions.append(Decision("batch", f"{batch} clouds, {tuning_batch} when fine-tuning", why))
    shared: dict[str, Any] = {"train.seed": settings.seed, "train.log_every": 25}
    every, often = max(25, steps // 10), max(25, tuning // 5)
    end = "_small" if small else ""
    return Recipe(
        method=method,
        learns=learns,
        preset=f"{method}{end}",
        pretrain={
            **shared,
            **flatten({"method": kind.fit(CloudRoom(rotate))}),
            "train.steps": steps,
            "train.batch_size": batch,
            "train.checkpoint_every": every,
            "train.probe_every": max(25, steps // 5),
        },
        finetune_preset=f"{task}{end}" if task else "",
        finetune={
            **shared,
            **tuned,
            "cloud.spatial.rotate": rotate,
            "train.steps": tuning,
            "train.batch_size": tuning_batch,
            "train.checkpoint_every": often,
            "train.probe_every": max(25, tuning // 3),
        },
        decisions=tuple(decisions),
    )


def _task(facts: CloudFacts) -> tuple[str, str, dict[str, Any], Decision]:
    """Return the preset's name without its size, what it learns in words, its settings, and why."""
    seen = [name for name, count in facts.classes.items() if count]
    if len(seen) > 1:
        shown = ", ".join(f"{name} {facts.classes[name]}" for name in seen[:6]) + (", ..." if len(seen) > 6 else "")
        left = [name for name in facts.classes if name not in seen]
        because = f"clouds have classes ({shown})"
        because += f"; no cloud to train on has {', '.join(left)}, which is left out" if left else ""
        settings = {"classification.classes": seen} if left else {}
        return (
            "point_classification",
            "distinguish classes",
            settings,
            Decision("task", f"{len(seen)} classes of clouds", because),
        )
    if facts.parts:
        because = f"points of {facts.parts} training clouds have classes"
        return "point_parts", "name the part of each point", {}, Decision("task", "parts of clouds", because)
    return "", "", {}, Decision("task", "none, the encoder alone", "neither clouds nor points have two classes")


def _method(facts: CloudFacts, settings: Any) -> tuple[str, Decision]:
    presets = [preset.name for preset in list_presets("pretrain") if not preset.name.endswith("_small")]
    known = [name for name in presets if _trained(name) in CLOUD_METHODS]
    if settings.method is not None:
        name = settings.method.removesuffix("_small")
        if name not in known:
            raise ConfigError(
                f"There is no method '{settings.method}' for clouds. {did_you_mean(settings.method, known)}"
            )
        return name, Decision("method", name, "as set")
    name, because = suited_cloud_method(facts.train)
    return name, Decision("method", name, because)


def _trained(preset: str) -> str:
    """Return the name of the method that a preset of pretraining trains."""
    return str(load_yaml(find_preset(preset, "pretrain"))["method"]["name"])


def _rotate(facts: CloudFacts, settings: Any) -> tuple[Turning, Decision]:
    if settings.rotate is not None:
        return settings.rotate, Decision("turning", settings.rotate, "as set")
    if set(facts.units) == {"mm"}:
        return "none", Decision("turning", "none", "clouds in mm lie as the scanner saw them; rotate=any where not so")
    return "any", Decision(
        "turning", "any", "in which direction clouds lie is not known; rotate=none where all lie alike"
    )
