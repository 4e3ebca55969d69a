"""What held-out signals are compared with: the network at step 0, whoever knows nothing, and hand-made features."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["BESIDE", "CHANCE", "HANDMADE", "HELD_OUT", "probe_line"]

HELD_OUT = "held_out/"
CHANCE = "chance/"
HANDMADE = "handmade/"  # what features that need no training are worth
BESIDE = (CHANCE, HANDMADE)  # what stands beside a signal and is none itself
_TOLD = 6  # a segmenter has a signal for each structure


def probe_line(step: int, values: Mapping[str, float], first: Mapping[str, float]) -> str:
    """Return a probe in words, each signal beside its value at step 0 and by chance; "" where nothing was probed.

    Args:
        step: Steps done.
        values: As in a row of metrics.jsonl: "held_out/NAME" and "chance/NAME".
        first: The same at step 0; empty where it was not probed then.

    Example:
        >>> now = {"held_out/retrieval": 0.5, "chance/retrieval": 0.125, "held_out/spread": 0.9}
        >>> probe_line(40, now, {"held_out/retrieval": 0.25})
        'held out, step 40: retrieval 0.5 (step 0: 0.25; chance 0.125), spread 0.9'
        >>> probe_line(0, now, now)
        'held out, step 0: retrieval 0.5 (chance 0.125), spread 0.9'
    """
    told = []
    measured = [(key, value) for key, value in values.items() if key.startswith(HELD_OUT)]
    for key, value in measured[:_TOLD]:
        name = key.removeprefix(HELD_OUT)
        beside = [f"step 0: {first[key]:.3g}"] if step and key in first else []
        beside += [f"chance {values[CHANCE + name]:.3g}"] if CHANCE + name in values else []
        beside += [f"hand-made {values[HANDMADE + name]:.3g}"] if HANDMADE + name in values else []
        told.append(f"{name.replace('_', ' ')} {value:.3g}" + (f" ({'; '.join(beside)})" if beside else ""))
    more = f", and {len(measured) - _TOLD} more" if len(measured) > _TOLD else ""
    return f"held out, step {step:,}: {', '.join(told)}{more}" if told else ""
