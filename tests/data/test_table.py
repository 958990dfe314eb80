"""A user's own table: named columns exist and hold what they are used for, or the row is named."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from emu2eval import registry
from emu2eval.errors import DataError, UserError
from emu2eval.types import Image, Sample

ROW = {"id": 1, "image": "x.png", "question": "what?", "answer": "cat"}


def jsonl(root: Path, *rows: Any, name: str = "t.jsonl") -> str:
    (root / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return name


def read(root: Path, files: str, **options: Any) -> Any:
    return registry.build("reader", "table", {"files": files, **options}, given=(root,))


def one(root: Path, name: str, **options: Any) -> Sample:
    (sample,) = read(root, name, **options)
    return sample


def told(root: Path, name: str, **options: Any) -> UserError:
    with pytest.raises(UserError) as caught:
        list(read(root, name, **options))
    return caught.value


def test_a_list_of_answers_is_several_references(tmp_path: Path) -> None:
    sample = one(tmp_path, jsonl(tmp_path, ROW | {"answer": ["cat", "kitten", "kitten", 3]}))
    assert sample.references == ("cat", "kitten", "kitten", "3")
    assert sample.answer == "kitten"  # most say so
    assert one(tmp_path, jsonl(tmp_path, ROW | {"answer": ["cat", "kitten"]})).answer == "cat"


def test_no_answer_is_no_reference(tmp_path: Path) -> None:
    for nothing in ("", "  ", None, [], [""]):
        sample = one(tmp_path, jsonl(tmp_path, ROW | {"answer": nothing}))
        assert (sample.references, sample.answer) == ((), None)
    (tmp_path / "t.csv").write_text("id,image,answer,all\n1,x.png,,\n2,x.png,a,a | b||\n")
    empty, full = read(tmp_path, "t.csv")
    assert (empty.references, empty.answer) == ((), None)
    assert full.references == ("a",)
    empty, full = read(tmp_path, "t.csv", references="all")
    assert (empty.references, full.references) == ((), ("a", "b"))
    hidden = one(tmp_path, jsonl(tmp_path, ROW), answer=False)
    assert (hidden.references, hidden.answer) == ((), None)


def test_references_do_without_a_column_of_answers(tmp_path: Path) -> None:
    name = jsonl(tmp_path, {"id": 1, "image": "x.png", "all": ["b", "a", "b"]})
    sample = one(tmp_path, name, references="all")
    assert (sample.references, sample.answer) == (("b", "a", "b"), "b")
    assert one(tmp_path, name, references="all", answer=False).answer is None
    name = jsonl(tmp_path, ROW | {"answer": "", "all": ["b"]})
    assert one(tmp_path, name, references="all").answer is None
    # In JSON lines a text is one text, whatever stands in it.
    name = jsonl(tmp_path, ROW | {"all": "a|b"})
    assert one(tmp_path, name, references="all").references == ("a|b",)


def test_images_that_answer_are_the_references(tmp_path: Path) -> None:
    sample = one(tmp_path, jsonl(tmp_path, ROW | {"answer": "c.png"}), answer_is="image")
    assert sample.references == (sample.answer,) == (Image(str(tmp_path / "c.png")),)


@pytest.mark.parametrize(
    "options",
    [
        {"id": "nr"}, {"images": "file"}, {"images": ["image", "file"]}, {"fields": ["ask"]},
        {"answer": "reply"}, {"references": "all"}, {"choices": "options"}, {"cluster": "scene"},
        {"groups": ["kind"]},
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_column_that_is_not_there_is_named(
    tmp_path: Path, options: dict[str, Any], form: str
) -> None:
    (tmp_path / "t.csv").write_text("id,image,question,answer\n1,x.png,what?,cat\n")
    jsonl(tmp_path, ROW)
    error = told(tmp_path, f"t.{form}", **options)
    ((option, column),) = options.items()
    column = column if isinstance(column, str) else column[-1]
    assert f"unknown column {column!r}" in error.what
    assert error.where == f"{tmp_path}/t.{form}:{1 if form == 'jsonl' else 2}"
    assert f"`{option}`" in str(error.hint)
    assert "id, image, question, answer" in str(error.hint)


def test_a_table_without_answers_says_so_before_anything_is_asked(tmp_path: Path) -> None:
    name = jsonl(tmp_path, {"id": 1, "image": "x.png", "label": "cat"})
    error = told(tmp_path, name)
    assert "unknown column 'answer'" in error.what
    assert "answer: false" in str(error.hint)
    # Every row is looked at, not the first alone.
    name = jsonl(tmp_path, ROW, {"id": 2, "image": "x.png"})
    assert told(tmp_path, name).where == f"{tmp_path / name}:2"


@pytest.mark.parametrize(
    ("changes", "options", "shown"),
    [
        ({"id": [1]}, {}, "[1]"),
        ({"id": True}, {}, "true"),
        ({"image": 7}, {}, "7"),
        ({"image": ["a.png", 7]}, {}, "7"),
        ({"image": {"file": "a.png"}}, {}, '{"file":"a.png"}'),
        ({"answer": {"text": "cat"}}, {}, '{"text":"cat"}'),
        ({"answer": ["cat", None]}, {}, "null"),
        ({"answer": [["cat"]]}, {}, '["cat"]'),
        ({"question": ["a"]}, {"fields": ["question"]}, '["a"]'),
        ({"all": {}}, {"references": "all"}, "{}"),
        ({"all": [{"a": 1}]}, {"choices": "all"}, '{"a":1}'),
        ({"all": {}}, {"cluster": "all"}, "{}"),
        ({"all": [1]}, {"groups": ["all"]}, "[1]"),
        ({"answer": "x" * 50 + "y" * 50}, {"groups": ["long"]}, "y"),
    ],
)
def test_a_cell_of_another_kind_names_its_row(
    tmp_path: Path, changes: dict[str, Any], options: dict[str, Any], shown: str
) -> None:
    if "groups" in options and options["groups"] == ["long"]:
        changes = {"long": [changes["answer"]]}
        shown = f'["{"x" * 50}{"y" * 8}…'
    name = jsonl(tmp_path, ROW | {"all": "a", "long": "a"}, ROW | {"id": 2} | changes)
    error = told(tmp_path, name, **options)
    assert error.where == f"{tmp_path / name}:2"
    assert f"contains {shown}, but" in error.what


def test_labels_can_be_empty_or_true(tmp_path: Path) -> None:
    rows = [ROW | {"id": n, "hard": label} for n, label in enumerate([True, None, "", 3])]
    found = read(tmp_path, jsonl(tmp_path, *rows), groups=["hard"], cluster="hard")
    labels = ["true", None, None, "3"]
    assert [(s.cluster, s.groups.get("hard")) for s in found] == [(x, x) for x in labels]


def test_a_long_cell_is_read_and_the_limit_is_as_it_was(tmp_path: Path) -> None:
    before, long = csv.field_size_limit(), "long " * 40_000
    (tmp_path / "t.csv").write_text(f'id,image,question,answer\n1,x.png,"{long}",cat\n')
    assert one(tmp_path, "t.csv").fields["question"] == long
    assert csv.field_size_limit() == before


def test_what_is_no_table_is_one_paragraph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from emu2eval.media import tsvfile

    monkeypatch.setattr(tsvfile, "_LARGEST", 1000)
    (tmp_path / "t.csv").write_text("id,image,answer\n1,x.png,cat\n2,x.png," + "a" * 2000 + "\n")
    error = told(tmp_path, "t.csv")
    assert (error.where, "not a text table" in error.what) == (f"{tmp_path}/t.csv:3", True)
    (tmp_path / "t.csv").write_text("id,image,answer,answer\n1,x.png,cat,dog\n")
    assert "two columns are named 'answer'" in told(tmp_path, "t.csv").what
    (tmp_path / "t.jsonl").write_text('{"id": ' + "[" * 100_000 + "\n")
    assert told(tmp_path, "t.jsonl").where == f"{tmp_path}/t.jsonl:1"


TEXTS = {
    "t.csv": "id,image,question,answer\r\n1,x.png,où?,café\r\n2,x.png,où?,thé\r\n",
    "t.jsonl": '{"id": "1", "image": "x.png", "question": "où?", "answer": "café"}\r\n'
    '{"id": "2", "image": "x.png", "question": "où?", "answer": "thé"}\r\n',
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_says_the_encoding(tmp_path: Path, name: str, encoding: str) -> None:
    (tmp_path / name).write_bytes(TEXTS[name].encode(encoding))
    samples = list(read(tmp_path, name))
    assert [(s.id, s.answer, s.fields["question"]) for s in samples] == [
        ("1", "café", "où?"), ("2", "thé", "où?"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_another_encoding_is_told_of_the_file_and_its_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(TEXTS[name].encode("cp1252"))
    error = told(tmp_path, name)
    line = 2 if name == "t.csv" else 1
    assert (error.where, "'ù' in Windows-1252" in error.what) == (f"{path}:{line}", True)
    assert "iconv -f WINDOWS-1252 -t UTF-8" in str(error.hint)
    for encoding in ("utf-16-le", "utf-16-be"):
        path.write_bytes(TEXTS[name].encode(encoding))
        error = told(tmp_path, name)
        assert isinstance(error, DataError)
        assert (error.where, "UTF-16" in error.what) == (str(path), True)
    path.write_bytes(b"\xff\xfe\x00\xd8i")
    assert (told(tmp_path, name).where, "UTF-16" in told(tmp_path, name).what) == (str(path), True)


def test_semicolons_are_told(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id;image;answer\n1;x.png;cat\n")
    error = told(tmp_path, "t.csv")
    assert "unknown column 'image'" in error.what
    assert "id;image;answer; the file uses semicolons" in str(error.hint)
