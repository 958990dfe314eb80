"""Evaluation while a model is trained: a hook for any loop, a callback for transformers' Trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emu2eval.training.hook import EvaluateHook
    from emu2eval.training.trainer import EvaluateCallback

__all__ = ["EvaluateCallback", "EvaluateHook"]

_WHERE = {"EvaluateCallback": "trainer", "EvaluateHook": "hook"}
"""The module of each; transformers is imported for the callback alone."""


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
