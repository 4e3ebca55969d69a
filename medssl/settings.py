"""Strict typed settings: YAML presets, ``key=value`` overrides, all errors at once, and the origin of each value."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from medssl.errors import ConfigError
from medssl.local_places import remote_fault
from medssl.plain_yaml import YAMLError, read_yaml
from medssl.presets import find_preset, preset_folder
from medssl.setting_choices import drop_stale_keys, tags_of
from medssl.setting_errors import describe, literal_values, models_of

__all__ = [
    "Auto",
    "Resolved",
    "Settings",
    "dump_with_origins",
    "flatten",
    "found_places",
    "load_yaml",
    "resolve",
]

_COMMAND_LINE = "command line"
_REFERENCE = re.compile(r"\$\{[\w.:\[\]]+\}")


class Settings(BaseModel):
    """Root of every settings class: frozen, and a key it does not know is an error.

    A subclass that belongs to a verb names it in ``verb``, so that a preset's bare name is looked for in
    ``configs/<verb>/``. Nested settings are fields whose type is another ``Settings``; a choice between kinds is a
    union with ``Field(discriminator="name")`` whose members have ``name: Literal[...]``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, coerce_numbers_to_str=True)

    verb: ClassVar[str] = ""

    @classmethod
    def as_recorded(cls, layer: dict[str, Any]) -> dict[str, Any]:
        """Return what a run.yaml holds, with what its release had no setting for and a later default changed."""
        return layer


S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Auto:
    """A value that the program chose, with the reason that the user is shown. Allowed as a leaf of ``defaults``."""

    value: Any
    reason: str


@dataclass(frozen=True)
class Resolved(Generic[S]):
    """Settings and the origin of each value.

    Attributes:
        settings: The validated settings.
        origins: Dotted key -> ``default``, ``preset NAME``, ``file PATH``, ``command line`` or ``auto (reason)``, one
            entry for each key of ``flatten(settings)``.
        dropped: Dotted key of a group whose choice (``name``) was replaced over a lower layer -> keys of that layer
            that the new choice does not know and that were left out.
    """

    settings: S
    origins: dict[str, str]
    dropped: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def with_auto(self, key: str, value: Any, reason: str) -> Resolved[S]:
        """Return a copy where ``key`` (dotted) holds ``value``, chosen by the program for ``reason``.

        Raises:
            ConfigError: The value does not fit the settings.
        """
        given = _nested(flatten(self.settings))
        _plant(given, key.split("."), value)
        origins = {k: v for k, v in self.origins.items() if v != "default"} | {key: f"auto ({reason})"}
        settings = _validated(type(self.settings), given, origins, {})
        return replace(self, settings=settings, origins=_origins_of(settings, origins))


def resolve(
    cls: type[S],
    *,
    preset: str | Path | None = None,
    overrides: Sequence[str] = (),
    defaults: Mapping[str, Any] | None = None,
    command_line: Mapping[str, Any] | None = None,
) -> Resolved[S]:
    """Return the settings of ``cls`` from its defaults, a preset and overrides, in rising order of say.

    Where a layer names another choice than the one below it (``encoder.name=timm`` over a preset of a U-Net), keys of
    the old choice that the new one does not know are left out; see ``Resolved.dropped``.

    Args:
        cls: The settings class.
        preset: A preset's name or a YAML file; None for the class's defaults.
        overrides: ``key=value`` with a dotted key; the value is read as YAML and typed by the settings class.
        defaults: Nested or dotted values below the preset; a leaf may be an ``Auto``.
        command_line: Nested or dotted values above all others: what was given as an option such as ``--out``. Entries
            that are None are left out.

    Raises:
        ConfigError: Names every wrong key at once, with what was found, what is allowed and the nearest known key.
    """
    data: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for key, value in flatten(defaults or {}).items():
        chosen = value if isinstance(value, Auto) else Auto(value, "")
        _plant(data, key.split("."), _text_of(chosen.value))
        origins[key] = f"auto ({chosen.reason})" if chosen.reason else "default"
    if preset is not None:
        path = find_preset(preset, cls.verb)
        shipped = preset_folder() in path.resolve().parents
        layer = load_yaml(path)
        if path.name == "run.yaml":  # a run keeps places as seen from its own folder
            layer = cls.as_recorded(layer)
            for key, value in found_places(layer, path.parent).items():
                _plant(layer, key.split("."), value)
        _drop_stale_keys(cls, data, origins, layer)
        _overlay(data, origins, layer, f"preset {path.stem}" if shipped else f"file {path}")
    raw, faults = _read_overrides(overrides)
    options = {key: _text_of(value) for key, value in flatten(command_line or {}).items() if value is not None}
    given = {key: value for key, (value, _) in raw.items()} | options
    dropped = _drop_stale_keys(cls, data, origins, _nested(flatten(_nested(given))))
    for key, (value, _) in raw.items():
        _overlay(data, origins, _nested({key: value}), _COMMAND_LINE)
    _overlay(data, origins, _nested(options), _COMMAND_LINE)
    texts = {key: text for key, (value, text) in raw.items() if not isinstance(value, str)}
    settings = _validated(cls, data, origins, texts, faults)
    return Resolved(settings, _origins_of(settings, origins), dropped)


def _text_of(value: Any) -> Any:
    """Return a place as text, which is what settings hold; all else as it is."""
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def flatten(value: Mapping[str, Any] | BaseModel, prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested settings by dotted key; lists, tuples and empty mappings are leaves.

    Example:
        >>> flatten({"train": {"steps": 3}, "name": "a"})
        {'train.steps': 3, 'name': 'a'}
    """
    items = {name: getattr(value, name) for name in type(value).model_fields} if isinstance(value, BaseModel) else value
    leaves: dict[str, Any] = {}
    for key, inner in items.items():
        nests = isinstance(inner, BaseModel) or (isinstance(inner, Mapping) and inner)
        leaves |= flatten(inner, f"{prefix}{key}.") if nests else {f"{prefix}{key}": inner}
    return leaves


def found_places(settings: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Return the kept settings, by dotted key, that name places as seen from the run's folder, as seen from here.

    Args:
        settings: What the run kept, nested.
        folder: The run.
    """
    found = {}
    for key, value in flatten(settings).items():
        if isinstance(value, str) and value.startswith(".."):
            place = Path(os.path.normpath(folder / value))
            if place.exists():
                found[key] = str(place)
    return found


def dump_with_origins(resolved: Resolved[Any], kept: Callable[[Any], Any] = lambda values: values) -> str:
    """Return the settings as YAML that loads again, each value's line ending with ``# origin``.

    Above a group whose choice was replaced stands what was left out of the layer below.

    Args:
        resolved: The settings.
        kept: From all values to what is written of them.
    """
    values = kept(resolved.settings.model_dump(mode="json"))
    return "\n".join(_yaml_lines(values, resolved.origins, "", 0, resolved.dropped)) + "\n"


def load_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises:
        ConfigError: The file cannot be read, or does not hold a mapping.
    """
    try:
        loaded = read_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, YAMLError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: holds a {type(loaded).__name__}; settings are a mapping of keys to values.")
    return {str(key): value for key, value in loaded.items()}


def _read_overrides(overrides: Sequence[str]) -> tuple[dict[str, tuple[Any, str]], list[str]]:
    """Return key -> (value as YAML, value as typed), and a sentence for each override that is none."""
    read: dict[str, tuple[Any, str]] = {}
    faults: list[str] = []
    for override in overrides:
        key, equals, text = override.partition("=")
        key = key.strip().lstrip("-")
        if not equals or not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z0-9_\-]+)*", key):
            faults.append(f"{override!r}: not an override. Write key=value with a dotted key, such as train.steps=500.")
            continue
        try:
            read[key] = (read_yaml(text) if text else "", text)
        except (ValueError, RecursionError, YAMLError):
            read[key] = (text, text)  # not YAML: then it is text, and the settings class says whether text will do
    return read, faults


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted keys as nested dictionaries."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        _plant(nested, key.split("."), value)
    return nested


def _plant(data: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set ``value`` at ``path``; what stood in the way and is no mapping is replaced."""
    for part in path[:-1]:
        inner = data.get(part)
        if not isinstance(inner, dict):
            inner = data[part] = {}
        data = inner
    data[path[-1]] = value


def _overlay(data: dict[str, Any], origins: dict[str, str], layer: Mapping[str, Any], origin: str) -> None:
    """Put a layer over ``data`` in place; a leaf replaces whatever was below it, and its origins."""
    for key, value in flatten(layer).items():
        for old in [known for known in origins if known == key or known.startswith(f"{key}.")]:
            del origins[old]
        _plant(data, key.split("."), value)
        origins[key] = origin


def _drop_stale_keys(
    cls: type[Settings], data: dict[str, Any], origins: dict[str, str], layer: Mapping[str, Any]
) -> dict[str, tuple[str, ...]]:
    """Drop what a layer's choices do not know of the layers below, and its origins."""
    dropped = drop_stale_keys(cls, data, layer)
    for key in (f"{group}.{key}" for group, keys in dropped.items() for key in keys):
        for old in [known for known in origins if known == key or known.startswith(f"{key}.")]:
            del origins[old]
    return dropped


def _validated(
    cls: type[S],
    data: dict[str, Any],
    origins: Mapping[str, str],
    texts: Mapping[str, str],
    faults: Sequence[str] = (),
) -> S:
    """Validate; an override whose YAML value fails is tried again as the text that was typed (``on`` for a string)."""
    referring = [key for key, value in flatten(data).items() if isinstance(value, str) and _REFERENCE.search(value)]
    faults = [
        *faults,
        *(f"{key}: refers to another setting by ${{...}}, which is not read. Write the value." for key in referring),
        *(
            f"{key}: {fault}"
            for key, value in flatten(data).items()
            for one in (value if isinstance(value, list | tuple) else [value])
            if (fault := remote_fault(one))
        ),
    ]
    filled = _over_defaults(cls, copy.deepcopy(data))
    sentences, settings = _attempt(cls, filled, origins)
    if sentences and texts:
        for key, text in texts.items():
            if any(sentence.startswith(f"{key}:") for sentence in sentences):
                _plant(filled, key.split("."), text)
        again, settings_again = _attempt(cls, filled, origins)
        sentences, settings = (again, settings_again) if len(again) < len(sentences) else (sentences, settings)
    everything = [*faults, *sentences]
    if everything or settings is None:
        count = "1 error" if len(everything) == 1 else f"{len(everything)} errors"
        raise ConfigError(
            f"{count} in the settings of {cls.verb or cls.__name__}:\n" + "\n".join(f"  {s}" for s in everything)
        )
    return settings


def _attempt(cls: type[S], data: dict[str, Any], origins: Mapping[str, str]) -> tuple[list[str], S | None]:
    try:
        return [], cls.model_validate(data)
    except ValidationError as error:
        return describe(cls, error, origins), None


def _over_defaults(model: type[BaseModel], data: dict[str, Any]) -> dict[str, Any]:
    """Put nested data over a field's default instance, so that one given key does not reset its neighbours.

    Pydantic would build the nested model from the given keys and the class's own defaults, and would ask for the
    discriminator of a union again; a user who sets ``train.lr`` means the rest of the default ``train`` to stay.
    """
    filled = dict(data)
    for name, entry in model.model_fields.items():
        inner = filled.get(name)
        if not isinstance(inner, dict):
            continue
        default = None if entry.default_factory_takes_validated_data else entry.get_default(call_default_factory=True)
        same_kind = isinstance(default, BaseModel) and all(
            inner.get(tag, getattr(default, tag)) == getattr(default, tag) for tag in tags_of(type(default))
        )
        if isinstance(default, BaseModel) and same_kind:
            tags = {tag: getattr(default, tag) for tag in tags_of(type(default))}
            base = {key: getattr(default, key) for key in default.model_fields_set}
            filled[name] = _over_defaults(type(default), _merged(base | tags, inner))
            continue
        for member in models_of(entry.annotation):
            if all(tag not in inner or inner[tag] in literal_values(member, tag) for tag in tags_of(member)):
                filled[name] = _over_defaults(member, inner)
                break
    return filled


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested mappings joined, ``above`` winning; models below are opened only where something lies above."""
    joined = dict(below)
    for key, value in above.items():
        under = joined.get(key)
        if isinstance(value, dict) and isinstance(under, BaseModel):
            under = {name: getattr(under, name) for name in under.model_fields_set | set(tags_of(type(under)))}
        joined[key] = _merged(under, value) if isinstance(value, dict) and isinstance(under, dict) else value
    return joined


def _origins_of(settings: Settings, origins: Mapping[str, str]) -> dict[str, str]:
    """Return an origin for every leaf: its own, else its nearest ancestor's, else ``default``."""
    complete: dict[str, str] = {}
    for key in flatten(settings):
        parts = key.split(".")
        lineage = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
        complete[key] = next((origins[name] for name in lineage if name in origins), "default")
    return complete


def _yaml_lines(
    data: Mapping[str, Any],
    origins: Mapping[str, str],
    prefix: str,
    depth: int,
    dropped: Mapping[str, tuple[str, ...]],
) -> Iterator[str]:
    import yaml

    indent = "  " * depth
    for key, value in data.items():
        full = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            if full in dropped:
                yield f"{indent}# left out, for {value.get('name')!r} has none: {', '.join(dropped[full])}"
            yield f"{indent}{key}:"
            yield from _yaml_lines(value, origins, f"{full}.", depth + 1, dropped)
            continue
        text = yaml.safe_dump(value, default_flow_style=True, width=10**9, allow_unicode=True)
        text = text.removesuffix("...\n").strip()
        origin = " ".join(origins.get(full, "default").split())
        yield f"{indent + key + ': ' + text:<47} # {origin}"
