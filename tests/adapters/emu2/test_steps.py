"""Steps over fixed memory: the answers of a cache that grows, and work that is alike from step to step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from emu2eval.adapters.emu2 import steps
from emu2eval.adapters.local.encoded import Encoded
from emu2eval.adapters.local.search import Sampling, Search

from .conftest import Golden, golden_batch, golden_prompt, inference

SEARCHES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "beams": {"beams": 5, "length_penalty": 0.0},
    "penalty": {"beams": 3, "repetition_penalty": 1.5, "min_new_tokens": 3},
    "drawn": {"sampling": Sampling(1.0)},
}


def asked(golden: Golden, graphs: bool, reuse: bool = False) -> Any:
    found = inference(golden, reuse)
    found.reader.graphs = graphs
    return found


def many(golden: Golden) -> list[Encoded]:
    image = [32001, *[32003] * 4, 32002]
    return [
        golden_prompt(golden, [1, *image, *range(300, 320), 500 + i, *[7] * (i % 3)], [0])
        for i in range(4)
    ]


@pytest.mark.parametrize("name", SEARCHES)
def test_answers_are_those_of_a_cache_that_grows(
    base: Golden, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(steps, "BLOCK", 3)
    search = Search(6, **SEARCHES[name])
    for prompts, reuse in ((golden_batch(base), False), (many(base), True)):
        keys = [str(i) for i in range(len(prompts))]
        fixed, growing = (asked(base, graphs, reuse) for graphs in (True, False))
        assert fixed.texts(prompts, search, keys) == growing.texts(prompts, search, keys)


def test_its_logits_are_close_at_every_step(base: Golden) -> None:
    prompts, beams = many(base), 3
    random = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        advances = []
        for graphs in (True, False):
            found = asked(base, graphs, reuse=True)
            found.reader.encoder.hold(prompts)
            shared = found.prefix.shared(prompts)
            rows = found.reader.rows(prompts, shared)
            cache, _ = found._read(rows, prompts, shared)
            advances.append(
                steps.Steps(base.model, cache, rows, beams, 5)
                if graphs
                else found.reader._growing(rows, cache, beams)
            )
        first = torch.arange(4).repeat_interleave(beams) * beams
        for _ in range(5):
            tokens = torch.randint(5, 400, (4 * beams,), generator=random)
            parents = first + torch.randint(beams, (4 * beams,), generator=random)
            fixed, growing = (advance(tokens, parents) for advance in advances)
            assert torch.allclose(fixed, growing, rtol=1e-4, atol=1e-5)


class Shapes(TorchDispatchMode):
    """The operations within it, with the shapes of what they are given and whether values were read."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, tuple[Any, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        shapes = tuple(tuple(each.shape) for each in args if isinstance(each, torch.Tensor))
        self.seen.append((func.overloadpacket.__name__, shapes))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("beams", [1, 5])
def test_every_step_is_the_same_work_in_the_same_memory(base: Golden, beams: int) -> None:
    prompts = many(base)
    with torch.inference_mode():
        found = asked(base, True)
        found.reader.encoder.hold(prompts)
        rows = found.reader.rows(prompts)
        cache, _ = found._read(rows, prompts, 0)
        advance = steps.Steps(base.model, cache, rows, beams, 6)
        tokens = torch.full((4 * beams,), 7)
        parents = torch.arange(4 * beams)
        work, memory = [], []
        for _ in range(6):
            with Shapes() as shapes:
                advance(tokens, parents)
            work.append(shapes.seen)
            memory.append([keys.data_ptr() for keys, _ in advance.answers.own])
    # The first sets memory aside.
    assert all(each == work[1] for each in work[2:]) and all(each == memory[0] for each in memory)
    names = {name for name, _ in work[1]}
    assert not names & {"_local_scalar_dense", "nonzero", "masked_select"}


def test_nothing_is_recorded_without_a_gpu(base: Golden) -> None:
    assert not steps.recordable(base.model)
