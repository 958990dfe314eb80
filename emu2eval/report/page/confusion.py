"""What was answered in the place of what: for tasks whose answers are a few labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emu2eval.engine.questions import Questions
from emu2eval.report.page.reading import Predictions
from emu2eval.runs.scored import Key

MOST = 20
"""Labels up to which the answers are a classifier's."""


@dataclass(frozen=True, eq=False)
class WantedLabels:
    """What the samples of some keys ask for: `labels`, the most frequent first, and their numbers."""

    labels: tuple[str, ...]
    codes: NDArray[np.int64]


class References:
    """The one label that each sample of a split asks for, read once for all runs of the same questions."""

    def __init__(self, questions: Questions):
        self._questions = questions
        self._labels: dict[str, str | None] = {}
        self._known: set[str] = set()
        self._wanted: dict[int, tuple[Sequence[Key], WantedLabels | None]] = {}

    def of(self, keys: Sequence[Key]) -> WantedLabels | None:
        """None where they are too many, no texts, or several of one sample."""
        found = self._wanted.get(id(keys))  # many runs share these very keys
        if found is None:
            found = self._wanted[id(keys)] = (keys, self._read(keys))
        return found[1]

    def _read(self, keys: Sequence[Key]) -> WantedLabels | None:
        for name, *_ in keys:
            if name not in self._labels:
                self._labels[name] = self._label(name)
            label = self._labels[name]
            if label is None:
                return None
            self._known.add(label)
            if len(self._known) > MOST:
                return None
        asked = [self._labels[name] or "" for name, *_ in keys]
        labels = tuple(label for label, _ in Counter(asked).most_common())
        number = {label: place for place, label in enumerate(labels)}
        return WantedLabels(labels, np.array([number[label] for label in asked], dtype=np.int64))

    def _label(self, name: str) -> str | None:
        position = self._questions.samples.position(name)
        if position is None:
            return None
        references = self._questions.samples.references(position)
        texts = {each.strip() if isinstance(each, str) else None for each in references}
        return texts.pop() if len(texts) == 1 else None


def confusion(
    keys: Sequence[Key], predictions: Predictions, references: References
) -> dict[str, Any] | None:
    """labels, and rows of counts: of samples that ask for a label, how often each label, something else and
    nothing was answered. None where the answers are not a few labels.
    """
    if len(predictions.codes) < 2 * len(predictions.labels):
        return None
    wanted = references.of(keys)
    if wanted is None:
        return None
    labels = wanted.labels
    # Cleaned predictions may be in another case than the data.
    places = {label.casefold(): place for place, label in enumerate(labels)}
    if not 2 <= len(labels) <= MOST or len(places) < len(labels):
        return None
    said = [places.get(label.strip().casefold(), len(labels)) for label in predictions.labels]
    width = len(labels) + 2
    columns = np.array([*said, len(labels) + 1])[
        predictions.codes
    ]  # -1, no prediction, is the last
    cells = np.bincount(wanted.codes * width + columns, minlength=len(labels) * width)
    counts: list[list[int]] = cells.reshape(len(labels), width).tolist()
    if not any(counts[place][place] for place in range(len(labels))):
        return None  # the answers are of another kind, such as letters of choices
    return {"labels": list(labels), "counts": counts}
