"""What is stored of a foreign answer: of the kind that the task asks for, or not at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from emu2eval.errors import ConfigError, DataError
from emu2eval.identity import value_key
from emu2eval.imported.entries import Entry
from emu2eval.runs.answers import Answer
from emu2eval.runs.store import RunStore
from emu2eval.spec.outputs import ChoiceSpec
from emu2eval.spec.task import Task
from emu2eval.types import IMPOSSIBLE, Response, Sample


def require(task: Task, entries: Sequence[Entry]) -> None:
    """Raises ConfigError where sums of log-probabilities were given and means over tokens are wanted."""
    output = task.spec.output
    by_mean = isinstance(output, ChoiceSpec) and output.per_token
    if by_mean and any(entry.choices for entry in entries):
        raise ConfigError(
            f"{task.name} ranks by mean log-probability per token, but the log has sums without token "
            "counts",
            where=task.document.where(("output",)),
            hint="use another protocol, or --set task.output.per_token=false, which is a different measure",
        )


def stored(entry: Entry, sample: Sample, digest: str, store: RunStore) -> Answer:
    """The answer as the store keeps it. digest: of the imported run, so that its keys are its own.

    Raises DataError where log-probabilities are not those of the sample's choices.
    """
    return store.keep(
        _fitting(entry, sample),
        id=sample.id,
        key=value_key([digest, sample.id]),
        theirs=dict(entry.theirs) or None,
    )


def check(entry: Entry, sample: Sample) -> None:
    """Raises DataError as `stored` does, without storing anything."""
    _fitting(entry, sample)


def _fitting(entry: Entry, sample: Sample) -> Response:
    response = entry.response
    if response.error is not None or response.log_probs is None:
        return response
    return replace(response, log_probs=tuple(_in_order(entry, response.log_probs, sample)))


def _in_order(entry: Entry, log_probs: Sequence[float], sample: Sample) -> list[float]:
    """The log-probabilities in the order of the sample's choices."""
    if not sample.choices:
        raise DataError(f"the sample {sample.id!r} has no choices to rank", where=entry.where)
    if len(log_probs) != len(sample.choices):
        raise DataError(
            f"the row ranks {len(log_probs)} texts, but the sample {sample.id!r} has "
            f"{len(sample.choices)} choices",
            where=entry.where,
        )
    if any(math.isnan(value) or value == math.inf for value in log_probs):
        raise DataError("a log-probability is not a number", where=entry.where)
    # JSON has no infinity, see the runner.
    finite = [max(value, IMPOSSIBLE) for value in log_probs]
    if not entry.choices:
        return finite
    texts = [_plain(text) for text in entry.choices]
    wanted = [_plain(choice) for choice in sample.choices]
    if len(set(texts)) < len(texts) or set(texts) != set(wanted):
        raise DataError(
            f"the texts ranked in the row ({', '.join(map(repr, entry.choices))}) are not the choices of "
            f"the sample {sample.id!r} ({', '.join(map(repr, sample.choices))}), so they cannot be "
            "matched",
            where=entry.where,
            hint="use a protocol of the task that ranks the same texts: --protocol NAME",
        )
    return [finite[texts.index(choice)] for choice in wanted]


def _plain(text: str) -> str:
    return text.strip().casefold()
