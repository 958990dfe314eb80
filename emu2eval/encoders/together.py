"""Several images or texts through an encoder at once, without any of them changing another's last bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

ROWS = 8
"""What goes through a network at once. A product of another shape may add up in another order: there are
always as many, and the number is part of the identity."""


def together(
    given: Sequence[tuple[torch.Tensor, ...]], run: Callable[..., torch.Tensor]
) -> torch.Tensor:
    """(n, width) of n items, each of which is a tensor for each argument of `run`, without a first axis.

    run: takes `ROWS` items stacked and gives (ROWS, width). Items of one shape go together; where there are
    too few, the last one fills the places that are left.
    """
    import torch

    alike: dict[tuple[torch.Size, ...], list[int]] = {}
    for place, item in enumerate(given):
        alike.setdefault(tuple(part.shape for part in item), []).append(place)
    found: dict[int, torch.Tensor] = {}
    for places in alike.values():
        for start in range(0, len(places), ROWS):
            some = places[start : start + ROWS]
            filled = [*some, *some[-1:] * (ROWS - len(some))]
            parts = (torch.stack(part) for part in zip(*(given[i] for i in filled), strict=True))
            found |= zip(some, run(*parts), strict=False)
    return torch.stack([found[place] for place in range(len(given))])
