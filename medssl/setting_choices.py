"""What becomes of a preset's keys when another choice is named over it, such as ``encoder.name=timm`` over a U-Net."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from medssl.setting_errors import literal_values, models_of

__all__ = ["drop_stale_keys", "tags_of"]


def tags_of(model: type[BaseModel]) -> Iterator[str]:
    """Yield the fields of a model that can only hold one literal: what tells the members of a union apart."""
    for name in model.model_fields:
        if len(literal_values(model, name)) == 1:
            yield name


def drop_stale_keys(
    model: type[BaseModel], below: dict[str, Any], above: Mapping[str, Any], prefix: str = ""
) -> dict[str, tuple[str, ...]]:
    """Drop from ``below``, in place, what a choice named ``above`` does not know of the choice that it replaces.

    Keys that both know stay, and so does everything where the choice stays the same, wrong keys too: those are
    mistakes that the user should be told.

    Args:
        model: The settings class.
        below: Nested values of lower layers.
        above: Nested values of the layer that comes over them.
        prefix: Dotted key of ``model``, with a dot at its end.

    Returns:
        Dotted key of each group that changed its choice -> dotted keys below it that were dropped.
    """
    dropped: dict[str, tuple[str, ...]] = {}
    for name, field in model.model_fields.items():
        old, new = below.get(name), above.get(name)
        if not isinstance(old, dict) or not isinstance(new, Mapping):
            continue
        members = models_of(field.annotation)
        default = None if field.default_factory_takes_validated_data else field.get_default(call_default_factory=True)
        before = _chosen(members, {**_tags_of_value(default), **old})
        after = _chosen(members, new) or before
        if after is None:
            continue
        if before is not None and after is not before:
            gone = tuple(_pruned(after, old))
            if gone:
                dropped[f"{prefix}{name}"] = gone
        dropped |= drop_stale_keys(after, old, new, f"{prefix}{name}.")
    return dropped


def _chosen(members: list[type[BaseModel]], values: Mapping[str, Any]) -> type[BaseModel] | None:
    """Return the member that the tags in ``values`` name; the only one, where there is but one; else None."""
    if len(members) == 1:
        return members[0]
    for member in members:
        tags = list(tags_of(member))
        if tags and all(values.get(tag) in literal_values(member, tag) for tag in tags):
            return member
    return None


def _tags_of_value(value: Any) -> dict[str, Any]:
    return {tag: getattr(value, tag) for tag in tags_of(type(value))} if isinstance(value, BaseModel) else {}


def _pruned(model: type[BaseModel], data: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Drop the keys that ``model`` does not know, and yield them; groups that it knows are looked into."""
    for key in list(data):
        field = model.model_fields.get(key)
        if field is None:
            del data[key]
            yield f"{prefix}{key}"
        elif isinstance(data[key], dict):
            inner = _chosen(models_of(field.annotation), data[key])
            if inner is not None:
                yield from _pruned(inner, data[key], f"{prefix}{key}.")
