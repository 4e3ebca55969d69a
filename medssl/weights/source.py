"""A row of the table of published weights; nothing heavy is imported to list them."""

from __future__ import annotations

from dataclasses import dataclass

from medssl.table import Row

__all__ = ["FREE", "HUB", "MIT", "NC_ND", "Licence", "Source"]


@dataclass(frozen=True)
class Licence:
    """The licence of something, and what it forbids, as its makers state it: the user confirms it.

    Attributes:
        name: Its name.
        limits: Of "non-commercial", "no-derivatives", "share-alike", "own terms", "unknown".
    """

    name: str
    limits: tuple[str, ...] = ()


FREE = Licence("Apache-2.0")
MIT = Licence("MIT")
NC_ND = Licence("CC-BY-NC-ND-4.0", ("non-commercial", "no-derivatives"))
HUB = Licence("as its page says", ("unknown",))


@dataclass(frozen=True, kw_only=True)
class Source(Row):
    """One kind of published weights; ``target`` is the function that recognises it: (Found) -> Wanted or None.

    Attributes:
        title: What it is.
        trained_on: Which data, in a few words.
        code: Licence of the makers' code.
        weights: Licence of the weights.
        published: Where they are.
        encoder: What they become here.
        input: How the network wants its input, in words.
        proof: The test that holds it, and against what.
    """

    title: str
    trained_on: str
    code: Licence
    weights: Licence
    published: str
    encoder: str
    input: str
    proof: str
