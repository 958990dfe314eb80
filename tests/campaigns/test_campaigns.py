"""The campaigns of `benchmarks/campaigns.py`, each in a size of a few seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import damage, kills, mutations


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "user"
    made.mkdir()
    return made


def test_a_damaged_byte_is_healed_or_told(folder: Path) -> None:
    found = damage.run(folder, 6, seed=0)
    assert len(found) == 6
    assert not damage.faults(found)


def test_no_mutated_input_is_a_traceback(folder: Path) -> None:
    found = mutations.run(folder, 27, seed=0)
    assert {each.outcome for each in found} == {"fine", "told"}


@pytest.mark.skipif(not hasattr(kills.os, "fork"), reason="kills are told apart by forks")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_kills_lose_nothing(folder: Path) -> None:
    found = kills.run(folder, 4, seed=0)
    assert sum(each.kills for each in found) >= 4
    assert not [each for each in found if each.fault]
