"""Tensor parallelism: what can be split into how many ranks, and ranks that cannot start."""

from __future__ import annotations

import doctest
import os
import sys
from types import ModuleType

import pytest

from emu2eval.adapters.emu2.config import DecoderConfig
from emu2eval.adapters.local import parallel
from emu2eval.adapters.local.parallel import check_degree, degrees
from emu2eval.adapters.local.settings import LocalSettings
from emu2eval.adapters.local.team import Team
from emu2eval.errors import ModelError


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(parallel).failed == 0


def test_the_heads_say_into_how_many_ranks() -> None:
    config = DecoderConfig()
    assert degrees(config) == (2, 4, 13, 26, 52)
    check_degree(13, config, "BAAI/Emu2")
    with pytest.raises(
        ModelError, match="52 attention heads cannot be split over 8 ranks"
    ) as raised:
        check_degree(8, config, "BAAI/Emu2")
    assert raised.value.hint == "tensor_parallel: 2 or 4 or 13 or 26 or 52"


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
