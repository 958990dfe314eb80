"""How often a token makes the host wait for its device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from emu2eval.adapters.local.search import Sampling, Search

from .conftest import Golden, golden_prompt, inference

READS = ("tolist", "cpu")
"""Methods of a tensor that bring it to the host; operations that do are counted by their names."""


class Waits(TorchDispatchMode):
    """Counts what would wait for a GPU within it: values that are read, shapes that values decide."""

    def __init__(self, patch: pytest.MonkeyPatch):
        super().__init__()
        self.count = 0
        for name in READS:
            patch.setattr(torch.Tensor, name, self._counted(getattr(torch.Tensor, name)))

    def _counted(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            before = self.count
            found = method(tensor, *args, **kwargs)
            # One copy, however many values are taken out of it.
            self.count = before + 1
            return found

        return call

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_truth = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if by_truth or name in ("_local_scalar_dense", "nonzero", "masked_select", "equal"):
            self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "search",
    [
        {},
        {"beams": 5},
        {"beams": 3, "repetition_penalty": 1.5},
        {"sampling": Sampling(1.0)},
    ],
    ids=["greedy", "beams", "penalty", "drawn"],
)
@pytest.mark.parametrize("reuse", [True, False])
def test_a_token_waits_once_whatever_the_batch(
    base: Golden, monkeypatch: pytest.MonkeyPatch, search: dict[str, Any], reuse: bool
) -> None:
    def waits(tokens: int, batch: int) -> int:
        prompts = [
            golden_prompt(base, [1, *range(300, 320), 500 + i, *[7] * (i % 3)], [])
            for i in range(batch)
        ]
        asked = inference(base, reuse)
        keys = [str(i) for i in range(batch)]
        with monkeypatch.context() as patch, Waits(patch) as waited:
            found = asked.texts(prompts, Search(tokens, tokens, **search), keys)
        assert {len(one.ids) for one in found} == {tokens}
        return waited.count

    few, many = waits(3, 8), waits(7, 8)
    assert many - few <= 4 * (2 if "sampling" in search else 1)
    assert waits(7, 2) <= many
