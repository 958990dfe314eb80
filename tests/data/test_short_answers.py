"""The readers of OK-VQA, VizWiz, TextVQA, Hateful Memes, GQA and the video sets on files that are wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from emu2eval.data import gqa, hateful_memes, textvqa, video_qa, vizwiz, vqa
from emu2eval.errors import DataError
from emu2eval.types import Sample, Video

from .damage import told

Read = Callable[..., Iterator[Sample]]


def written(root: Path, content: Any) -> Path:
    (root / "images").mkdir(exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (root / "file.json").write_text(text)
    return root


MEME = {"id": 1, "img": "img/1.png", "text": "hello", "label": 1}
VIDEO = {"id": 1, "question": "what is it?", "answer": "dog", "video_id": 7}
CLIPS = {"videos": "images", "video_name": "{name}.avi", "names": "names.txt"}


@pytest.mark.parametrize(
    ("read", "content", "says"),
    [
        (vizwiz.read, [{"image": "../x.jpg", "question": "?"}], "outside the data folder"),
        (vizwiz.read, [{"question": "?"}], "missing required field `image`"),
        (
            textvqa.read,
            {"data": [{"question_id": 1, "image_id": "/x", "question": "?"}]},
            "outside",
        ),
        (textvqa.read, [], "Expected `object`"),
        (gqa.read, {"1": {"imageId": "..\\x", "question": "?"}}, "outside the data folder"),
        (gqa.read, {"1": {"imageId": 5, "question": "?"}}, "imageId"),
    ],
)
def test_rows_that_are_wrong(tmp_path: Path, read: Read, content: Any, says: str) -> None:
    file = "questions" if read is gqa.read else "file"
    with pytest.raises(DataError, match=says) as caught:
        list(read(written(tmp_path, content), **{file: "file.json"}, images="images"))
    assert "file.json" in str(caught.value.where)


@pytest.mark.parametrize("read", [vizwiz.read, textvqa.read, gqa.read])
def test_an_image_folder_that_is_missing_is_named(tmp_path: Path, read: Read) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        list(read(tmp_path, "file.json", images="nowhere"))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (json.dumps(MEME | {"label": 2}), "label is 2"),
        (json.dumps(MEME | {"img": "/etc/x.png"}), "outside the data folder"),
        (json.dumps({"id": 1, "img": "img/1.png"}), "missing required field `text`"),
        ('{"id": 1', "not describe a meme"),
    ],
)
def test_memes_that_are_wrong_are_told_by_line(tmp_path: Path, line: str, says: str) -> None:
    root = written(tmp_path, json.dumps(MEME) + "\n\n" + line)
    said = told(lambda: hateful_memes.read(root, "file.json"))
    assert says in said and said.endswith("file.json:3)")


@pytest.mark.parametrize(
    ("names", "says"),
    [("abc_1_2 vid8\n", "no line for vid7"), ("abc_1_2 seven", "is not `NAME vidN`")],
)
def test_clips_without_a_name(tmp_path: Path, names: str, says: str) -> None:
    root = written(tmp_path, [VIDEO])
    (root / "names.txt").write_text(names)
    said = told(lambda: video_qa.read(root, "file.json", **CLIPS))
    assert says in said and "names.txt" in said


def test_clips_by_their_first_name(tmp_path: Path) -> None:
    root = written(tmp_path, [VIDEO, VIDEO | {"id": 2, "question": "Who is it?"}])
    (root / "names.txt").write_text("\nabc_1_2\tvid7\n")
    one, two = video_qa.read(root, "file.json", **CLIPS, frames=4)
    assert one.images == (Video.sampled(f"{root}/images/abc_1_2.avi", 4),)
    assert one.images[0] is two.images[0]
    assert (one.groups, two.groups) == ({"question_type": "what"}, {"question_type": "who"})


def test_okvqa_keeps_answers_as_typed_beside_the_stemmed_ones(tmp_path: Path) -> None:
    typed = ["racing", "racing", "run", "ran", "racing", "", "run", "run", "racing", "racing"]
    answers = [{"answer": "race", "raw_answer": t, "answer_id": i} for i, t in enumerate(typed)]
    annotation = {"question_id": 5, "image_id": 4, "question_type": "one", "answers": answers}
    root = written(tmp_path, {"questions": [{"image_id": 4, "question": "?", "question_id": 5}]})
    types = {"one": "Vehicles"}
    (root / "a.json").write_text(json.dumps({"annotations": [annotation], "question_types": types}))
    (sample,) = vqa.read(root, "file.json", "images", "{image_id}.jpg", "a.json")
    assert sample.references == ("race",) * 10
    assert sample.alternatives == {"raw": tuple(typed)}
    assert (sample.answer, sample.fields["first_answer"]) == ("racing", "race")
    assert sample.groups == {"question_type": "Vehicles"}


def test_gqa_groups_are_those_of_the_official_script(tmp_path: Path) -> None:
    program = [
        {"operation": "select", "argument": "dog (1)", "dependencies": []},
        {"operation": "filter color", "argument": "red", "dependencies": [0]},
        {
            "operation": "query",
            "argument": "name",
            "dependencies": [1],
        },  # not a step: "query: name"
    ]
    question = {
        "imageId": "5",
        "question": "What is that?",
        "answer": "dog",
        "isBalanced": True,
        "types": {"structural": "query", "semantic": "obj", "detailed": "existThat"},
        "semantic": program,
        "entailed": ["1", "2"],
    }
    verify = question | {"types": {"structural": "verify", "semantic": "cat", "detailed": "x"}}
    loose = question | {"isBalanced": False}
    root = written(tmp_path, {"1": question, "2": verify, "3": loose})
    one, two, three = gqa.read(root, "file.json", "images")
    assert one.groups == {
        "kind": "open",
        "structural": "query",
        "semantic": "object",
        "steps": "2",
        "words": "3",
    }
    assert (two.groups["kind"], two.groups["semantic"]) == ("binary", "category")
    assert (three.groups, three.fields["balanced"]) == ({}, "no")
    assert one.fields["entailed"] == "1 2"
