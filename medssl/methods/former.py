"""What methods did before a recipe was mended, so that runs that were begun then end as they were begun."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["FORMER", "former_settings"]

# Method -> the setting that came with a change of recipe -> what it did before; only where the default is another now.
FORMER: Mapping[str, Mapping[str, Any]] = {
    "ibot": {"mask": "random", "patch_mean": "masked"},
    "moco": {"batch_keys": True},
    "global_contrast": {"head_bias": True},
    "spark": {"projected": "finer"},
}


def former_settings(method: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a recorded method lacks and that do something else by now, with what they did.

    Args:
        method: As a run's record has it, with ``name``; of a method of parts, those of its parts too, by dotted key.
    """
    known = FORMER.get(str(method.get("name")), {})
    found = {key: value for key, value in known.items() if key not in method}
    for name, part in (method.get("parts") or {}).items():
        inner = former_settings((part or {}).get("method") or {})  # parts of a contrast are no methods
        found |= {f"parts.{name}.method.{key}": value for key, value in inner.items()}
    return found
