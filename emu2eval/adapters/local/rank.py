"""One of the processes that hold a model together, each a share of its weights (tensor parallelism).

A model's layers exchange partial sums, so all ranks must make the same passes in the same order. What could
part them is agreed on: images that one of them cannot read (`everywhere`), the scores that a word is chosen
by (`first_scores`), and what only the first can make, such as painted images (`by_first`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed.device_mesh import DeviceMesh

Made = TypeVar("Made")

_PATIENCE = timedelta(hours=2)
"""For the slowest rank, as in transformers: reading weights, or painting on the first alone, takes long.

That one has died is found out by the process that asks them all.
"""


@dataclass(frozen=True)
class Rank:
    """number: from 0; mesh: of torch, over all `count` ranks; words: a group that exchanges objects."""

    number: int
    count: int
    mesh: DeviceMesh
    words: Any

    def everywhere(self, errors: Mapping[int, str]) -> dict[int, str]:
        """What went wrong on any rank, by the number of a request; the first rank's word goes first."""
        import torch.distributed as dist

        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, dict(errors), self.words)
        return {i: error for each in reversed(found) for i, error in each.items()}

    def first_scores(self, scores: Tensor) -> Tensor:
        """The first rank's, so that rounding makes no two ranks choose differently."""
        import torch.distributed as dist

        scores = scores.contiguous()
        dist.broadcast(scores, 0, self.mesh.get_group())
        return scores

    def by_first(self, make: Callable[[], Made]) -> Made:
        """What the first rank makes, or raises; the others wait for it."""
        import torch.distributed as dist

        told: list[Any] = [None]
        if self.number == 0:
            try:
                told = [(make(), None)]
            except Exception as error:
                told = [(None, error)]
        dist.broadcast_object_list(told, 0, self.words)
        made, wrong = told[0]
        if wrong is not None:
            raise wrong
        found: Made = made
        return found


def joined(number: int, count: int, store: str) -> Rank:
    """This process as one of `count` ranks; returns when all are there."""
    import torch
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh

    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(0)  # the only one that it sees
    dist.init_process_group(
        "nccl" if gpu else "gloo",
        init_method=f"file://{store}",
        rank=number,
        world_size=count,
        timeout=_PATIENCE,
        device_id=torch.device("cuda", 0) if gpu else None,
    )
    mesh = init_device_mesh("cuda" if gpu else "cpu", (count,), mesh_dim_names=("tp",))
    return Rank(number, count, mesh, dist.new_group(backend="gloo", timeout=_PATIENCE))
