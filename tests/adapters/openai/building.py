"""The adapter as a model file builds it."""

from __future__ import annotations

from typing import Any

from emu2eval import registry
from emu2eval.adapters.openai.adapter import OpenAIAdapter


def openai(**settings: Any) -> OpenAIAdapter:
    adapter: OpenAIAdapter = registry.build("adapter", "openai", {"model": "m", **settings})
    return adapter
