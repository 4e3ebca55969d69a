"""Values written so that MONAI's configuration language takes them for what they are: text.

MONAI evaluates strings that begin with ``$``, replaces ``@name`` and ``%name``, and builds an object of every mapping
that holds ``_target_``. Names of classes and notes come from people's files, so none of that may reach it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["inert"]

# Full-width forms of the same signs: a person reads the name as it was, MONAI sees no sign of its own.
_SIGNS = str.maketrans({"$": "\uff04", "@": "\uff20", "%": "\uff05"})


def inert(value: Any) -> Any:
    """Return a JSON value of which MONAI evaluates, resolves and builds nothing.

    Example:
        >>> inert({"_target_": "os.system", "name": "$exit()"})
        {'target_': 'os.system', 'name': '＄exit()'}
    """
    if isinstance(value, str):
        return value.translate(_SIGNS)
    if isinstance(value, Mapping):
        return {str(key).translate(_SIGNS).lstrip("_"): inert(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [inert(held) for held in value]
    return value
