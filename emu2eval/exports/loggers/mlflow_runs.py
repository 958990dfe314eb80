"""MLflow, by its client alone: a server, a database or a folder (`--log mlflow=file:DIR`)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from time import time
from typing import Any

from emu2eval.exports.loggers.base import (
    LoggedRun,
    LoggedSample,
    RunLogger,
    markdown,
    number_names,
)
from emu2eval.exports.results import ResultRun

EXPERIMENT = "emu2eval"
_TAG = "emu2eval.run"


class MLflowRuns(RunLogger):
    """A run there for each of ours, found again by its tag when it is continued."""

    name = "mlflow"

    def __init__(self, uri: str | None):
        self._uri = uri
        self._client: Any = None
        self._run: str | None = None
        self._step = 0

    def start(self, run: LoggedRun) -> None:
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(tracking_uri=self._uri)
        known = self._client.get_experiment_by_name(EXPERIMENT)
        experiment = known.experiment_id if known else self._client.create_experiment(EXPERIMENT)
        found = self._client.search_runs(
            [experiment], f"tags.`{_TAG}` = '{run.name}'", max_results=1
        )
        if found:
            self._run = found[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
            return
        tags = {_TAG: run.name, "task": run.task, "model": run.model}
        self._run = self._client.create_run(experiment, tags=tags, run_name=run.name).info.run_id
        for key, value in run.config.items():
            self._client.log_param(self._run, key, str(value)[:6000])

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        self._step = step
        self._batch(numbers)

    def finish(self, run: ResultRun, samples: Sequence[LoggedSample]) -> None:
        import msgspec
        from PIL import Image

        self._batch(number_names(run.numbers))
        client = self._client
        client.log_dict(self._run, msgspec.to_builtins(run), "results.json")
        client.log_text(self._run, markdown(run), "table.md")
        told = [
            {
                key: getattr(s, key)
                for key in ("id", "question", "answer", "references", "value", "why")
            }
            for s in samples
        ]
        client.log_dict(self._run, {"samples": told}, "samples/samples.json")
        for place, sample in enumerate(samples):
            for number, image in enumerate((*sample.images, *sample.drawn)):
                pixels = Image.open(io.BytesIO(image))
                client.log_image(self._run, pixels, f"samples/{place}-{number}.png")
        client.set_terminated(self._run)
        self._run = None

    def close(self) -> None:
        if self._run is not None:
            self._client.set_terminated(self._run, status="KILLED")

    def _batch(self, numbers: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time() * 1000)
        made = [Metric(_name(name), value, now, self._step) for name, value in numbers.items()]
        for start in range(0, len(made), 1000):
            self._client.log_batch(self._run, metrics=made[start : start + 1000])


def _name(name: str) -> str:
    """What MLflow takes in the name of a metric."""
    return "".join(c if c.isalnum() or c in "_-. /" else "-" for c in name)[:250]


def logger(place: str | None) -> RunLogger:
    return MLflowRuns(place)
