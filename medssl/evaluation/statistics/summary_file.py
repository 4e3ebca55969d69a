"""scores.json and its like: scores and comparisons as JSON, of every kind of evaluation in the same form."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from medssl.errors import ConfigError, DataError
from medssl.evaluation.statistics.comparison import Comparison, Score
from medssl.quoting import quoted
from medssl.settings import load_yaml
from medssl.writing import atomic_write

__all__ = ["FORMAT", "as_json", "comparisons_in", "scores_in", "write_summary"]

R = TypeVar("R")
FORMAT = 2  # 1 held intervals of bootstraps, another form for each task


def write_summary(path: Path, content: Mapping[str, Any]) -> None:
    """Write a summary aside and rename it; NaN becomes null."""
    text = json.dumps(as_json({"format": FORMAT, **content}), indent=1, ensure_ascii=False, allow_nan=False)
    with atomic_write(path) as aside:
        aside.write_text(text + "\n", encoding="utf-8")


def scores_in(content: Mapping[str, Any], path: Path) -> list[Score]:
    """Return the scores of a summary.

    Args:
        content: The summary.
        path: Where it lies, for errors.

    Raises:
        DataError: It is of an earlier release, or damaged.
    """
    return _read(content, path, "scores", Score.of_row)


def comparisons_in(content: Mapping[str, Any], path: Path) -> list[Comparison]:
    """Return the comparisons of a summary; as `scores_in`."""
    return _read(content, path, "comparisons", Comparison.of_row)


def _read(content: Mapping[str, Any], path: Path, key: str, read: Callable[[Mapping[str, Any]], R]) -> list[R]:
    if content.get("format") != FORMAT or "encoders" in content:  # which held fixed probes of clouds alone
        raise DataError(
            f"{path}: scores of an earlier release, which were computed in another way. {_again(path, content)}"
        )
    try:
        return [read(row) for row in content[key]]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: damaged ({error}). Run the medssl evaluate command that wrote it again.") from error


def _again(path: Path, content: Mapping[str, Any]) -> str:
    """Return how scores are made anew: the command itself where the run beside them names its store."""
    folder = path if path.is_dir() else path.parent
    general = "Run the medssl evaluate command that wrote them again; finished runs of a few-label comparison are kept."
    if "protocol" in content or not (folder / "run.yaml").is_file():
        return general
    try:
        store = str(load_yaml(folder / "run.yaml")["data"]["store"])
    except (ConfigError, KeyError, TypeError):
        return general
    place = next((place for place in (Path(store), folder / store) if place.exists()), None)
    if place is None:
        return general
    against = ", with --against as before" if len(content.get("runs") or ()) > 1 else ""
    return f"Make them again{against}: medssl evaluate {quoted(folder)} --data {quoted(place)}"


def as_json(value: Any) -> Any:
    """Turn results into what JSON can hold: dataclasses to mappings, NaN and infinity to None."""
    if is_dataclass(value) and not isinstance(value, type):
        return as_json(asdict(value))
    if isinstance(value, Mapping):
        return {str(k): as_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(v) for v in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
