"""YAML as settings are written in it: plain values alone, numbers such as 1e-4 as numbers, no key twice."""

from __future__ import annotations

import re
from typing import Any

import yaml

__all__ = ["YAMLError", "read_yaml"]

YAMLError = yaml.YAMLError
_MOST_NODES = 100_000  # that aliases may stand for; a file of a few lines can ask for billions


class _Loader(yaml.SafeLoader):
    """The safe loader; a number may be written 1e-4, a date is a text, and no key may stand twice."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as yaml itself declares it
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":float"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_document(self, node: yaml.Node) -> Any:
        _count(node, {}, set())
        return super().construct_document(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag.endswith(":merge"):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} occurs twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"""^(?:[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?
        |[-+]?(?:[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)
        |\.[0-9_]+(?:[eE][-+][0-9]+)?
        |[-+]?\.(?:inf|Inf|INF)
        |\.(?:nan|NaN|NAN))$""",
        re.X,
    ),
    list("-+0123456789."),
)


def read_yaml(text: str) -> Any:
    """Return what a YAML text holds.

    Raises:
        YAMLError: It is no YAML, a key occurs twice, or aliases stand for too much.
    """
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader


def _count(node: yaml.Node, known: dict[yaml.Node, int], within: set[yaml.Node]) -> int:
    """Return how many nodes a node stands for."""
    if node in within:
        raise yaml.constructor.ConstructorError(None, None, "an alias stands for what holds it", node.start_mark)
    if node not in known:
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            parts = list(node.value)
        known[node] = 1 + sum(_count(part, known, within | {node}) for part in parts)
    if known[node] > _MOST_NODES:
        raise yaml.constructor.ConstructorError(None, None, "aliases stand for too much", node.start_mark)
    return known[node]
