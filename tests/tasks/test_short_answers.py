"""What is particular about each short-answer benchmark, seen in whole runs on its official files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from emu2eval import evaluate
from emu2eval.adapters.base import Adapter, Limits
from emu2eval.data.load import load_split
from emu2eval.engine.evaluation import Result
from emu2eval.errors import ImageError
from emu2eval.media import frames, images
from emu2eval.spec.task import load_task
from emu2eval.types import Request, Response

from .drawing import write_json

MakeModel = Callable[..., Path]
Roots = Callable[[str], Path]


@pytest.fixture
def ask(
    roots: Roots, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """Runs a task with a model that gives scripted replies."""

    def run(
        task: str, default: str, replies: dict[str, str] | None = None, **options: Any
    ) -> Result:
        monkeypatch.setenv("EMU2EVAL_DATA", str(roots(task)))
        model = make_model(default=default, replies=replies or {})
        (result,) = evaluate(task, str(model), **options)
        return result

    return run


Ask = Callable[..., Result]


def values(result: Result) -> dict[str | None, float | None]:
    """Group -> value of the headline."""
    headline = result.rows[0].label
    return {row.group: row.value for row in result.rows if row.label == headline}


def scores(result: Result) -> dict[str, Any]:
    lines = (result.folder / "scores.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


def test_vizwiz_leaves_annotators_out_by_place(ask: Ask) -> None:
    result = ask("vizwiz", "Green")
    assert result.rows[0].label == "vqa_accuracy/vizwiz"
    # Ten times "green" and nothing else: by record, all would be left out together.
    assert scores(result)["VizWiz_val_00000001.jpg"]["value"] == 1
    deflated = ask("vizwiz", "Green", protocol="openflamingo")
    assert deflated.rows[0].label == "vqa_accuracy/openflamingo"
    assert scores(deflated)["VizWiz_val_00000001.jpg"]["value"] == 0


def test_vizwiz_reports_answerability(ask: Ask) -> None:
    rows = ask("vizwiz", "Unanswerable", protocol="emu2-chat").rows
    found = {row.label: row.value for row in rows if row.group is None}
    assert found["unanswerable_ap/of_answers"] == 25  # one of four has no answer
    assert found["unanswerable_f1/of_answers"] == pytest.approx(40)


@pytest.mark.parametrize(
    ("changes", "metric", "value"),
    [
        ([], "vqa_accuracy/official/raw", 100),
        (["task.score.options={}"], "vqa_accuracy/official", 0),
    ],
)
def test_okvqa_is_scored_as_typed_or_stemmed_and_says_which(
    ask: Ask, changes: list[str], metric: str, value: float
) -> None:
    row = ask("okvqa", "racing", changes=changes).rows[0]
    assert (row.label, row.value) == (metric, value)


@pytest.mark.parametrize("protocol", ["emu2", "emu2-chat", "openflamingo"])
def test_okvqa_stems_predictions_where_the_answers_are_stemmed(ask: Ask, protocol: str) -> None:
    row = ask("okvqa", "racing", protocol=protocol).rows[0]
    assert (row.label, row.value) == ("vqa_accuracy/okvqa_porter", 100)


def test_okvqa_s_question_types_have_names(ask: Ask) -> None:
    assert "question_type: Vehicles and Transportation" in values(ask("okvqa", "racing"))


def test_vqav2_unanimous_answers_are_compared_as_they_are(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_model: MakeModel
) -> None:
    root = tmp_path / "data"
    answers = [{"answer": "Red", "answer_confidence": "yes", "answer_id": i} for i in range(1, 11)]
    annotation = {"question_id": 1001, "image_id": 1, "answers": answers, "answer_type": "other"}
    question = {"question_id": 1001, "image_id": 1, "question": "What color?"}
    write_json(root / "vqav2/v2_OpenEnded_mscoco_val2014_questions.json", {"questions": [question]})
    write_json(root / "vqav2/v2_mscoco_val2014_annotations.json", {"annotations": [annotation]})
    (root / "coco/val2014").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(root / "coco/val2014/COCO_val2014_000000000001.jpg")
    monkeypatch.setenv("EMU2EVAL_DATA", str(root))
    model = str(make_model(default="Red"))
    for variant, value in (("official", 0), ("always", 100)):
        changes = [f"task.score.options.variant={variant}"]
        (result,) = evaluate("vqav2", model, changes=changes, out=tmp_path / variant)
        assert result.rows[0].value == value  # "red" after clean-up


def test_textvqa_is_scored_by_mmf_s_evaluator(ask: Ask) -> None:
    result = ask("textvqa", "yellow's", {}, protocol="plain")
    assert result.rows[0].label == "vqa_accuracy/m4c"
    assert scores(result)["34603"]["prediction"] == "yellow 's"


def test_openflamingo_s_clean_up_cuts_the_next_demonstration_off(ask: Ask) -> None:
    result = ask("textvqa", "green, I thinkQuestion:What", protocol="openflamingo")
    assert {row["prediction"] for row in scores(result).values()} == {"green"}
    stored = (result.folder / "responses.jsonl").read_text(encoding="utf-8")
    assert "I thinkQuestion" in stored


def test_openflamingo_shows_the_first_annotator_s_answer(
    roots: Roots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "data"
    for name in ("TextVQA_0.5.1_val.json", "TextVQA_0.5.1_train.json"):
        content = json.loads((roots("textvqa") / "textvqa" / name).read_text())
        for row in content["data"]:
            row["answers"] = ["first", *row["answers"][1:]]
        write_json(root / "textvqa" / name, content)
    (root / "textvqa/train_images").symlink_to(roots("textvqa") / "textvqa/train_images")
    monkeypatch.setenv("EMU2EVAL_DATA", str(root))
    for protocol, shown in (("openflamingo", True), ("plain", False)):
        (result,) = evaluate("textvqa", "most-common", shots=[4], protocol=protocol)
        lines = (result.folder / "responses.jsonl").read_text().splitlines()
        assert [json.loads(line)["text"] == "first" for line in lines] == [shown] * 4


def test_openflamingo_s_pool_is_2048_for_random_draws_and_its_zero_two_texts() -> None:
    """With RICES it searches all of train (655f693, evaluate.py)."""
    for name in ("vqav2", "okvqa", "vizwiz", "textvqa", "hateful_memes"):
        task = load_task(name, protocol="openflamingo")
        assert task.spec.demonstrations.drawn == 2048
        rices = {"demonstrations.chooser": "rices"}
        searched = load_task(name, protocol="openflamingo", overrides=rices).spec.demonstrations
        assert searched.drawn is None
        assert task.protocol.text_only == 2
        if task.spec.output.kind == "text":
            assert (task.spec.output.beams, task.spec.output.length_penalty) == (3, 0.0)


def test_gqa_counts_equality_and_tells_binary_from_open(ask: Ask) -> None:
    result = ask("gqa", "Yes.", {"What color": "the green"})
    found = values(result)
    assert (
        found["kind: binary"] == 100
    )  # lower case and no final period, before the official equality
    assert found["kind: open"] == 0  # an article is not forgiven
    assert found["structural: verify"] == 100
    assert result.rows[0].n == 6


def test_gqa_of_all_questions_scores_the_balanced_and_can_tell_consistency(ask: Ask) -> None:
    plain = ask("gqa", "yes", {"What color": "green"}, split="testdev-all")
    assert (plain.rows[0].n, plain.rows[0].unscored) == (6, 2)
    option = ["task.score.options.consistency=true"]
    told = ask("gqa", "no", {"What color": "green"}, split="testdev-all", changes=option)
    found = {row.label: row.value for row in told.rows if row.group is None}
    # One open question is right, and the one that it entails is not.
    assert found == {"exact_match": pytest.approx(100 / 6), "consistency": 0}


def test_hateful_memes_is_the_area_under_the_curve(ask: Ask) -> None:
    # Memes 1 to 4 are green, blue, yellow, black; 1 and 3 are hateful.
    result = ask("hateful_memes", "no", {"green": "yes", "black": "yes"})
    assert result.rows[0].label == "roc_auc"
    # Of the pairs (1, 2) (1, 4) (3, 2) (3, 4): won, tied, tied, lost.
    assert result.rows[0].value == 50
    result = ask("hateful_memes", "no", {"green": "yes"})
    assert result.rows[0].value == 75


def test_hateful_memes_without_labels_is_asked_and_called_hidden(ask: Ask) -> None:
    result = ask("hateful_memes", "no", split="test_unseen")
    row = result.rows[0]
    assert (row.n, row.unscored, row.hidden, result.tally.failed) == (0, 0, 3, 0)
    assert result.rows[0].value is None


def test_video_answers_are_whole_words_punctuation_aside(ask: Ask) -> None:
    result = ask("msvd_qa", ' "Yellow." ', {"of 24": "black cat"})
    found = {sample: row["value"] for sample, row in scores(result).items()}
    assert found == {"123": 1, "124": 0, "125": 0, "126": 0}
    assert "category: 10" in values(ask("msrvtt_qa", "dog"))


def test_reading_a_split_opens_no_video(roots: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMU2EVAL_DATA", str(roots("msrvtt_qa")))

    def opened(path: str, *_: Any) -> None:
        raise AssertionError(f"{path} is opened")

    monkeypatch.setattr(frames, "_opened", opened)
    monkeypatch.setattr(frames, "_digest", opened)
    for split in ("train", "val", "test"):
        assert len(load_split(load_task("msrvtt_qa", split=split), split)) > 1


class Looker(Adapter):
    """Decodes every frame of its prompt and says how many there are."""

    limits = Limits(frozenset({"text"}), batch=2)

    def answer(self, requests: Any) -> list[Response]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Response:
        return Response(text=str(sum(1 for p in request.prompt.images() if images.load(p))))


def test_a_damaged_video_costs_only_its_own_answers(
    roots: Roots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "data"
    (root / "msvd/YouTubeClips").mkdir(parents=True)
    (root / "msvd_qa").symlink_to(roots("msvd_qa") / "msvd_qa")
    for path in (roots("msvd_qa") / "msvd/YouTubeClips").iterdir():
        data = path.read_bytes()
        whole = "_24_" not in path.name
        (root / "msvd/YouTubeClips" / path.name).write_bytes(data if whole else data[:300])
    monkeypatch.setenv("EMU2EVAL_DATA", str(root))
    model = tmp_path / "looker.yaml"
    model.write_text(json.dumps({"name": "looker", "adapter": f"{__name__}:Looker"}))
    (result,) = evaluate("msvd_qa", str(model))
    assert (result.rows[0].n, result.rows[0].unscored) == (3, 1)
    found = scores(result)
    assert "truncated, damaged or not a video" in found["124"]["why"]
    assert found["123"]["prediction"] == "16"
    next((root / "msvd/YouTubeClips").glob("*_23_*")).unlink()
    with pytest.raises(ImageError, match="the video does not exist"):
        evaluate("msvd_qa", str(model), shots=[1])
