"""Bounds of YAML, held on the stream of its events, before anything is built of it.

A few hundred bytes of aliases stand for billions of values, and brackets are followed by a recursion in C
that no exception stops.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

LARGEST = 1 << 20
"""Bytes of a file. The longest that is shipped has 20 KB."""

DEEPEST = 32
"""Mappings and lists inside each other."""

MOST = 50_000
"""Keys and values, with what aliases stand for counted each time."""

_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in "null bool int float str seq map".split())


class TooMuch(yaml.MarkedYAMLError):
    """The text is larger, deeper or more than anything that a person would write."""


def check(text: str, loader: Any) -> None:
    """Raises TooMuch for a text beyond the bounds, ConstructorError for a tag that is no plain value's.

    loader: the class whose parser reads the text. Raises yaml.YAMLError where it is malformed.
    """
    if len(text) > LARGEST:
        raise TooMuch(problem=f"it is larger than {LARGEST >> 20} MiB")
    open_nodes: list[_Node] = [_Node(None)]
    anchors: dict[str | None, _Node] = {}
    events: Iterator[Any] = yaml.parse(text, Loader=loader)
    for event in events:
        mark: Any = event.start_mark
        tag = getattr(event, "tag", None)
        if isinstance(event, yaml.CollectionEndEvent):
            node = open_nodes.pop()
            node.closed = True
            open_nodes[-1].take(node)
            _bound(open_nodes, node, mark)
            continue
        if isinstance(event, yaml.AliasEvent):
            known = anchors.get(event.anchor)
            if known is None:
                continue  # told when the document is built
            if not known.closed:
                raise TooMuch(problem=f"*{event.anchor} contains itself", problem_mark=mark)
            open_nodes[-1].take(known)
            _bound(open_nodes, known, mark)
        elif isinstance(event, yaml.NodeEvent):
            if tag is not None and tag not in _TAGS and tag != "!":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the tag {tag} is not for a plain value", mark
                )
            node = _Node(event.anchor)
            if node.anchor is not None:
                anchors[node.anchor] = node
            if isinstance(event, yaml.CollectionStartEvent):
                open_nodes.append(node)
            else:
                node.closed = True
                open_nodes[-1].take(node)
            _bound(open_nodes, node, mark)


class _Node:
    """count: of the values in it, itself included; depth: of the collections below it."""

    __slots__ = ("anchor", "closed", "count", "depth")

    def __init__(self, anchor: str | None):
        self.anchor = anchor
        self.closed = False
        self.count = 1
        self.depth = 0

    def take(self, other: _Node) -> None:
        self.count += other.count
        self.depth = max(self.depth, other.depth + 1)


def _bound(open_nodes: list[_Node], last: _Node, mark: Any) -> None:
    if len(open_nodes) + last.depth > DEEPEST:
        raise TooMuch(problem=f"it is nested more than {DEEPEST} levels deep", problem_mark=mark)
    if sum(node.count for node in open_nodes) > MOST:
        raise TooMuch(problem=f"it contains more than {MOST:,} values", problem_mark=mark)
