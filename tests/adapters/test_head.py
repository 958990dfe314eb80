"""Scores of half precision are kept as they are summed, so that close words do not tie."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from emu2eval.adapters.local import head

WORDS, WIDTH = 500, 64
HALF = torch.bfloat16


def made(bias: bool = False, dtype: torch.dtype = HALF) -> tuple[nn.Linear, Any]:
    """A head whose largest scores lie between 16 and 32, and a model that has it."""
    torch.manual_seed(0)
    linear = nn.Linear(WIDTH, WORDS, bias=bias)
    with torch.no_grad():
        linear.weight.normal_()
    return linear.to(dtype), SimpleNamespace(get_output_embeddings=lambda: linear.to(dtype))


def hidden(*shape: int, dtype: torch.dtype = HALF) -> Tensor:
    return torch.randn(*shape, WIDTH, generator=torch.Generator().manual_seed(1)).to(dtype)


def exact(given: Tensor, linear: nn.Linear) -> Tensor:
    bias = 0 if linear.bias is None else linear.bias.double()
    return given.double() @ linear.weight.double().T + bias


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", head.HALF)
def test_ties_vanish(bias: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        head, "BLOCK", 4 * WIDTH * 70
    )  # eight blocks of words, the last one shorter
    linear, model = made(bias, dtype)
    given = hidden(3, 4, dtype=dtype)
    with torch.inference_mode():
        plain = linear(given)
        with head.exact_scores(model, keep=2):
            found = linear(given)
    assert (found.dtype, found.shape) == (torch.float32, (3, 2, WORDS))
    assert found.double().sub(exact(given, linear)[:, 2:]).abs().max() < 1e-4
    likely = found[0, -1].topk(100)
    assert 16 < float(likely.values.max()) < 32
    assert len(set(likely.values.tolist())) == 100
    if dtype == HALF:
        assert len(set(plain[0, -1, likely.indices].tolist())) < 80


def test_float32_is_left_as_it_is() -> None:
    linear, model = made(dtype=torch.float32)
    with head.exact_scores(model, keep=1):
        assert "forward" not in vars(linear)
        assert linear(hidden(2, 3, dtype=torch.float32)).shape == (2, 3, WORDS)


class Adapted(nn.Linear):
    """As PEFT's layers are."""


@pytest.mark.parametrize("found", [None, Adapted(WIDTH, WORDS).to(HALF), nn.Identity()])
def test_other_heads_are_left_alone(found: Any) -> None:
    with head.exact_scores(SimpleNamespace(get_output_embeddings=lambda: found), keep=1):
        assert found is None or "forward" not in vars(found)


def test_a_head_is_given_back_as_it_was() -> None:
    linear, model = made()
    given = hidden(2)
    plain = linear(given)
    with pytest.raises(ZeroDivisionError), head.exact_scores(model, keep=1):
        assert linear(given).dtype == torch.float32
        raise ZeroDivisionError
    assert "forward" not in vars(linear)
    assert torch.equal(linear(given), plain)


def test_a_head_with_a_hook_keeps_it() -> None:
    """accelerate's moves what the head is given, and brings weights that are offloaded."""
    from accelerate.hooks import ModelHook, add_hook_to_module

    class Counted(ModelHook):
        calls = 0

        def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
            self.calls += 1
            return args, kwargs

    linear, model = made()
    hook = Counted()
    add_hook_to_module(linear, hook)
    with head.exact_scores(model, keep=1), torch.inference_mode():
        found = linear(hidden(2))
    assert hook.calls == 1
    assert found.double().sub(exact(hidden(2), linear)).abs().max() < 1e-4
    with torch.inference_mode():
        assert linear(hidden(2)).dtype == HALF
