"""What pydantic found wrong with settings, in sentences that name the key, what was found and what is allowed."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from medssl.errors import did_you_mean

__all__ = ["allowed_range", "describe", "literal_values", "models_of"]

_BOUNDS = (("gt", "above "), ("ge", "at least "), ("lt", "below "), ("le", "at most "))
_LENGTHS = (("min_length", "at least "), ("max_length", "at most "))
_KINDS = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "path_type": "a path",
    "list_type": "a list; write it as [1,2,3]",
    "tuple_type": "a list; write it as [1,2,3]",
    "dict_type": "a mapping of keys to values",
    "model_type": "a group of settings; set one of its keys instead",
    "model_attributes_type": "a group of settings; set one of its keys instead",
    "none_required": "null",
    "finite_number": "a finite number",
}


def describe(model: type[BaseModel], error: ValidationError, origins: Mapping[str, str]) -> list[str]:
    """Return one sentence for every wrong key.

    Args:
        model: The settings class that was validated.
        error: What pydantic raised.
        origins: Dotted key -> where its value came from; named in the sentence where it is known.
    """
    sentences: dict[str, list[str]] = {}
    for fault in error.errors():
        key, owner, last = _place(model, fault["loc"])
        kind = fault["type"]
        if kind in {"union_tag_invalid", "union_tag_not_found"}:
            context = fault["ctx"]
            key = f"{key}.{context['discriminator'].strip(chr(39))}"
            tags = [tag.strip().strip("'") for tag in context.get("expected_tags", "").split(",")]
            sentence = (
                f"found {context['tag']!r}. {did_you_mean(str(context['tag']), tags)}"
                if kind == "union_tag_invalid"
                else f"missing. {_all_tags(model, fault['loc'])}"
            )
        elif kind == "extra_forbidden":
            sentence = "unknown key. " + _suggestion(model, owner, key, last)
        elif kind == "missing":
            sentence = f"missing. {_meaning(owner, last)}".rstrip()
        else:
            sentence = _found_and_allowed(owner, last, fault)
        sentences.setdefault(key, []).append(sentence)
    lines = []
    for key, several in sentences.items():
        origin = _origin(key, origins)
        lines.append((f"{key}: " if key else "") + _joined(several) + (f" ({origin})" if origin else ""))
    return lines


def allowed_range(model: type[BaseModel], name: str) -> str:
    """Return what a field allows in words (``above 0 and at most 1``, ``one of 'a', 'b'``), or "" for anything."""
    field = model.model_fields.get(name)
    if field is None:
        return ""
    values = literal_values(model, name)
    if values:
        return "one of " + ", ".join(repr(value) for value in values)
    return _bounds(field.metadata)


def literal_values(model: type[BaseModel], name: str) -> tuple[Any, ...]:
    """Return the values of a ``Literal`` field, () for any other field."""
    annotation = model.model_fields[name].annotation
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def models_of(annotation: Any) -> list[type[BaseModel]]:
    """Return the settings classes that a field's type may hold, through unions, lists and mappings."""
    if isinstance(annotation, type) and not get_args(annotation):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [model for part in get_args(annotation) for model in models_of(part)]


def _place(model: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[str, type[BaseModel] | None, str]:
    """Return (dotted key, the settings class it belongs to, its last part) of pydantic's location.

    Pydantic puts a union's tag, or the name of the type that it tried, among the keys; those are left out.
    """
    key, owner, last = "", model, ""
    candidates: list[type[BaseModel]] = [model]
    open_mapping = False
    owner_found: type[BaseModel] | None = None
    for place, part in enumerate(loc):
        if isinstance(part, int):
            key += f"[{part}]"
            continue
        holder = next((candidate for candidate in candidates if part in candidate.model_fields), None)
        if holder is None and len(candidates) > 1:
            chosen = [c for c in candidates if part == c.__name__ or _has_tag(c, part)]
            if chosen:
                candidates = chosen
                continue
        unknown_at_the_end = place == len(loc) - 1 and bool(candidates)
        if holder is None and not open_mapping and not unknown_at_the_end:
            continue  # the label of one member of a union of plain types
        key += f".{part}" if key else str(part)
        owner, last = holder or candidates[0] if candidates else owner, str(part)
        owner_found = owner
        if holder is not None:
            annotation = holder.model_fields[str(part)].annotation
            candidates, open_mapping = models_of(annotation), _is_mapping(annotation)
        else:
            open_mapping = False
    return key, owner_found or model, last


def _has_tag(model: type[BaseModel], tag: str) -> bool:
    return any(tag in literal_values(model, name) for name in model.model_fields)


def _is_mapping(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType, typing.Annotated):
        return any(_is_mapping(part) for part in get_args(annotation))
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _suggestion(model: type[BaseModel], owner: type[BaseModel] | None, key: str, last: str) -> str:
    """Return the nearest sibling key, else the same name elsewhere in the tree, else all the siblings."""
    siblings = list(owner.model_fields) if owner else []
    sentence = did_you_mean(last, siblings)
    if sentence.startswith("Did you mean"):
        near = sentence.split("'")[1]
        return f"Did you mean '{key[: len(key) - len(last)]}{near}'?"
    elsewhere = sorted({known for known in _all_keys(model) if known.rpartition(".")[2] == last})
    if key in elsewhere:
        return f"It belongs to another kind; this one has: {', '.join(sorted(siblings))}."
    if elsewhere:
        return "Did you mean " + " or ".join(f"'{known}'" for known in elsewhere[:3]) + "?"
    return sentence


def _all_keys(model: type[BaseModel], prefix: str = "", depth: int = 0) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        if depth < 6:  # settings nest two or three deep; a class that holds itself would never end
            for inner in models_of(field.annotation):
                yield from _all_keys(inner, f"{prefix}{name}.", depth + 1)


def _all_tags(model: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    _, owner, last = _place(model, loc)
    members = models_of(owner.model_fields[last].annotation) if owner and last in owner.model_fields else []
    tags = sorted({str(v) for m in members for name in m.model_fields for v in literal_values(m, name)})
    return f"Allowed: {', '.join(tags)}." if tags else ""


def _meaning(owner: type[BaseModel] | None, name: str) -> str:
    field = owner.model_fields.get(name) if owner else None
    return f"It is needed: {field.description}" if field and field.description else "It is needed and has no default."


def _found_and_allowed(owner: type[BaseModel] | None, name: str, fault: Any) -> str:
    found = repr(fault["input"])
    found = found if len(found) <= 60 else f"{found[:57]}..."
    context = fault.get("ctx", {})
    if fault["type"] in {"value_error", "assertion_error"}:
        message = str(context.get("error", fault["msg"]))
        return f"{message}" if isinstance(fault["input"], dict) else f"found {found}. {message}"
    allowed = allowed_range(owner, name) if owner else ""
    if fault["type"] == "literal_error":
        values = list(literal_values(owner, name)) if owner and name in owner.model_fields else []
        hint = did_you_mean(str(fault["input"]), [str(v) for v in values]) if values else ""
        listed = allowed or f"one of {context.get('expected')}"
        return f"found {found}; allowed is {listed}." + (f" {hint}" if hint.startswith("Did you") else "")
    wanted = _KINDS.get(fault["type"], "")
    both = ", ".join(part for part in (wanted, allowed or _context_bounds(context)) if part)
    return f"found {found}; allowed is {both}." if both else f"found {found}. {fault['msg']}."


def _bounds(metadata: list[Any]) -> str:
    parts = []
    for mark in metadata:
        parts += [f"{word}{getattr(mark, name)}" for name, word in _BOUNDS if getattr(mark, name, None) is not None]
        parts += [
            f"{word}{getattr(mark, name)} long" for name, word in _LENGTHS if getattr(mark, name, None) is not None
        ]
    return " and ".join(parts)


def _context_bounds(context: Mapping[str, Any]) -> str:
    return " and ".join(f"{word}{context[name]}" for name, word in _BOUNDS if name in context)


def _joined(sentences: list[str]) -> str:
    """Return the sentences about one key as one: the members of a union each complain of the same value."""
    unique = list(dict.fromkeys(sentences))
    marker = "; allowed is "
    if len(unique) > 1 and all(marker in sentence for sentence in unique):
        found = unique[0].split(marker)[0]
        return f"{found}{marker}" + ", or ".join(s.split(marker)[1].rstrip(".") for s in unique) + "."
    return " ".join(unique)


def _origin(key: str, origins: Mapping[str, str]) -> str:
    """Return where the wrong value came from, when that is not plainly the class's own default."""
    parts = key.split("[")[0].split(".")
    for end in range(len(parts), 0, -1):
        origin = origins.get(".".join(parts[:end]))
        if origin:
            return "" if origin == "default" else f"from {origin}"
    below = [origin for known, origin in origins.items() if known.startswith(f"{key}.")]
    return f"from {below[0]}" if below and below[0] != "default" else ""
