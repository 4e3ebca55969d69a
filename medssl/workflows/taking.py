"""What a verb takes where it wants a path, a number or a list: one rule for every verb.

A path may be text (``~`` is the home folder), a `Path`, or whatever says where it lies: a `Result` of another verb, a
manifest, a store, a run. A whole number may be NumPy's. One word where several may stand is a list of one.
"""

from __future__ import annotations

import functools
import inspect
import numbers
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from medssl.errors import ConfigError, ManifestError
from medssl.local_places import remote_fault

__all__ = ["takes_places"]

P = ParamSpec("P")
R = TypeVar("R")


def takes_places(verb: Callable[P, R]) -> Callable[P, R]:
    """Let a verb take what this module says; its annotations say which parameters are what.

    Raises:
        ConfigError: By the verb: a value is none of these.
    """
    signature = inspect.signature(verb)
    wanted = {name: str(parameter.annotation) for name, parameter in signature.parameters.items()}
    kinds = {name: parameter.kind for name, parameter in signature.parameters.items()}
    called = verb.__name__.strip("_")

    @functools.wraps(verb)
    def taking(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            if kinds[name] is inspect.Parameter.VAR_KEYWORD:
                continue
            if kinds[name] is inspect.Parameter.VAR_POSITIONAL:
                bound.arguments[name] = tuple(_taken(one, wanted[name], f"{called}: {name}") for one in value)
            else:
                bound.arguments[name] = _taken(value, wanted[name], f"{called}: {name}")
        return verb(*bound.args, **bound.kwargs)

    return taking


def _taken(value: Any, wanted: str, what: str) -> Any:
    """Return a value as the verb's annotation wants it.

    Raises:
        ConfigError: It cannot be that.
    """
    if value is None:
        return _place(value, what) if "Path" in wanted and "None" not in wanted else None
    several = "Sequence[" in wanted
    if several and not isinstance(value, str | bytes | os.PathLike) and isinstance(value, Iterable):
        return [_taken(one, wanted.partition("Sequence[")[2].partition("]")[0], what) for one in value]
    if "Path" in wanted:
        if "Manifest" in wanted and hasattr(value, "frame"):
            with suppress(ManifestError):
                return _place(value, what)
            return value  # in no file: it goes as it is
        place = _place(value, what)
        return [place] if several and "Path | Sequence" not in wanted else place
    if several and isinstance(value, str):
        return [value]
    if type(value) in (bool, int, float):
        return value
    if isinstance(value, numbers.Integral) and "int" in wanted:
        return int(value)
    if isinstance(value, numbers.Real) and "float" in wanted:
        return float(value)
    return value


def _place(value: Any, what: str) -> str | Path:
    """Return where something lies; a name stays text.

    Raises:
        ConfigError: It lies nowhere, or on another machine.
    """
    if isinstance(value, str):
        if not value.strip():
            raise ConfigError(f"{what}: a path is wanted, and this is empty. For the working folder give '.'.")
        if fault := remote_fault(value):
            raise ConfigError(f"{what}: {fault}")
        return Path(value).expanduser() if value.startswith("~") else value
    if isinstance(value, os.PathLike):
        if fault := remote_fault(Path(os.fspath(value))):
            raise ConfigError(f"{what}: {fault}")
        return Path(os.fspath(value)).expanduser()
    raise ConfigError(
        f"{what}: a path is wanted (text, a Path, or what another verb returned). Got {type(value).__name__}: "
        f"{' '.join(repr(value).split())[:80]}"
    )
