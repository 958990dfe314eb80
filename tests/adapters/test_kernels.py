"""Kernels that give the sums of attention: compared before they are used, replaced where they are wrong."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from emu2eval.adapters.local import attention, kernels
from emu2eval.adapters.local.kernels import Attended, Kernel

CPU = kernels.KERNELS[0]
HERE = torch.device("cpu")


def asked(dtype: torch.dtype = torch.float32, width: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    query, keys, values = (
        torch.randn(2, 3, n, width, generator=random).to(dtype) for n in (4, 9, 9)
    )
    return query, keys, values


def changed(by: float) -> Kernel:
    """Its sums are wrong, as they would be in another base or of another scale."""

    def run(
        query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float, causal: bool
    ) -> Attended:
        seen, sums = CPU.run(query, keys, values, mask, scale, causal)
        return seen, sums * by

    return replace(CPU, name="bent", run=run)


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> list[Kernel]:
    """The kernels that there are, none of them compared yet."""
    found: list[Kernel] = []
    monkeypatch.setattr(kernels, "KERNELS", found)
    monkeypatch.setattr(kernels, "_RIGHT", {})
    return found


@pytest.mark.parametrize("dtype", kernels.APART)
@pytest.mark.parametrize("width", [12, 80])
def test_the_processors_own_kernel_is_right(dtype: torch.dtype, width: int) -> None:
    assert kernels.is_right(CPU, HERE, dtype, width)
    assert kernels.is_right(replace(CPU, run=kernels.scored), HERE, dtype, width)


def test_a_wrong_kernel_is_told_and_not_used(only: list[Kernel]) -> None:
    only.append(changed(1.4427))
    with pytest.warns(UserWarning, match="bent attention is wrong by .* is not used"):
        assert kernels.right(asked()[0]) == ()
    # Once is enough: a second warning would be an error here.
    found = kernels.part(*asked(), None, 0.3)
    assert all(map(torch.equal, found, kernels.scored(*asked(), None, 0.3)))


def test_numbers_that_are_none_are_wrong(only: list[Kernel]) -> None:
    only.append(changed(float("nan")))
    with pytest.warns(UserWarning, match="bent"):
        assert not kernels.right(asked()[0])


def test_a_kernel_that_does_not_run_makes_way(only: list[Kernel]) -> None:
    """As flash attention on a card that is too old for it."""

    def run(*_: object) -> Attended:
        raise RuntimeError("FlashAttention only supports Ampere GPUs or newer.")

    only.extend([replace(CPU, name="new", run=run), CPU])
    assert kernels.right(asked()[0]) == (CPU,)
    assert all(
        map(torch.equal, kernels.part(*asked(), None, 0.3), CPU.run(*asked(), None, 0.3, False))
    )


def test_a_kernel_that_takes_nothing_of_a_kind_is_none(only: list[Kernel]) -> None:
    """As CUDA's of float64: long prompts are joined, though no kernel is wrong."""
    only.append(replace(CPU, takes=lambda *_: False))
    assert kernels.right(asked()[0]) == ()


def test_where_no_kernel_is_right_long_prompts_are_joined(only: list[Kernel]) -> None:
    """The scores of all their queries would take more than a copy of the keys."""
    long, short = torch.zeros(1, 2, 40, 8), torch.zeros(1, 2, 1, 8)
    assert attention._joins(long) and not attention._joins(short)
    only.append(CPU)
    kernels._RIGHT.clear()
    assert not attention._joins(long)


@pytest.mark.parametrize("width", [12, 16])
@pytest.mark.parametrize("causal", [False, True])
def test_heads_of_odd_width_get_zeros(width: int, causal: bool) -> None:
    query, keys, values = asked(torch.bfloat16, width)
    given = (keys[:, :, :4], values[:, :, :4], None, 0.3, causal)
    seen, sums = kernels.widened(CPU.run, query, *given)
    assert seen.shape == query.shape
    plain = CPU.run(query, *given)
    assert torch.allclose(seen, plain[0], atol=0.02)
    assert torch.allclose(sums, plain[1], atol=1e-4)


@pytest.mark.parametrize("run", [kernels._flash, kernels._efficient])
@pytest.mark.parametrize("width", [12, 80])
def test_cudas_operators_are_called_as_they_are_declared(
    run: partial[Attended], width: int
) -> None:
    """Without a GPU the shapes of their results are known: on the meta device."""
    query, keys, values = (each.to("meta") for each in asked(torch.bfloat16, width))
    masks = [None] if run is kernels._flash else [None, torch.empty(2, 1, 4, 9, device="meta")]
    for mask in masks:
        seen, sums = kernels.widened(run, query, keys, values, mask, 0.3, False)
        assert (seen.shape, seen.dtype) == (query.shape, torch.bfloat16)
        assert (sums.shape, sums.dtype) == ((2, 3, 4), torch.float32)


def test_which_kernel_takes_what() -> None:
    """CUDA's: flash attention without a mask in half precision, the other for all but float64."""
    _, flash, efficient = kernels.KERNELS
    query, _, values = asked(torch.bfloat16)
    assert flash.takes(query, values, None) and not flash.takes(query, values, query)
    assert not flash.takes(query, values[..., :4], None)
    assert efficient.takes(query.float(), values.float(), query)
    assert not flash.takes(query.float(), values.float(), None)
    assert not efficient.takes(query.double(), values.double(), None)
