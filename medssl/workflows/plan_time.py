"""How long a plan of training takes on a CPU, said before it starts, and what to run in its place where that is long.

The rule: a plan is long from six hours on. Then, and where nobody chose the number of steps (the default is one for a
GPU), a smaller plan is named by a command that works as printed. Nothing is asked: the run that was wanted goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from medssl.engine.launch import on_cpu
from medssl.engine.processes import launcher_words
from medssl.engine.reporter import Loader
from medssl.engine.train_settings import TrainSettings
from medssl.engine.trial import StepTime, time_steps
from medssl.methods.contract import Method
from medssl.presets import list_presets
from medssl.settings import Resolved
from medssl.workflows import events
from medssl.workflows.plan_end import lowered_words
from medssl.workflows.progress import duration

__all__ = ["LONG_S", "fewer_steps", "free_beside", "plan_words", "seconds_of", "small_preset", "time_lines"]

LONG_S = 6 * 3600.0
_SHORT = 50  # steps that are done before a trial would have been worth its time
_AN_HOUR_S = 3600.0


def time_lines(
    method: Method,
    loader: Callable[[], Loader],
    resolved: Resolved[Any],
    *,
    done: int | None = 0,
    until: int | None = None,
    smaller: Callable[[StepTime], str],
    tried: Callable[[StepTime], None] = lambda step: None,
) -> list[str]:
    """Return what is said of the time before a run starts: nothing on a GPU, and of plans that are done in a moment.

    Args:
        method: What will be trained.
        loader: Makes its batches.
        resolved: How: the settings of the run.
        done: Steps that a run which is resumed has done; None where it has none left, and nothing is said.
        until: The step at which it shall end where that is before its plan does, which is said first.
        smaller: Returns the command of a smaller plan for what a step takes, "" where there is none.
        tried: Told of a step that was tried and ended.
    """
    if done is None:
        return []
    train, lowered = resolved.settings.train, []
    by_default = resolved.origins.get("train.steps") == "default"
    if until is not None:
        lowered = [lowered_words(until, train)]
        train = train.model_copy(update={"steps": until})
    return lowered + _times(method, loader, train, done=done, by_default=by_default, smaller=smaller, tried=tried)


def _times(
    method: Method,
    loader: Callable[[], Loader],
    train: TrainSettings,
    *,
    done: int,
    by_default: bool,
    smaller: Callable[[StepTime], str],
    tried: Callable[[StepTime], None],
) -> list[str]:
    """Return the same for the steps that are left."""
    left = train.steps - done
    if not on_cpu(train) or left <= _SHORT:
        return []
    if train.devices not in (1, "auto") or train.nodes > 1 or launcher_words() != ["medssl"]:
        return [f"time: {left:,} steps; with several processes no step is tried beforehand, the first ones show it"]
    step = seconds_of(method, loader, train)
    if step is not None and step.steps:
        tried(step)
    lines = [plan_words(left, step, whole=train.steps)]
    if step is None or done or events.listener().within:  # a chain of verbs chose the plan itself, and says so
        return lines
    long = left * step.seconds >= LONG_S
    command = smaller(step) if long or by_default else ""
    if command:
        why = "that is long for a processor" if long else f"{train.steps:,} steps are the default, which is for a GPU"
        lines += [f"{why}. This run continues; Ctrl-C stops it. A plan for a CPU is:", f"smaller: {command}"]
    return lines


def seconds_of(method: Method, loader: Callable[[], Loader], train: TrainSettings) -> StepTime | None:
    """Return what a step takes here; None where the trial fails, for the run itself then says why."""
    try:
        return time_steps(method, loader(), train)
    except Exception:  # a trial must stop no run; what is wrong with it is raised, and told, by the run
        return None


def plan_words(steps: int, step: StepTime | None, *, whole: int) -> str:
    """Return the line that says how long the steps take.

    Args:
        steps: Steps that are still to do.
        step: What one takes; None where that could not be tried.
        whole: Steps of the whole plan.
    """
    left = f"{steps:,} steps" if steps == whole else f"{steps:,} of {whole:,} steps are left"
    if step is None:
        return f"time: {left}; how long they take could not be tried beforehand, the first steps show it"
    took = duration(steps * step.seconds)
    if not step.steps:
        return (
            f"time: {left}, more than {took} on this processor (a step was tried, and given up after "
            f"{step.seconds:.0f} s)"
        )
    each = f"{step.seconds:.1f} s" if step.seconds >= 1 else f"{1000 * step.seconds:.0f} ms"
    tried = f"{step.steps} steps, {each} each" if step.steps > 1 else f"1 step, {each}"
    return f"time: {left}, about {took} on this processor (an estimate, from {tried})"


def small_preset(verb: str, name: str, taken: Sequence[str]) -> str:
    """Return the preset for a CPU, "" where there is none or it is taken already.

    Args:
        verb: "pretrain" or "finetune".
        name: Of the method or the task.
        taken: Origins of the settings.
    """
    small = f"{name}_small"
    known = {preset.name for preset in list_presets(verb)}
    return small if small in known and not any(origin.endswith("_small") for origin in taken) else ""


def fewer_steps(step: StepTime) -> int:
    """Return about how many steps an hour has room for, in round numbers."""
    fitting = max(1, int(_AN_HOUR_S / step.seconds))
    unit = int("1".ljust(len(str(fitting)) - 1, "0"))
    return fitting // unit * unit


def free_beside(out: Path) -> Path:
    """Return a folder beside a run's that is not there yet."""
    names = (out.with_name(f"{out.name}-small{number or ''}") for number in range(1_000_000))
    return next(path for path in names if not path.exists())
