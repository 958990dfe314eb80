"""Few-shot multimodal evaluation: interleaved demonstrations, official scorers, resumable runs.

import emu2eval
for result in emu2eval.evaluate("easy-vqa", "nearest", shots=[0, 4]):
    print(result.rows[0])

Everything that a plug-in needs is public here; `emu2eval.testing` helps to test one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emu2eval.adapters.base import Adapter, Cost, Limits
    from emu2eval.data.load import Reader
    from emu2eval.data.samples import Samples
    from emu2eval.encoders.base import Encoder, Vectors
    from emu2eval.engine.merging import Merged, merge
    from emu2eval.engine.objects import InMemory
    from emu2eval.engine.reopen import score_again
    from emu2eval.engine.results import Result
    from emu2eval.errors import (
        CompareError,
        ConfigError,
        DataError,
        ImageError,
        MissingData,
        MissingExtra,
        ModelError,
        NotFinite,
        PartError,
        PlanError,
        Several,
        StoreError,
        UnknownName,
        UserError,
    )
    from emu2eval.exports.dataframe import load_runs
    from emu2eval.fewshot.choosers import Chooser, Demonstration, PoolFeatures
    from emu2eval.media import images
    from emu2eval.report.notebook import Evaluation, evaluate
    from emu2eval.scorers.base import Scorer, ScoringError, Summary
    from emu2eval.scorers.function import metric
    from emu2eval.scorers.judged import JudgedScorer, Wording
    from emu2eval.spec.changes import Changes
    from emu2eval.spec.model import ModelSpec, load_model
    from emu2eval.spec.outputs import OutputSpec
    from emu2eval.spec.settings import Settings
    from emu2eval.spec.task import Task, load_task
    from emu2eval.statistics.estimates import Accumulator, ClusteredMean, ClusteredRatio
    from emu2eval.types import (
        ChoiceOutput,
        Image,
        ImageOutput,
        Mark,
        Output,
        Prompt,
        Request,
        Response,
        Row,
        Sample,
        Score,
        Segment,
        Shots,
        TextOutput,
        Turn,
        Video,
    )
    from emu2eval.watch import RunEnd, RunStart, Watcher

__version__ = "0.2.0"

_WHERE = {
    "adapters.base": "Adapter Cost Limits",
    "data.load": "Reader",
    "data.samples": "Samples",
    "encoders.base": "Encoder Vectors",
    "engine.merging": "Merged merge",
    "engine.objects": "InMemory",
    "engine.reopen": "score_again",
    "engine.results": "Result",
    "errors": (
        "CompareError ConfigError DataError ImageError MissingData MissingExtra "
        "ModelError NotFinite PartError PlanError Several StoreError UnknownName UserError"
    ),
    "exports.dataframe": "load_runs",
    "fewshot.choosers": "Chooser Demonstration PoolFeatures",
    "media": "images",
    "report.notebook": "Evaluation evaluate",
    "scorers.base": "Scorer ScoringError Summary",
    "scorers.function": "metric",
    "scorers.judged": "JudgedScorer Wording",
    "spec.changes": "Changes",
    "spec.model": "ModelSpec load_model",
    "spec.outputs": "OutputSpec",
    "spec.task": "Task load_task",
    "spec.settings": "Settings",
    "statistics.estimates": "Accumulator ClusteredMean ClusteredRatio",
    "types": (
        "ChoiceOutput Image ImageOutput Mark Output Prompt Request Response Row Sample "
        "Score Segment Shots TextOutput Turn Video"
    ),
    "watch": "RunEnd RunStart Watcher",
}
"""The module of each public name. They are imported on first use, so that `import emu2eval` costs nothing."""

_MODULES = {name: module for module, names in _WHERE.items() for name in names.split()}

__all__ = [
    "Accumulator",
    "Adapter",
    "Changes",
    "ChoiceOutput",
    "Chooser",
    "ClusteredMean",
    "ClusteredRatio",
    "CompareError",
    "ConfigError",
    "Cost",
    "DataError",
    "Demonstration",
    "Encoder",
    "Evaluation",
    "Image",
    "ImageError",
    "ImageOutput",
    "InMemory",
    "JudgedScorer",
    "Limits",
    "Mark",
    "Merged",
    "MissingData",
    "MissingExtra",
    "ModelError",
    "ModelSpec",
    "NotFinite",
    "Output",
    "OutputSpec",
    "PartError",
    "PlanError",
    "PoolFeatures",
    "Prompt",
    "Reader",
    "Request",
    "Response",
    "Result",
    "Row",
    "RunEnd",
    "RunStart",
    "Sample",
    "Samples",
    "Score",
    "Scorer",
    "ScoringError",
    "Segment",
    "Settings",
    "Several",
    "Shots",
    "StoreError",
    "Summary",
    "Task",
    "TextOutput",
    "Turn",
    "UnknownName",
    "UserError",
    "Vectors",
    "Video",
    "Watcher",
    "Wording",
    "__version__",
    "evaluate",
    "images",
    "load_model",
    "load_runs",
    "load_task",
    "merge",
    "metric",
    "score_again",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'emu2eval' has no attribute {name!r}")
    from importlib import import_module

    module = import_module(f"emu2eval.{_MODULES[name]}")
    if hasattr(module, name):
        return getattr(module, name)
    return import_module(f"{module.__name__}.{name}")


def __dir__() -> list[str]:
    return sorted(__all__)
