"""Tensor parallelism: what can be split into how many ranks."""

from __future__ import annotations

from emu2eval.adapters.emu2.config import DecoderConfig
from emu2eval.adapters.local.parallel import degrees


def test_the_heads_say_into_how_many_ranks() -> None:
    assert degrees(DecoderConfig()) == (2, 4, 13, 26, 52)
