"""Caption metrics against what the official scorers gave, and each of their quirks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from emu2eval.errors import ConfigError, MissingExtra, UnknownName
from emu2eval.scorers import caption_java as programs
from emu2eval.scorers import caption_stats as stats
from emu2eval.scorers.base import Scorer
from emu2eval.scorers.captions import Captions
from emu2eval.types import Response, Sample, Score

VECTORS = json.loads((Path(__file__).parent / "captions_vectors.json").read_text(encoding="utf-8"))
CORPORA = {corpus["name"]: corpus for corpus in VECTORS["corpora"]}
OFFICIAL = {f"Bleu_{n}": f"BLEU-{n}" for n in range(1, 5)} | {"ROUGE_L": "ROUGE-L"}
QUICK = ("cider", "bleu", "rouge_l")

needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="Java is not installed")


def sample(name: str, references: list[str], **more: Any) -> Sample:
    return Sample(name, references=tuple(references), cluster=name, **more)


def corpus(name: str) -> list[tuple[Sample, Response]]:
    return [
        (sample(str(case["id"]), case["references"]), Response(text=case["hypothesis"]))
        for case in CORPORA[name]["cases"]
    ]


def scored(scorer: Scorer, answered: list[tuple[Sample, Response]]) -> list[Score]:
    scorer.prepare(iter(answered))
    return [scorer.score(*pair) for pair in answered]


def totals(
    scorer: Scorer, answered: list[tuple[Sample, Response]]
) -> dict[str, tuple[float | None, float | None]]:
    """The numbers of a table: value and error."""
    scores = scored(scorer, answered)
    summaries = scorer.summaries()
    for summary in summaries:
        for (one, _), score in zip(answered, scores, strict=True):
            summary.accumulator.add(one, score)
    return {summary.metric: summary.accumulator.result() for summary in summaries}


def captions(*texts: str, references: tuple[str, ...] = ("a dog runs", "one dog"), **options: Any):
    answered = [(sample(str(i), list(references)), Response(text=t)) for i, t in enumerate(texts)]
    return scored(Captions(**{"metrics": QUICK, **options}), answered)


def official(scores: dict[str, float]) -> dict[str, float]:
    return {OFFICIAL.get(name, name): value for name, value in scores.items()}


@needs_java
@pytest.mark.parametrize("name", list(CORPORA))
def test_equals_the_official_scorers(name: str) -> None:
    # METEOR takes some seconds to start: it runs once, on everything that it has numbers for.
    metrics = (*QUICK, "meteor") if name == "main20" else QUICK
    scorer = Captions(metrics)
    answered = corpus(name)
    for score, case in zip(scored(scorer, answered), CORPORA[name]["cases"], strict=True):
        expected = official(case["scores"])
        got = {"CIDEr": score.value, **score.details}
        assert got == pytest.approx({k: expected[k] for k in got}, rel=1e-12, abs=1e-15)
        assert score.prediction == case["hypothesis_tokenised"]
    table = {k: value / 100 for k, (value, _) in totals(scorer, answered).items()}
    expected = official(CORPORA[name]["scores"])
    assert table == pytest.approx({k: expected[k] for k in table}, rel=1e-12, abs=1e-15)
