"""Fewest GPUs a replica, and the largest batch, whatever plans them; and what prompts are like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from emu2eval.adapters.memory import (
    Device,
    DeviceUse,
    MemoryPlan,
    Workload,
    expected,
    fewest,
    largest,
)
from emu2eval.errors import DoesNotFit
from emu2eval.testing import ScriptedModel
from emu2eval.types import ChoiceOutput, TextOutput

OWN = 4
"""The batch of the model below where none is asked for."""


def plan(workload: Workload, memory: Mapping[Device, int]) -> MemoryPlan:
    """A model of 100 bytes, and 10 for each request, in even shares."""
    batch = workload.batch or OWN
    share = (100 + 10 * batch) / len(memory)
    if any(share > size for size in memory.values()):
        raise DoesNotFit(f"batch {batch} does not fit")
    uses = tuple(DeviceUse(d, int(share), 0, 0, 0, size) for d, size in memory.items())
    return MemoryPlan(uses, "float32", 10, 1, batch, 1)


@pytest.mark.parametrize(
    "devices, batch, found",
    [
        ([150], None, (1, 1, 4)),
        ([190], None, (1, 1, 8)),
        ([190] * 8, None, (1, 8, 8)),
        ([100] * 8, None, (2, 4, 8)),
        ([75] * 7, None, (2, 3, 4)),
        # The smallest of unequal ones, since any may be given to a replica.
        ([75, 1000, 1000, 1000], None, (2, 2, 4)),
        # Where the usual batch fits nowhere, a smaller one does.
        ([120], None, (1, 1, 2)),
        ([65, 65], 1, (2, 1, 1)),
        ([100] * 4, 20, (3, 1, 20)),
        ([10_000], None, (1, 1, 256)),
    ],
)
def test_the_fewest_gpus(devices: list[int], batch: int | None, found: tuple[int, ...]) -> None:
    fit = fewest(plan, Workload(batch=batch), devices)
    assert fit is not None
    assert (fit.gpus, fit.replicas, fit.batch) == found
    assert len(fit.memory.devices) == fit.gpus and fit.memory.batch == fit.batch


def test_what_fits_nowhere_or_is_not_planned() -> None:
    with pytest.raises(DoesNotFit, match="batch 1 does not fit"):
        fewest(plan, Workload(), [20, 20])
    with pytest.raises(DoesNotFit, match="batch 9 does not fit"):
        fewest(plan, Workload(batch=9), [90, 90])
    assert fewest(lambda workload, memory: None, Workload(), [20]) is None
    assert fewest(plan, Workload(), []) is None
    fit = fewest(plan, Workload(), [190] * 8, exactly=4)
    assert fit is not None and (fit.gpus, fit.replicas, fit.batch) == (4, 2, 64)
    # An adapter that plans nothing takes no GPU that could be counted.
    assert ScriptedModel("red").fit_replicas([20]) is None


def test_no_more_is_moved_off_the_gpus_for_a_larger_batch() -> None:
    whole = plan(Workload(batch=1), {0: 200})
    moved = replace(whole, batch=2, offloaded=("cpu",))
    assert largest(lambda batch: moved, whole) == whole


def test_what_prompts_are_like() -> None:
    asked = [(80, TextOutput(10)), (100, TextOutput(20, beams=3)), (90, ChoiceOutput(("a", "b")))]
    assert expected(asked) == Workload(positions=125, new_tokens=20)
    assert expected(asked[1:]) == Workload(positions=125, new_tokens=20, beams=3)
    assert expected(asked, most=110, room=8) == Workload(positions=110, new_tokens=28)
    assert expected([*asked, (None, TextOutput())]) is None and expected([]) is None
