"""What a logger is told: a run, numbers as it goes on, and in the end its table and a few samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from emu2eval.exports.results import ResultNumber, ResultRun


@dataclass(frozen=True)
class LoggedRun:
    """name: of its folder, which is the same when the run is continued; config: what it was, without keys."""

    name: str
    task: str
    model: str
    config: Mapping[str, Any]


@dataclass(frozen=True)
class LoggedSample:
    """A query with the answer to it. images: PNG, small, those of the query; drawn: those of the answer."""

    id: str
    question: str
    answer: str
    references: str
    value: float | None
    why: str | None
    images: tuple[bytes, ...] = field(default=(), repr=False)
    drawn: tuple[bytes, ...] = field(default=(), repr=False)


class RunLogger(ABC):
    """Subclass for a tracker. Called on a thread of its own, one run after the other; whatever it raises is
    told once, and then it is left alone. It may take its time: a run never waits for it but at the end."""

    name: str

    @abstractmethod
    def start(self, run: LoggedRun) -> None:
        """A run begins, or is continued."""

    @abstractmethod
    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Numbers of the run that is under way. step: requests that have an answer or an error."""

    @abstractmethod
    def finish(self, run: ResultRun, samples: Sequence[LoggedSample]) -> None:
        """The run is scored."""

    def close(self) -> None:
        """Nothing more comes."""


def number_names(numbers: Sequence[ResultNumber]) -> dict[str, float]:
    """The final numbers by names that trackers take: `final/vqa_accuracy/official/value`.

    None of them is the beginning of another: some keep them as files and folders."""
    found: dict[str, float] = {}
    for each in numbers:
        parts = ("final", each.group, each.metric, each.variant, each.judge)
        name = "/".join(part.replace("/", "-") for part in parts if part)
        for key in ("value", "stderr", "low", "high", "n", "unscored"):
            value = getattr(each, key)
            if value is not None:
                found[f"{name}/{key}"] = float(value)
    return found


def table(run: ResultRun) -> list[list[Any]]:
    """The numbers as lines of a table, after a line of their names."""
    names = [
        "group",
        "metric",
        "variant",
        "judge",
        "value",
        "unit",
        "stderr",
        "low",
        "high",
        "n",
        "unscored",
    ]
    return [names, *([getattr(each, name) for name in names] for each in run.numbers)]


def markdown(run: ResultRun) -> str:
    """The same as Markdown."""
    head, *lines = table(run)
    written = [head, ["---"] * len(head), *lines]
    return "".join("| " + " | ".join(_cell(value) for value in line) + " |\n" for line in written)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value).replace("|", r"\|")
