"""What was answered in the place of what: for tasks whose answers are a few labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from emu2eval.engine.questions import Questions
from emu2eval.report.page.reading import Predictions
from emu2eval.runs.scored import Key

MOST = 20
"""Labels up to which the answers are a classifier's."""


class References:
    """The one label that each sample of a split asks for, read once for all runs of the same questions."""

    def __init__(self, questions: Questions):
        self._questions = questions
        self._labels: dict[str, str | None] = {}
        self._known: set[str] = set()

    def of(self, ids: Iterable[str]) -> dict[str, str] | None:
        """None where they are too many, no texts, or several of one sample."""
        for name in ids:
            if name not in self._labels:
                self._labels[name] = self._label(name)
            label = self._labels[name]
            if label is None:
                return None
            self._known.add(label)
            if len(self._known) > MOST:
                return None
        return {name: label for name, label in self._labels.items() if label is not None}

    def _label(self, name: str) -> str | None:
        position = self._questions.samples.position(name)
        if position is None:
            return None
        references = self._questions.query(position).references
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
    wanted = references.of(name for name, *_ in keys)
    if wanted is None:
        return None
    labels = [label for label, _ in Counter(wanted[name] for name, *_ in keys).most_common()]
    # Cleaned predictions may be in another case than the data.
    places = {label.casefold(): place for place, label in enumerate(labels)}
    if not 2 <= len(labels) <= MOST or len(places) < len(labels):
        return None
    said = [places.get(label.strip().casefold(), len(labels)) for label in predictions.labels]
    row = {label: place for place, label in enumerate(labels)}
    counts = [[0] * (len(labels) + 2) for _ in labels]
    for (name, *_), code in zip(keys, predictions.codes.tolist(), strict=True):
        counts[row[wanted[name]]][said[code] if code >= 0 else len(labels) + 1] += 1
    if not any(counts[place][place] for place in range(len(labels))):
        return None  # the answers are of another kind, such as letters of choices
    return {"labels": labels, "counts": counts}
