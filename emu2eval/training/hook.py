"""A hook for any training loop: every N steps the model is evaluated as it lies in memory."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from emu2eval.engine.carrying import carry_out
from emu2eval.engine.evaluation import Job, jobs_of, planned
from emu2eval.engine.objects import InMemory
from emu2eval.engine.options import RunOptions
from emu2eval.engine.results import Result
from emu2eval.engine.wanted import AnyTask
from emu2eval.errors import ConfigError, UserError, shown
from emu2eval.spec.changes import Changes
from emu2eval.types import Row
from emu2eval.watch import Watcher


class EvaluateHook:
    """`hook(step, model)` in a training loop: evaluates at every N-th step, otherwise does nothing.

    Each evaluation is stored as runs of the model `NAME-step-STEP`, which `emu2eval compare --series` and
    `curves` follow; using the same name again continues a series. tasks, shots, limit and the rest as of
    `evaluate`; a limit keeps it fast and uses the same queries at every step. processor, settings: as
    of `InMemory`. Mistakes in these raise UserError at the first call, whatever its step; errors in a
    later evaluation become warnings, and training continues, unless strict. With several processes, only
    the first evaluates. history: the scores by step.
    """

    def __init__(
        self,
        tasks: AnyTask | Sequence[AnyTask],
        *,
        every: int,
        shots: int | str | Sequence[int | str] = (),
        limit: int | float | None = None,
        trials: int = 1,
        seed: int = 0,
        protocol: str | None = None,
        split: str | None = None,
        skip_missing: bool = False,
        fit: bool = False,
        judge: str | None = None,
        scorer: str | Callable[..., Any] | None = None,
        changes: Changes | Mapping[str, Any] | Sequence[str] = (),
        out: str | Path | None = None,
        batch: int | None = None,
        name: str | None = None,
        processor: Any = None,
        settings: Mapping[str, Any] | None = None,
        strict: bool = False,
        watcher: Watcher | None = None,
    ):
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ConfigError(f"every must be a number of steps, not {shown(every)}", where="every")
        self.every = every
        self.tasks: list[Any] = list(tasks) if isinstance(tasks, (list, tuple)) else [tasks]
        self.options = RunOptions.of(
            shots=shots,
            limit=limit,
            trials=trials,
            seed=seed,
            protocol=protocol,
            split=split,
            skip_missing=skip_missing,
            fit=fit,
            judge=judge,
            scorer=scorer,
            changes=changes,
            out=out,
            batch=batch,
        )
        self.name = name
        self.processor = processor
        self.settings = dict(settings or {})
        self.strict = strict
        self.watcher = watcher or Watcher()
        self.history: dict[int, dict[str, float]] = {}
        self._checked = False

    def __call__(self, step: int, model: Any) -> dict[str, float]:
        """The scores, such as {"eval_vqav2_4shot": 51.2}; {} where this step is not evaluated."""
        self.check(model)
        due = step % self.every == 0 and step not in self.history
        return self.evaluate(step, model) if due else {}

    def check(self, model: Any) -> None:
        """Opens tasks, data and the model's prompts, once. Raises UserError with everything that is
        wrong.
        """
        if not self._checked and _is_first():
            planned(self._jobs(0, model), self.watcher, fetch=True)
            self._checked = True

    def evaluate(self, step: int, model: Any) -> dict[str, float]:
        """The scores of this step, whatever its number; {} in processes other than the first."""
        if not _is_first():
            return {}
        self.check(model)
        try:
            groups = planned(self._jobs(step, model), self.watcher, fetch=True)
            results = carry_out(groups, self.watcher)
        except Exception as error:
            if self.strict:
                raise
            said = (
                error.what if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            )
            warnings.warn(f"step {step:,} was not evaluated: {said}", stacklevel=2)
            results = []
        self.history[step] = _scores(results)
        return self.history[step]

    def _jobs(self, step: int, model: Any) -> list[Job]:
        given = InMemory(model, self.processor, self.name, settings=self.settings, step=step)
        return jobs_of(self.tasks, [given], self.options)


def _scores(results: Sequence[Result]) -> dict[str, float]:
    found: dict[str, float] = {}
    for result in results:
        row = result.rows[0]
        if row.value is not None:
            found[metric(row)] = row.value
        if row.unscored:
            found[f"{metric(row)}_unscored"] = row.unscored
    return found


def metric(row: Row) -> str:
    """The name of a headline in a log of training.

    >>> from types import SimpleNamespace as Some
    >>> metric(Some(task="vqav2", shots=Some(count=4, text_only=True)))
    'eval_vqav2_4shot_text_only'
    """
    return f"eval_{row.task}_{row.shots.count}shot{'_text_only' if row.shots.text_only else ''}"


def _is_first() -> bool:
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_available():
        return True
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0
