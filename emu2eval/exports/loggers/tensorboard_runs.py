"""TensorBoard: event files, one folder a run; no server is needed."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emu2eval.exports.loggers.base import (
    LoggedRun,
    LoggedSample,
    RunLogger,
    markdown,
    number_names,
)
from emu2eval.exports.results import ResultRun

DEFAULT = "results/tensorboard"


class TensorBoardRuns(RunLogger):
    """Writes below a folder; `tensorboard --logdir FOLDER` shows it."""

    name = "tensorboard"

    def __init__(self, folder: Path):
        self._folder = folder
        self._writer: Any = None
        self._step = 0

    def start(self, run: LoggedRun) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(self._folder / run.name))
        self._step = 0
        lines = (f"| {key} | {value} |\n" for key, value in run.config.items())
        self._writer.add_text("run", "| | |\n| --- | --- |\n" + "".join(lines), 0)

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        self._step = step
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def finish(self, run: ResultRun, samples: Sequence[LoggedSample]) -> None:
        import numpy as np
        from PIL import Image

        for name, value in number_names(run.numbers).items():
            self._writer.add_scalar(name, value, self._step)
        self._writer.add_text("table", markdown(run), self._step)
        for sample in samples:
            said = [
                f"**question** {sample.question}",
                f"**answer** {sample.answer}",
                f"**references** {sample.references}",
                f"**score** {sample.why if sample.value is None else sample.value}",
            ]
            self._writer.add_text(f"samples/{sample.id}", "\n\n".join(said), self._step)
            for number, image in enumerate((*sample.images, *sample.drawn)):
                pixels = np.asarray(Image.open(io.BytesIO(image)))
                self._writer.add_image(
                    f"samples/{sample.id}/{number}", pixels, self._step, dataformats="HWC"
                )
        self._writer.close()
        self._writer = None

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def logger(place: str | None) -> RunLogger:
    return TensorBoardRuns(Path(place or DEFAULT))
