"""Weights & Biases, as its own settings say: WANDB_API_KEY, WANDB_MODE=offline, WANDB_DIR, WANDB_PROJECT."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

from emu2eval.errors import UserError
from emu2eval.exports.loggers.base import LoggedRun, LoggedSample, RunLogger, number_names, table
from emu2eval.exports.results import ResultRun

DEFAULT = "emu2eval"
WAIT = 30
"""Seconds in which a server has to answer."""


class WandbRuns(RunLogger):
    """A run there for each of ours, by the same id when it is continued."""

    name = "wandb"

    def __init__(self, project: str):
        self._project = project
        self._run: Any = None

    def start(self, run: LoggedRun) -> None:
        import wandb

        offline = os.environ.get("WANDB_MODE", "online") != "online"
        if not offline and not wandb.login(prompt=False):
            # Beginning a run would ask for a key, and wait.
            raise UserError("not logged in (wandb login, WANDB_API_KEY or WANDB_MODE=offline)")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", self._project),
            id=run.name[-64:],
            name=run.name,
            group=run.task,
            config=dict(run.config),
            resume="allow",
            # Nothing of the machine, the command line or the terminal.
            settings=wandb.Settings(
                console="off",
                disable_git=True,
                disable_code=True,
                x_disable_meta=True,
                x_disable_stats=True,
                init_timeout=WAIT,
                silent=True,
            ),
        )
        self._run.define_metric("settled")
        self._run.define_metric("running/*", step_metric="settled")

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log({**numbers, "settled": step})

    def finish(self, run: ResultRun, samples: Sequence[LoggedSample]) -> None:
        import wandb
        from PIL import Image

        def shown(images: Sequence[bytes]) -> Any:
            return [wandb.Image(Image.open(io.BytesIO(each))) for each in images] or None

        self._run.summary.update(number_names(run.numbers))
        head, *lines = table(run)
        rows = [
            [
                s.id,
                s.question,
                shown(s.images),
                s.answer,
                shown(s.drawn),
                s.references,
                s.value,
                s.why,
            ]
            for s in samples
        ]
        names = ["id", "question", "images", "answer", "drawn", "references", "value", "why"]
        self._run.log(
            {
                "table": wandb.Table(columns=head, data=lines),
                "samples": wandb.Table(columns=names, data=rows),
            }
        )
        self._run.finish()
        self._run = None

    def close(self) -> None:
        if self._run is not None:
            self._run.finish()


def logger(place: str | None) -> RunLogger:
    return WandbRuns(place or DEFAULT)
