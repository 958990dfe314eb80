"""VL-ICL's drawings: what the judge is asked, and what its yes and no make."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from emu2eval import evaluate
from emu2eval.errors import ConfigError
from emu2eval.media import images
from emu2eval.scorers.base import ScoringError
from emu2eval.scorers.shown import ShownConcepts
from emu2eval.types import Response, Sample

from ..chat_server import ChatServer, digests, texts
from ..tasks.layouts import vl_icl_cobsat, vl_icl_open_t2i_mi


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    vl_icl_cobsat.write(tmp_path / "data")
    vl_icl_open_t2i_mi.write(tmp_path / "data")
    monkeypatch.setenv("EMU2EVAL_DATA", str(tmp_path / "data"))
    return tmp_path / "data/vl_icl"


@pytest.fixture
def judge(make_model: Any, chat_server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("JUDGE_KEY", "none")
    where = {"model": "llava", "base_url": chat_server.url, "key_env": "JUDGE_KEY"}
    return str(make_model("judge", "openai", **where))


def test_the_class_meant_is_asked_for_beside_the_image(
    judge: str, chat_server: ChatServer, root: Path
) -> None:
    chat_server.answer = lambda body: "Yes, it does" if "thing in red" in texts(body)[-1] else "No"
    (result,) = evaluate("vl_icl_open_t2i_mi", "copy", shots=[2], judge=judge)
    assert (result.rows[0].label, result.rows[0].value) == ("shown/own by judge", 25.0)
    lines = (result.folder / "responses.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    query = json.loads((root / "open_t2i_mi/query.json").read_text())
    assert len(chat_server.asked) == len(query) == 4
    drawn = {row["images"][0] for row in rows}
    assert {digest for body in chat_server.asked for digest in digests(body)} == drawn
    asked = [texts(body)[-1] for body in chat_server.asked]
    for row in query:
        assert sum(f"following: {row['answer']}?" in text for text in asked) == 1


def test_latent_and_other_concept_are_asked_for_by_themselves(
    judge: str, chat_server: ChatServer, root: Path
) -> None:
    said = {"red": "yes", "car": "yes", "hat": "no"}
    chat_server.answer = lambda body: next(
        (reply for word, reply in said.items() if f": {word}?" in texts(body)[-1]), "it is"
    )
    (result,) = evaluate("vl_icl_cobsat", "copy", shots=[1], judge=judge)
    rows = {row.label: row.value for row in result.rows if row.group is None}
    query = json.loads((root / "cobsat/query.json").read_text())
    hits = [[said.get(answer) == "yes" for answer in row["answer"]] for row in query]
    assert rows == {
        "shown/own by judge": 100 * sum(map(all, hits)) / len(hits),
        "latent/own by judge": 100 * sum(hit[0] for hit in hits) / len(hits),
        "non_latent/own by judge": 100 * sum(hit[1] for hit in hits) / len(hits),
    }
    assert 0 < sum(map(all, hits)) < len(hits)


def test_what_cannot_be_asked_is_refused() -> None:
    from PIL import Image

    response = Response(images=(images.from_pil(Image.new("RGB", (8, 8))),))
    with pytest.raises(ScoringError, match="has 1 concepts, not 2"):
        scorer = ShownConcepts(["latent", "non_latent"])
        scorer.question(Sample("1", references=("a cat",)), response, "latent")
    with pytest.raises(ScoringError, match="contain none"):
        ShownConcepts().question(Sample("1", references=("a cat",)), Response(text="x"), "concept")
    with pytest.raises(ConfigError, match="needs a judge, but none is given"):
        evaluate("vl_icl_open_t2i_mi", "copy")
