"""Few-shot multimodal evaluation: interleaved demonstrations, official scorers, resumable runs.

import emu2eval
for result in emu2eval.evaluate("easy-vqa", "nearest", shots=[0, 4]):
    print(result.rows[0])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emu2eval.adapters.base import Adapter, Limits
    from emu2eval.engine.evaluation import evaluate
    from emu2eval.engine.reopen import score_again
    from emu2eval.engine.results import Result
    from emu2eval.errors import UserError
    from emu2eval.exports.dataframe import load_runs
    from emu2eval.scorers.base import Scorer
    from emu2eval.types import (
        ChoiceOutput,
        Image,
        ImageOutput,
        Prompt,
        Request,
        Response,
        Row,
        Sample,
        Score,
        TextOutput,
        Turn,
        Video,
    )
    from emu2eval.watch import Watcher

__version__ = "0.1.0"

_WHERE = {
    "Adapter": "adapters.base",
    "ChoiceOutput": "types",
    "Limits": "adapters.base",
    "Image": "types",
    "ImageOutput": "types",
    "Prompt": "types",
    "Request": "types",
    "Response": "types",
    "Result": "engine.results",
    "Row": "types",
    "Sample": "types",
    "Score": "types",
    "Scorer": "scorers.base",
    "TextOutput": "types",
    "Turn": "types",
    "UserError": "errors",
    "Video": "types",
    "Watcher": "watch",
    "evaluate": "engine.evaluation",
    "load_runs": "exports.dataframe",
    "score_again": "engine.reopen",
}

__all__ = [
    "Adapter",
    "ChoiceOutput",
    "Image",
    "ImageOutput",
    "Limits",
    "Prompt",
    "Request",
    "Response",
    "Result",
    "Row",
    "Sample",
    "Score",
    "Scorer",
    "TextOutput",
    "Turn",
    "UserError",
    "Video",
    "Watcher",
    "__version__",
    "evaluate",
    "load_runs",
    "score_again",
]


def __getattr__(name: str) -> Any:
    # Public names are imported on first use, so that `import emu2eval` costs nothing.
    if name not in _WHERE:
        raise AttributeError(f"module 'emu2eval' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"emu2eval.{_WHERE[name]}"), name)
