"""Caption metrics through whole runs: what is in the corpus, and what is said before anything is asked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from emu2eval import evaluate, score_again
from emu2eval.errors import ConfigError
from emu2eval.scorers import caption_java
from emu2eval.scorers.captions import Captions
from emu2eval.types import Response, Sample

needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="Java is not installed")
SCORE = {"scorer": "captions", "options": {"metrics": ["cider", "rouge_l"]}, "clean": ["strip"]}


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]


@needs_java
def test_failures_are_left_out_of_the_corpus_and_counted(make_task: Any, make_model: Any) -> None:
    task = str(make_task(queries=5, score=SCORE))
    model = str(make_model(default="red", fail=["square 3"]))
    (result,) = evaluate(task, model)
    whole = [row for row in result.rows if row.group is None]
    assert [(row.label, row.n, row.unscored) for row in whole] == [
        ("CIDEr", 4, 1),
        ("ROUGE-L", 4, 1),
    ]
    given = [
        (Sample(name, references=(colour,), cluster=name), Response(text="red"))
        for name, colour in zip("0124", ("red", "green", "blue", "black"), strict=True)
    ]
    alone = Captions(["cider"])
    alone.prepare(given)
    values = [alone.score(*pair).value for pair in given]
    stored = {line["id"]: line for line in lines(result.folder)}
    assert [stored[f"q000{i}"]["value"] for i in (0, 1, 2, 4)] == values
    assert stored["q0003"]["value"] is None
    assert stored["q0001"]["details"] == {"ROUGE-L": 0}
    assert whole[0].value == pytest.approx(100 * sum(v or 0 for v in values) / 4)
    # A group is a set of its own: of two images here.
    odd = next(r for r in result.rows if r.group == "kind: odd" and r.label == "CIDEr")
    assert (odd.n, odd.unscored) == (1, 1)
    assert score_again(result.folder).rows == result.rows


@needs_java
def test_several_metrics_are_rows_and_spice_is_said_to_be_missing(
    make_task: Any, make_model: Any
) -> None:
    if caption_java.no_spice() is None:
        pytest.skip("the models of SPICE are installed")
    score = SCORE | {"options": {"metrics": ["cider", "bleu", "rouge_l", "spice"]}}
    task = str(make_task(queries=5, score=score))
    (result,) = evaluate(task, str(make_model(default="red")), trials=2, shots=[2])
    rows = [row for row in result.rows if row.group is None]
    expected = ["CIDEr", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L"]
    assert [row.label for row in rows] == expected
    assert all((row.n, row.trials) == (10, 2) for row in rows)
    said = [row.notes for row in result.rows]
    assert said[0] == ("no SPICE: the models of CoreNLP 3.6.0 are not installed",)
    assert not any(said[1:])


def test_without_java_nothing_is_asked(
    make_task: Any, make_model: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    caption_java.java.cache_clear()
    log = tmp_path / "log"
    with pytest.raises(ConfigError, match="need Java"):
        evaluate(str(make_task(score=SCORE)), str(make_model(log=str(log))))
    assert not log.exists()
    assert not list(tmp_path.rglob("run.json"))
