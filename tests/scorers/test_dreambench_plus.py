"""DreamBench++: what the judge is asked about subjects, styles and prompts, and the figures of its grades."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emu2eval import evaluate, registry
from emu2eval.compare.comparison import compare
from emu2eval.data.load import load_split
from emu2eval.errors import ConfigError, DataError, UnknownName
from emu2eval.runs.scored import read_run
from emu2eval.scorers.dreambench_plus import DreamBenchPlus
from emu2eval.spec.task import load_task
from emu2eval.types import Response, Sample

from ..chat_server import ChatServer, digests, texts
from ..tasks.layouts import dreambench_plus

NOTHING = [f"task.score.options.{name}=null" for name in ("dino", "clip_i", "clip_t")]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    dreambench_plus.write(tmp_path / "data")
    monkeypatch.setenv("EMU2EVAL_DATA", str(tmp_path / "data"))
    return tmp_path / "data/dreambench_plus/data"


@pytest.fixture
def judge(make_model: Any, chat_server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("JUDGE_KEY", "none")
    where = {"model": "gpt-x", "base_url": chat_server.url, "key_env": "JUDGE_KEY"}
    return str(make_model("judge", "openai", **where))


def seen_by(dino: Path) -> list[str]:
    option = "task.score.options.dino"
    return [f"{option}.encoder={dino}", f"{option}.preprocessing=null"]


def asked_about(body: dict[str, Any]) -> str:
    text = "".join(texts(body))
    if "Prompt:" in text:
        return "prompt"
    return "style" if "in the style of" in text else "subject"


def test_ids_and_prompts_are_the_official_ones() -> None:
    samples = {sample.id: sample for sample in load_split(load_task("dreambench_plus"), "all")}
    assert len(samples) == 4 * 9
    collections = Counter(name.rpartition("-")[0] for name in samples)
    assert collections == dict.fromkeys(
        [
            "live_subject_animal_00_kitten",
            "live_subject_human_01_old_woman",
            "object_00_tin_toy",
            "style_02_ink_drawing",
        ],
        9,
    )
    kinds = [samples[f"object_00_tin_toy-{n}"].groups["prompts"] for n in range(9)]
    assert kinds == ["photorealistic"] * 4 + ["style transfer"] * 3 + ["imaginative"] * 2
    once, never, twice = (samples[f"object_00_tin_toy-{n}"].fields for n in (2, 6, 8))
    assert (once["before"], once["after"]) == ("a photo of ", " at night")
    assert (never["before"], never["after"]) == ("", "a sculpture")
    assert (twice["before"], twice["after"]) == ("", "Tin Toy greeting another Tin Toy")
    assert samples["live_subject_human_01_old_woman-0"].groups["category"] == "human"


def test_the_headline_is_the_product_of_both_means(judge: str, chat_server: ChatServer) -> None:
    given: Counter[str] = Counter()

    def grade(body: dict[str, Any]) -> str:
        about = asked_about(body)
        given[about] += 1
        return f"It differs a little.\nScore: {(given[about] * 3 + len(about)) % 5}"

    chat_server.answer = grade
    changes = [*NOTHING, "task.score.options.rounds=2"]
    (result,) = evaluate("dreambench_plus", "copy", judge=judge, changes=changes)
    # A copy of the reference is the same image for all nine prompts, and asked about once.
    assert given == {"subject": 3 * 2, "style": 1 * 2, "prompt": 36 * 2}
    samples = {sample.id: sample for sample in load_split(load_task("dreambench_plus"), "all")}
    grades: defaultdict[str | None, list[list[float]]] = defaultdict(list)
    for line in (result.folder / "scores.jsonl").read_text().splitlines():
        row = json.loads(line)
        said = row["details"]["grades"]
        both = [
            np.mean([said[f"{figure} {n}"] for n in (1, 2)]) / 4 for figure in ("concept", "prompt")
        ]
        for group in (None, *(f"{k}: {v}" for k, v in samples[row["id"]].groups.items())):
            grades[group].append(both)
    assert len(grades) == 1 + 4 + 3
    rows = {(row.group, row.label): row for row in result.rows}
    for group, pairs in grades.items():
        concept, prompt = np.mean(pairs, axis=0)
        assert rows[group, "concept/own by judge"].value == pytest.approx(concept)
        assert rows[group, "prompt/own by judge"].value == pytest.approx(prompt)
        product = rows[group, "concept_x_prompt/own by judge"]
        assert product.value == pytest.approx(concept * prompt)
    headline = result.rows[0]
    assert headline.label == "concept_x_prompt/own by judge"
    assert headline.stderr is not None and headline.low is not None and headline.high is not None
    assert headline.low < (headline.value or 0) < headline.high


def test_the_judge_sees_reference_and_drawing_or_drawing_and_prompt(
    judge: str, chat_server: ChatServer
) -> None:
    chat_server.answer = lambda body: "Score: 4"
    (result,) = evaluate("dreambench_plus", "copy", judge=judge, changes=NOTHING)
    drawn = {
        json.loads(line)["images"][0]
        for line in (result.folder / "responses.jsonl").read_text().splitlines()
    }
    for body in chat_server.asked:
        shown = digests(body)
        assert shown[-1] in drawn
        assert len(shown) == (1 if asked_about(body) == "prompt" else 2)
        assert len(shown) == 1 or shown[0] not in drawn
    assert any("Prompt: pixel art of Tin Toy\n" in texts(b)[0] for b in chat_server.asked)
    (record,) = result.folder.glob("judge/*/judge.json")
    assert len(json.loads(record.read_text())["wordings"]) == 3


def test_a_grade_that_cannot_be_read_leaves_out_its_figure_alone(
    judge: str, chat_server: ChatServer, tiny_dino: Path
) -> None:
    chat_server.answer = lambda body: "Score: 2" if asked_about(body) == "prompt" else "Fine."
    changes = [*NOTHING[1:], *seen_by(tiny_dino)]
    (result,) = evaluate("dreambench_plus", "copy", judge=judge, changes=changes)
    whole = {row.label: row for row in result.rows if row.group is None}
    assert whole["prompt/own by judge"].value == 0.5
    assert whole["concept/own by judge"].value is None
    assert whole["concept_x_prompt/own by judge"].value is None
    assert whole[f"dino/{tiny_dino.name}"].value == pytest.approx(1)  # a copy is its reference
    (alone,) = evaluate("dreambench_plus", "copy", judge=judge, changes=NOTHING)
    assert (alone.rows[0].n, alone.rows[0].unscored) == (0, 36)


def test_an_unreadable_round_is_left_out_and_not_its_sample() -> None:
    """As benchmarking.py at 66ca27e: each round's mean over the grades that it has, then their mean."""
    scorer = plus(rounds=2)
    summaries = scorer.summaries()
    grades = {"a": (4, 0, 3, 9), "b": (2, None, 1, 3), "c": (None, None, 4, 4)}
    for name, given in grades.items():
        sample = Sample(name, references=("x",))
        score = scorer.judged(sample, Response(), dict(zip(scorer.names, given, strict=True)))
        assert (score.value is None, score.partial) == (name == "c", name == "c")
        for summary in summaries:
            summary.accumulator.add(sample, score)
    concept = ((4 + 2) / 2 + 0) / 2 / 4
    prompt = ((3 + 1 + 4) / 3 + (9 + 3 + 4) / 3) / 2 / 4
    values = [summary.accumulator.value() for summary in summaries]
    assert values == pytest.approx([concept * prompt, concept, prompt])


def test_the_automatic_figures_need_no_judge_and_can_be_compared(
    tiny_dino: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    encoders = {"dino": tiny_dino, "clip_i": tiny_clip, "clip_t": tiny_clip}
    clips = [f"task.score.options.{name}.encoder={tiny_clip}" for name in ("clip_i", "clip_t")]
    options: dict[str, Any] = {"changes": [*seen_by(tiny_dino), *clips]}
    results = [
        evaluate("dreambench_plus", "copy", protocol=protocol, **options)[0]
        for protocol in ("emu2", "plain")
    ]
    labels = [row.label for row in results[0].rows if row.group is None]
    assert labels == [f"{name}/{path.name}" for name, path in encoders.items()]
    values = {row.metric: row.value for row in results[0].rows if not row.group}
    assert values["dino"] == pytest.approx(1) and values["clip_i"] == pytest.approx(1)
    assert values["clip_t"] is not None and abs(values["clip_t"]) < 1
    compared = compare(*(read_run(result.folder) for result in results), force=True)
    overall = [d for d in compared.differences if d.group is None]
    assert [d.label for d in overall] == labels
    assert all(d.difference == 0 for d in overall)


def plus(**options: Any) -> DreamBenchPlus:
    scorer: DreamBenchPlus = registry.build("scorer", "dreambench_plus", options)
    return scorer


def test_other_words_are_named_and_unknown_ones_refused(tmp_path: Path) -> None:
    path = tmp_path / "official.yaml"
    path.write_text('user: "{reference}{image} Score?"\n')
    own = [summary.label for summary in plus().summaries()]
    assert own == ["concept_x_prompt/own", "concept/own", "prompt/own"]
    mixed = plus(wordings={"style": str(path)}).summaries()[0].label
    assert mixed.startswith("concept_x_prompt/own+official-")
    with pytest.raises(UnknownName, match="sbject"):
        plus(wordings={"sbject": str(path)})
    with pytest.raises(ConfigError, match=r"does not contain \{prompt\}"):
        plus(wordings={"prompt": str(path)})


def test_files_that_are_not_whole_are_named(root: Path) -> None:
    task = load_task("dreambench_plus")
    (root / "images/object/00.jpg").rename(root / "images/object/07.jpg")
    with pytest.raises(DataError, match=r"the image images/object/00\.jpg"):
        load_split(task, "all")
    (root / "images/object/07.jpg").rename(root / "images/object/00.jpg")
    for text, said in (("tin toy\none prompt\n", "2 lines"), ("\n" * 10, "10 of them empty")):
        (root / "captions/object/00.txt").write_text(text)
        with pytest.raises(DataError, match=f"9 prompts, one per line.* {said}"):
            load_split(task, "all")
