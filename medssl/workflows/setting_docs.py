"""What can be set: every key of a settings class, with its default, what is allowed and what it means."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from medssl.setting_errors import allowed_range, literal_values, models_of

__all__ = ["SettingDoc", "setting_docs"]

_PLAIN_TYPES: dict[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Path: "path",
    type(None): "null",
}


@dataclass(frozen=True)
class SettingDoc:
    """One key that can be set.

    Attributes:
        key: Dotted; a union's member is named in brackets, as in ``method[voco].temperature``.
        default: As YAML would show it; ``(needed)`` where there is none.
        allowed: The type and the range, in words.
        meaning: From the field's description, else from the class's docstring.
        choice: Whether it names a kind whose settings follow, such as a method.
    """

    key: str
    default: str
    allowed: str
    meaning: str
    choice: bool = False


def setting_docs(
    model: type[BaseModel], prefix: str = "", given: BaseModel | None = None, *, every: bool = True
) -> Iterator[SettingDoc]:
    """Yield every key of ``model`` and of the settings nested in it, in the order of the classes.

    Args:
        model: The class.
        prefix: What the keys begin with.
        given: What a class that holds this one takes for it by default; its values are the defaults then.
        every: Whether to go into every member of a choice, its kind in brackets; else into the default alone, whose
            keys stand as they are set.
    """
    meanings = _meanings(model)
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        members = models_of(field.annotation)
        if not members:
            shown = _default(field) if given is None else _shown(getattr(given, name))
            yield SettingDoc(key, shown, _allowed(model, name), field.description or meanings.get(name, ""))
            continue
        default = None if field.default_factory_takes_validated_data else field.get_default(call_default_factory=True)
        if given is not None:
            default = getattr(given, name)
        meaning = field.description or meanings.get(name, "") or _purpose(members)
        yield SettingDoc(key, _kind(default), _choices(members), meaning, choice=len(members) > 1)
        for member in members:
            if not every and len(members) > 1 and type(default) is not member:
                continue
            inner = f"{key}[{_kind_of(member)}]." if every and len(members) > 1 else f"{key}."
            yield from setting_docs(member, inner, default if type(default) is member else None, every=every)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "(needed)"
    if field.default_factory_takes_validated_data:
        return "(derived)"
    return _shown(field.get_default(call_default_factory=True))


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return str(list(value)).replace("'", "")
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _allowed(model: type[BaseModel], name: str) -> str:
    field = model.model_fields[name]
    range_ = allowed_range(model, name)
    return range_ if literal_values(model, name) else ", ".join(filter(None, [_type_name(field.annotation), range_]))


def _type_name(annotation: Any) -> str:
    """Return a type in words: ``list of 3 numbers``, ``whole number or 'auto'``."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_name(inner[0])
    if origin is Literal:
        return " or ".join(repr(value) for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type_name(part) for part in inner))
    if origin in (tuple, list, Sequence):
        kinds = list(dict.fromkeys(_type_name(part) for part in inner if part is not Ellipsis))
        if len(kinds) == 1:
            count = f"{len(inner)} " if origin is tuple and Ellipsis not in inner else ""
            several = kinds[0] if " " in kinds[0].replace("whole number", "") else f"{kinds[0]}s"
            return f"list of {count}({several})" if several == kinds[0] else f"list of {count}{several}"
        return f"list of {', '.join(kinds)}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"mapping to {_type_name(inner[1])}"
    return _PLAIN_TYPES.get(annotation, getattr(annotation, "__name__", str(annotation)).lower())


def _purpose(members: list[type[BaseModel]]) -> str:
    """Return what a group of settings is for: its class's first line; for a choice, what the brackets below mean."""
    if len(members) > 1:
        return "Which kind, by its name; the settings of each follow."
    return inspect.cleandoc(members[0].__doc__ or "").partition("\n")[0]


def _choices(members: list[type[BaseModel]]) -> str:
    return "one of " + ", ".join(_kind_of(member) for member in members) if len(members) > 1 else "a group"


def _kind(default: Any) -> str:
    return _kind_of(type(default)) if isinstance(default, BaseModel) else ("" if default is None else "(needed)")


def _kind_of(member: type[BaseModel]) -> str:
    tags = {name: values[0] for name in member.model_fields if len(values := literal_values(member, name)) == 1}
    return str(tags.get("name") or next(iter(tags.values()), ""))


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """Return field -> meaning from the ``Attributes:`` sections of the class's docstring and its parents'."""
    meanings: dict[str, str] = {}
    for ancestor in reversed(model.__mro__):
        text = inspect.cleandoc(ancestor.__doc__ or "") if issubclass(ancestor, BaseModel) else ""
        section = re.search(r"^(?:Attributes|Args):\n((?:[ \t]+.*\n?|\n)+)", text, flags=re.MULTILINE)
        name = ""
        for line in section.group(1).splitlines() if section else []:
            head = re.match(r"\s{4}(\w+)(?: \([^)]*\))?:\s*(.*)", line)
            if head and not line.startswith(" " * 5):
                name, meanings[head.group(1)] = head.group(1), head.group(2)
            elif name and line.strip():
                meanings[name] = f"{meanings[name]} {line.strip()}"
    return meanings
