"""The one table of things to choose from by name: what each is, and the ways from a name to the thing.

Methods, encoders, tasks, strategies, formats and verbs are rows of such tables. Rows hold dotted paths, so that listing
a table imports nothing heavy.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

from medssl.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from medssl.settings import Settings

__all__ = ["Row", "Table"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One thing to choose.

    Attributes:
        name: What it is chosen by.
        target: Dotted path of the thing: a class whose constructor takes its settings first, a function, or a module.
        settings: Dotted path of its settings class, whose ``name`` is the row's; "" where it has none.
        paper: Where it was published; "" where nowhere.
        take_when: When to take it.
        needs: What it asks of the data or of other choices; "" where nothing.
    """

    name: str
    target: str
    settings: str = ""
    paper: str = ""
    take_when: str = ""
    needs: str = ""


R = TypeVar("R", bound=Row)


class Table(dict[str, R], Generic[R]):
    """Rows by name, in the order given.

    Args:
        kind: What a row is, for messages: "method".
        rows: The rows; no two have the same name.
    """

    def __init__(self, kind: str, rows: Iterable[R]) -> None:
        rows = tuple(rows)
        super().__init__((row.name, row) for row in rows)
        assert len(self) == len(rows), f"two rows of the table of {kind}s have the same name"
        self.kind = kind

    def row(self, name: str) -> R:
        """Return the row called ``name``.

        Raises:
            ConfigError: There is none.
        """
        if name not in self:
            raise ConfigError(f"There is no {self.kind} '{name}'. {did_you_mean(name, self)}")
        return self[name]

    def load(self, name: str) -> Any:
        """Import the thing called ``name`` and return it.

        Raises:
            ConfigError: There is none.
        """
        return pkgutil.resolve_name(self.row(name).target)

    def settings_class(self, name: str) -> type[Settings]:
        """Import the settings class of the row called ``name`` and return it.

        Raises:
            ConfigError: There is no such row, or it takes no settings.
        """
        row = self.row(name)
        if not row.settings:
            raise ConfigError(f"The {self.kind} '{name}' takes no settings.")
        found: type[Settings] = pkgutil.resolve_name(row.settings)
        return found

    def settings_union(self, *, but: Iterable[str] = ()) -> Any:
        """Return the annotated union of the rows' settings, distinguished by ``name``; a pydantic field's type.

        Args:
            but: Names of rows that are left out.
        """
        from pydantic import Field

        classes = (self.settings_class(name) for name in self if name not in set(but))
        return Annotated[reduce(or_, classes), Field(discriminator="name")]

    def settings_of(self, values: Mapping[str, Any]) -> Settings:
        """Return the settings that ``values`` name (as in a preset or a card), those left out at their defaults.

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
            settings = self.settings_of(settings)
        return self.load(str(getattr(settings, "name", type(settings).__name__)))(settings, *more)
