"""A table of things to choose from by name: what each is, and the two ways from a name to the thing.

Rows hold dotted paths, so that listing a table imports nothing heavy.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from medssl.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from medssl.settings import Settings

__all__ = ["Choice", "Choices"]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One row.

    Attributes:
        target: Dotted path of the class; its constructor takes its settings first.
        settings: Dotted path of its settings class, whose ``name`` is the row's.
        paper: Where it was published.
        when: When to take it.
        needs: What it asks of the data or of other choices; "" where nothing.
    """

    target: str
    settings: str
    paper: str
    when: str
    needs: str = ""


class Choices(dict[str, Choice]):
    """Rows by name.

    Args:
        kind: What a row is, for messages: "cloud encoder".
        rows: The rows.
    """

    def __init__(self, kind: str, rows: Mapping[str, Choice]) -> None:
        super().__init__(rows)
        self.kind = kind

    def row(self, name: str) -> Choice:
        """Return the row called ``name``.

        Raises:
            ConfigError: There is none.
        """
        if name not in self:
            raise ConfigError(f"There is no {self.kind} '{name}'. {did_you_mean(name, self)}")
        return self[name]

    def settings_class(self, name: str) -> type[Settings]:
        """Return the settings class of the row called ``name``.

        Raises:
            ConfigError: There is none.
        """
        found: type[Settings] = _load(self.row(name).settings)
        return found

    def settings_union(self) -> Any:
        """Return the annotated union of all rows' settings, told apart by ``name``; a pydantic field's type."""
        from pydantic import Field

        return Annotated[reduce(or_, (self.settings_class(name) for name in self)), Field(discriminator="name")]

    def validated(self, values: Mapping[str, Any]) -> Settings:
        """Return the settings that a mapping with a ``name`` gives.

        Raises:
            ConfigError: The name is missing or unknown, or a setting is unknown or out of range.
        """
        from pydantic import ValidationError

        from medssl.setting_errors import describe

        if "name" not in values:
            raise ConfigError(f"The {self.kind} has no name. Allowed: {', '.join(self)}. Add 'name' to its settings.")
        cls = self.settings_class(str(values["name"]))
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            faults = " ".join(describe(cls, error, {}))
            raise ConfigError(f"The {self.kind} '{values['name']}' cannot be built. {faults}") from error

    def build(self, settings: Settings | Mapping[str, Any], *more: Any) -> Any:
        """Return a fresh thing.

        Args:
            settings: The settings of a row, or the same as a mapping with its ``name``.
            more: What else its constructor takes.

        Raises:
            ConfigError: The name is unknown, or a setting is unknown or out of range.
        """
        if isinstance(settings, Mapping):
            settings = self.validated(settings)
        return _load(self.row(str(getattr(settings, "name", type(settings).__name__))).target)(settings, *more)


def _load(path: str) -> Any:
    module, _, attribute = path.rpartition(".")
    return getattr(importlib.import_module(module), attribute)
