"""Tensor parallelism: what can be split into how many ranks, and ranks that cannot start."""

from __future__ import annotations

import doctest
import os
import sys
from types import ModuleType

import pytest

from emu2eval.adapters.emu2.adapter import Emu2Adapter
from emu2eval.adapters.emu2.config import DecoderConfig
from emu2eval.adapters.emu2.settings import Emu2Settings
from emu2eval.adapters.local import parallel
from emu2eval.adapters.local.parallel import check_degree, degrees
from emu2eval.adapters.local.settings import LocalSettings
from emu2eval.adapters.local.team import Team
from emu2eval.adapters.memory import GIB, Workload
from emu2eval.errors import ConfigError, DoesNotFit, ModelError


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(parallel).failed == 0


def test_the_heads_say_into_how_many_ranks() -> None:
    config = DecoderConfig()
    assert degrees(config) == (2, 4, 13, 26, 52)
    check_degree(13, config, "BAAI/Emu2")
    with pytest.raises(
        ConfigError, match="52 attention heads cannot be split over 8 ranks"
    ) as raised:
        check_degree(8, config, "BAAI/Emu2")
    assert raised.value.hint == "tensor_parallel: 2 or 4 or 13 or 26 or 52"
    # Before anything is downloaded, which the engine does not do where a setting is wrong.
    lacking = Emu2Adapter(Emu2Settings(checkpoint="BAAI/Emu2", tensor_parallel=8)).lacks()
    assert str(raised.value) in map(str, lacking)


@pytest.mark.skipif(os.name != "posix", reason="ranks need POSIX")
def test_a_rank_that_cannot_start_is_told_by_its_last_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the real way of starting one: a program of its own."""
    module = ModuleType("only_known_here")
    kind = type("Kind", (), {"__module__": module.__name__})
    monkeypatch.setattr(module, "Kind", kind, raising=False)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    team = Team(kind, LocalSettings(checkpoint="x"), 1)
    told = "rank 0 of 1 of the model ended with status 1: ModuleNotFoundError: .*only_known_here"
    with pytest.raises(ModelError, match=told):
        team.start()
    assert team._ranks == []


def test_what_cannot_be_sent_to_ranks_is_refused() -> None:
    class Kind: ...

    with pytest.raises(ModelError, match="cannot be sent to them"):
        Team(Kind, LocalSettings(checkpoint="x"), 1).start()


def test_a_replica_takes_a_gpu_for_each_rank() -> None:
    """Emu2 over cards of 32 GiB, by fours: a quarter of the layers on each, and the whole encoder."""
    settings = Emu2Settings(checkpoint="BAAI/Emu2", dtype="bfloat16", tensor_parallel=4)
    adapter = Emu2Adapter(settings)
    adapter.workload = Workload(shots=4, batch=2)
    fit = adapter.fit_replicas([32 * GIB] * 9)
    assert fit is not None and (fit.gpus, fit.replicas, fit.batch) == (4, 2, 2)
    config = DecoderConfig()
    layer = 4 * config.hidden_size**2 + 3 * config.hidden_size * config.intermediate_size
    layer += 2 * config.hidden_size
    whole = Emu2Adapter(Emu2Settings(checkpoint="BAAI/Emu2", dtype="bfloat16"))
    (all_of_it,) = whole.plan_memory(adapter.workload, {0: 200 * GIB}).devices
    for use in fit.memory.devices:
        assert use.weights == all_of_it.weights - 60 * (2 * layer - -(-2 * layer // 4))
        assert use.cache == all_of_it.cache // 4
        assert use.parts[1:] == ("vision 0–63", "1/4 of layers 0–59")


def test_ranks_that_do_not_fit_are_refused_with_a_number_that_does() -> None:
    settings = Emu2Settings(checkpoint="BAAI/Emu2", dtype="bfloat16", tensor_parallel=2)
    adapter = Emu2Adapter(settings)
    adapter.workload = Workload(shots=4, batch=2)
    with pytest.raises(DoesNotFit, match="does not fit over 2 GPUs: weights") as raised:
        adapter.fit_replicas([32 * GIB] * 8)
    assert raised.value.hint == "tensor_parallel: 4 (on as many GPUs) would fit"
    with pytest.raises(ConfigError, match="needs a GPU for each rank, but 1 is visible"):
        adapter.fit_replicas([32 * GIB])
