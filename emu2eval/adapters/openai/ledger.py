"""What a server really counted: the `usage` of its replies, added up, in tokens and in money."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

from emu2eval.adapters.openai.settings import PriceSettings
from emu2eval.types import Used

MOST_TOKENS = 1 << 32
"""A larger count in one reply is not believed."""

_CACHED = (("prompt_tokens_details", "cached_tokens"), ("prompt_cache_hit_tokens",))
_IMAGES = (("prompt_tokens_details", "image_tokens"),)
_THOUGHT = (("completion_tokens_details", "reasoning_tokens"),)
"""Where servers say it: OpenAI and vLLM in details, DeepSeek beside them."""


class Ledger:
    """Adds up replies. total: so far, lost requests that may have been charged among them."""

    def __init__(self, prices: PriceSettings):
        self._prices = prices
        self.total = Used()

    def counted(self, reply: Mapping[str, Any]) -> Used | None:
        """What one reply says of itself; None where it does not."""
        found = usage(reply)
        if found is None:
            return None
        read, written = found
        told = reply["usage"]
        cached = min(_told(told, _CACHED), read)
        return Used(
            requests=1,
            tokens_in=read,
            tokens_out=written,
            cached=cached,
            of_images=min(_told(told, _IMAGES), read),
            of_thought=min(_told(told, _THOUGHT), written),
            money=self._money(read, cached, written),
        )

    def note(self, used: Used | None) -> None:
        """One more request; None = nobody says what it took."""
        self.total += used or Used(requests=1, uncounted=1)

    def _money(self, read: int, cached: int, written: int) -> float | None:
        prices = self._prices
        if prices.input is None and prices.output is None:
            return None
        whole = prices.input or 0.0
        reused = whole if prices.cached is None else prices.cached
        return ((read - cached) * whole + cached * reused + written * (prices.output or 0.0)) / 1e6


def usage(reply: Mapping[str, Any]) -> tuple[int, int] | None:
    """(tokens read, tokens written) as the server counts them; None where it does not tell."""
    found = reply.get("usage")
    if not isinstance(found, Mapping):
        return None
    read, written = (found.get(name) or 0 for name in ("prompt_tokens", "completion_tokens"))
    return (read, written) if _count(read) and _count(written) else None


def _told(told: Mapping[str, Any], ways: tuple[tuple[str, ...], ...]) -> int:
    for way in ways:
        found: Any = told
        for name in way:
            found = found.get(name) if isinstance(found, Mapping) else None
        if _count(found):
            return found
    return 0


def _count(value: Any) -> TypeGuard[int]:
    """A number of tokens: a negative one would refund the budget, an absurd one would end the run."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS
