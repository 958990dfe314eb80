"""Loggers: what a run comes to is handed to a tracker while it goes on. One file a tracker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module

from emu2eval.errors import MissingExtra, UnknownName, raise_together
from emu2eval.exports.loggers.base import RunLogger
from emu2eval.exports.loggers.logging import Logging

KNOWN: Mapping[str, tuple[str, str]] = {
    "mlflow": ("mlflow", "mlflow"),
    "tensorboard": ("tensorboardX", "tensorboard"),
    "wandb": ("wandb", "wandb"),
}
"""Name -> the package that it needs and the extra that brings it."""


def loggers(named: Sequence[str]) -> list[RunLogger]:
    """The loggers by name, or with where they log to: `tensorboard=DIR`, `mlflow=URI`, `wandb=PROJECT`.

    Raises UnknownName, MissingExtra.
    """
    places = dict(given.partition("=")[::2] for given in named)
    for name in places:
        if name not in KNOWN:
            raise UnknownName("logger", name, KNOWN, where="--log")
    raise_together(
        error
        for name in places
        for error in MissingExtra.of([KNOWN[name][0]], KNOWN[name][1], why=f"--log {name}")
    )
    made: list[RunLogger] = [
        import_module(f"{__name__}.{name}_runs").logger(place or None)
        for name, place in places.items()
    ]
    return made


__all__ = ["KNOWN", "Logging", "RunLogger", "loggers"]
