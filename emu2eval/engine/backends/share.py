"""How a cluster is shared out among replicas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Node(NamedTuple):
    """A machine of a cluster."""

    cores: int
    gpus: int = 0


def room(nodes: Sequence[Node], *, gpus: int, cores: int) -> int:
    """How many replicas there is room for at a time, each with so many GPUs and cores of one node.

    >>> room([Node(16, 8), Node(16, 4)], gpus=2, cores=4)
    6
    """
    return sum(
        min(node.cores // max(1, cores), node.gpus // gpus if gpus else node.cores)
        for node in nodes
    )


def cores_each(nodes: Sequence[Node], replicas: int, *, gpus: int) -> int:
    """The most cores that each can have so that all find room; one where they do not all find any.

    >>> cores_each([Node(8), Node(8)], 3, gpus=0)
    4
    """
    most = max((node.cores for node in nodes), default=1)
    fitting = (c for c in range(most, 0, -1) if room(nodes, gpus=gpus, cores=c) >= replicas)
    return next(fitting, 1)


def as_many(nodes: Sequence[Node], *, gpus: int) -> int:
    """Replicas that keep every GPU busy; where they need none, one a machine, since each takes all cores."""
    if gpus:
        return max(1, sum(node.gpus // gpus for node in nodes))
    return max(1, len(nodes))
