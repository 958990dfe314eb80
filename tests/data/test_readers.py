"""Readers: the published easy-VQA, the VQA v2 format, a user's own table; and what bad rows are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PILImage

from emu2eval import registry
from emu2eval.data import easy_vqa, vqa
from emu2eval.data.paths import inside
from emu2eval.data.samples import Samples
from emu2eval.errors import DataError, UnknownName
from emu2eval.types import Image, Sample, Video


def test_easy_vqa_is_the_published_set() -> None:
    test = Samples(easy_vqa.read(Path(), "test"), where="test")
    train = Samples(easy_vqa.read(Path(), "train"), where="train")
    assert (len(test), len(train)) == (9_673, 38_575)
    assert len({s.cluster for s in test}) == 1_000
    assert len({s.cluster for s in train}) == 4_000
    assert {s.answer for s in test} == {*easy_vqa.COLOURS, *easy_vqa.SHAPES, "yes", "no"}
    assert not set(test.ids) & set(train.ids)


def vqa_files(root: Path, **changes: Any) -> dict[str, Any]:
    questions = [
        {"image_id": 42, "question": "What colour?", "question_id": 42001},
        {"image_id": 42, "question": "How many?", "question_id": 42000},
    ]
    annotations = [
        {
            "question_type": "what" if n else "how many",
            "multiple_choice_answer": answer,
            "answers": [
                {"answer": answer, "answer_confidence": "yes", "answer_id": i + 1}
                for i in range(10)
            ],
            "image_id": 42,
            "answer_type": "other" if n else "number",
            "question_id": 42000 + n,
        }
        for n, answer in enumerate(["2", "red"])
    ]
    (root / "images").mkdir(exist_ok=True)
    PILImage.new("RGB", (8, 8)).save(root / "images" / "COCO_val2014_000000000042.jpg")
    files = {"q.json": {"questions": questions}, "a.json": {"annotations": annotations}}
    for name, content in {**files, **changes}.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (root / name).write_text(text)
    return {
        "questions": "q.json",
        "annotations": "a.json",
        "images": "images",
        "image_name": "COCO_val2014_{image_id:012d}.jpg",
    }


def test_vqa_reads_the_official_layout(tmp_path: Path) -> None:
    samples = Samples(vqa.read(tmp_path, **vqa_files(tmp_path)), where="val")
    count, colour = samples
    assert (count.id, colour.id) == ("42000", "42001")
    assert colour.fields == {"question": "What colour?", "first_answer": "red"}
    assert colour.answer == "red"
    assert colour.references == ("red",) * 10
    assert colour.cluster == count.cluster == "42"
    assert count.groups == {"answer_type": "number", "question_type": "how many"}
    assert isinstance(colour.images[0], Image)
    assert Path(colour.images[0].path or "").exists()


def test_vqa_of_a_pool_keeps_only_the_answer(tmp_path: Path) -> None:
    options = vqa_files(tmp_path) | {"references": False}
    samples = Samples(vqa.read(tmp_path, **options), where="train")
    assert [s.answer for s in samples] == ["2", "red"]
    assert all(s.references == () for s in samples)


def test_vqa_without_annotations_is_a_hidden_test_split(tmp_path: Path) -> None:
    options = vqa_files(tmp_path)
    del options["annotations"]
    assert all(s.answer is None and not s.references for s in vqa.read(tmp_path, **options))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"q.json": '{"questions": [{"image_id": 42, "quest'}, "unexpected content"),
        ({"a.json": ""}, "unexpected content"),
        ({"a.json": "PK\3\4zip"}, "unexpected content"),
        ({"a.json": {"annotations": []}}, "question 42001 has no annotation"),
        ({"q.json": {"questions": []}}, "2 annotations have no question"),
        ({"q.json": {"questions": [{"image_id": 1, "question": "?"}]}}, "question_id"),
        (
            {"q.json": {"questions": [{"image_id": 7, "question": "?", "question_id": 42000}]}},
            "about image 7",
        ),
    ],
)
def test_vqa_files_that_are_wrong(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    options = vqa_files(tmp_path, **changes)
    with pytest.raises(DataError, match=says):
        list(vqa.read(tmp_path, **options))


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    options = vqa_files(tmp_path)
    before = list(vqa.read(tmp_path, **options))
    for name in ("q.json", "a.json"):
        (tmp_path / name).write_text((tmp_path / name).read_text(), encoding="utf-8-sig")
    assert list(vqa.read(tmp_path, **options)) == before


def test_a_zip_left_packed_is_recognised(tmp_path: Path) -> None:
    options = vqa_files(tmp_path, **{"a.json": "PK\3\4zip"})
    with pytest.raises(DataError) as caught:
        list(vqa.read(tmp_path, **options))
    assert "unpack" in str(caught.value.hint)


def write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def read_table(root: Path, files: str, **options: Any) -> Any:
    return registry.build("reader", "table", {"files": files, **options}, given=(root,))


def test_tables_in_every_format_are_the_same(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", '{"id": 1, "image": "x.png", "question": "q, 1", "answer": "a"}\n')
    write(tmp_path / "a.csv", 'id,image,question,answer\n1,x.png,"q, 1",a\n')
    write(tmp_path / "a.tsv", "id\timage\tquestion\tanswer\n1\tx.png\tq, 1\ta\n")
    found = [list(read_table(tmp_path, f"a.{form}")) for form in ("jsonl", "csv", "tsv")]
    assert found[0] == found[1] == found[2]
    (sample,) = found[0]
    assert sample.id == "1"
    assert sample.fields["question"] == "q, 1"
    assert sample.references == ("a",)
    assert sample.cluster == "x.png"


def test_tables_hold_lists_choices_and_images_as_answers(tmp_path: Path) -> None:
    row = {
        "key": "k1", "shots": ["a.png", "b.png"], "ask": "which", "drawn": "c.png",
        "all": ["c", "d"], "options": ["c", "d", "e"], "hard": "yes",
    }  # fmt: skip
    write(tmp_path / "t.jsonl", json.dumps(row) + "\n\n")
    (sample,) = read_table(
        tmp_path, "t.jsonl", id="key", images="shots", folder="p", answer="drawn",
        answer_is="image", references="all", choices="options", groups=["hard"], fields=["ask"],
    )  # fmt: skip
    assert [Path(p.path or "").name for p in sample.images] == ["a.png", "b.png"]  # type: ignore[union-attr]
    assert sample.answer == Image(str(tmp_path / "p" / "c.png"))
    assert sample.references == ("c", "d")
    assert sample.choices == ("c", "d", "e")
    assert sample.groups == {"hard": "yes"}


@pytest.mark.parametrize(
    ("name", "text", "says", "line"),
    [
        ("t.jsonl", '{"id": 1, "image": "a.png", "answer": "x"}\n{"id": 2,\n', "not JSON", 2),
        ("t.jsonl", "[1, 2]\n", "not a JSON object", 1),
        ("t.jsonl", '{"id": 1, "imag": "a.png"}\n', "did you mean 'imag'", 1),
        ("t.jsonl", '{"id": "", "image": "a.png"}\n', "no id", 1),
        ("t.jsonl", '{"id": null, "image": "a.png"}\n', "no id", 1),
        ("t.jsonl", '{"id": 1, "image": "../../etc/passwd"}\n', "outside the data folder", 1),
        ("t.jsonl", '{"id": 1, "image": "/etc/passwd"}\n', "outside the data folder", 1),
        ("t.csv", "id,image\n1,a.png,more\n", "more or fewer cells", 2),
        ("t.csv", "id,image\n1\n", "more or fewer cells", 2),
    ],
)
def test_rows_that_are_wrong(tmp_path: Path, name: str, text: str, says: str, line: int) -> None:
    write(tmp_path / name, text)
    with pytest.raises((DataError, UnknownName), match=says) as caught:
        list(read_table(tmp_path, name, **({"answer": False} if says == "no id" else {})))
    assert str(caught.value.where) == f"{tmp_path / name}:{line}"


def test_a_table_is_of_a_known_format(tmp_path: Path) -> None:
    (tmp_path / "t.xlsx").touch()
    with pytest.raises(DataError, match=r"\.json, \.csv or \.tsv"):
        list(read_table(tmp_path, "t.xlsx"))


@pytest.mark.parametrize("path", ["../a", "a/../../b", "/a", "~/a", "C:/a", "..\\a", "a\0b", ""])
def test_paths_stay_inside(tmp_path: Path, path: str) -> None:
    with pytest.raises(DataError, match="outside"):
        inside(tmp_path, path, where="here")
    assert inside(tmp_path, "a/..b/c.png", where="here") == tmp_path / "a/..b/c.png"


def test_samples_come_back_as_they_went_in() -> None:
    samples = [
        Sample(
            "b", {"q": "?"}, (Image("x/y.png"), Video((Image(data=b"1"), Image("z.png")))),
            "yes", ("yes", Image(data=b"2")), ("yes", "no"), "c", {"g": "1"},
        ),
        Sample("a", answer=Image("z.png")),
        Sample("c"),
    ]  # fmt: skip
    packed = Samples(samples, where="here")
    assert list(packed) == sorted(samples, key=lambda s: s.id)
    assert packed[1] == samples[0]
    assert packed.position("b") == 1
    assert packed.position("bb") is None
    assert packed[1:] == [samples[0], samples[2]]


def test_the_digest_of_data_is_of_what_it_says() -> None:
    def digest(*samples: Sample) -> str:
        return Samples(samples, where="here").digest

    one, two = Sample("1", answer="a"), Sample("2", images=(Image("/here/x.png"),))
    assert digest(one, two) == digest(two, one)
    assert digest(one, two) == digest(one, Sample("2", images=(Image("/there/x.png"),)))
    assert digest(one, two) != digest(Sample("1", answer="b"), two)
    assert digest(one, two) != digest(one, Sample("2", images=(Image("/here/y.png"),)))


def test_ids_stand_once_and_a_split_is_not_empty() -> None:
    with pytest.raises(DataError, match="'1' appears twice"):
        Samples([Sample("1"), Sample("2"), Sample("1")], where="here")
    with pytest.raises(DataError, match="no samples"):
        Samples([], where="here")
