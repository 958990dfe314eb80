"""One vocabulary of options: the same rows are the same samples, from whatever file they come."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from emu2eval import registry
from emu2eval.data.samples import Samples
from emu2eval.errors import DataError, UnknownName, UserError
from emu2eval.media import images
from emu2eval.types import Image, Sample, Segment, Video

from ..conftest import encoded, write_shards

ROW = {"id": 1, "image": "x.png", "question": "what?", "answer": "cat"}


def read(root: Path, files: Any, **options: Any) -> list[Sample]:
    first = files if isinstance(files, str) else files[0]
    kind = "parquet" if first.endswith(".parquet") else "table"
    return list(registry.build("reader", kind, {"files": files, **options}, given=(root,)))


def told(root: Path, files: Any, **options: Any) -> UserError:
    with pytest.raises(UserError) as caught:
        read(root, files, **options)
    return caught.value


def write(root: Path, rows: list[dict[str, Any]], form: str) -> str:
    """The rows as a file of some form; returns its name."""
    name = f"t.{form}"
    if form == "jsonl":
        (root / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif form == "json":
        (root / name).write_text(json.dumps({"about": {"n": 1}, "rows": rows}))
    elif form == "csv":

        def cell(value: Any) -> str:
            text = "|".join(map(str, value)) if isinstance(value, list) else str(value)
            return '"' + text.replace('"', '""') + '"'

        lines = [",".join(rows[0]), *(",".join(map(cell, row.values())) for row in rows)]
        (root / name).write_text("\n".join(lines) + "\n")
    else:
        (path,) = write_shards(root, "t", rows, shards=1)
        name = path.name
    return name


FORMS = ("jsonl", "json", "csv", "parquet")
MANY = [
    {
        "id": n, "image": f"{n // 2}.png", "question": f"q{n}", "answer": n % 2, "all": ["a", f"r{n}"],
        "A": "cat", "B": "dog", "C": "", "kind": "x" if n % 3 else "y", "part": "val" if n < 6 else "test",
    }
    for n in range(10)
]  # fmt: skip


def test_the_same_rows_are_the_same_samples_in_every_form(tmp_path: Path) -> None:
    options = {
        "answer_is": "index", "choices": ["A", "B", "C"], "groups": {"type": "kind"},
        "fields": ["question"], "alternatives": {"others": "all"}, "folder": "photos",
    }  # fmt: skip
    found = [read(tmp_path, write(tmp_path, MANY, form), **options) for form in FORMS]
    assert found[0] == found[1] == found[2] == found[3]
    sample = found[0][3]
    assert (sample.id, sample.answer, sample.references) == ("3", "dog", ("dog",))
    assert sample.choices == ("cat", "dog")
    assert sample.images == (Image(str(tmp_path / "photos/1.png")),)
    assert sample.fields["question"] == "q3"
    assert sample.fields["options"] == "A. cat\nB. dog"
    assert (sample.groups, sample.cluster) == ({"type": "y"}, "1.png")
    assert sample.alternatives == {"others": ("a", "r3")}


@pytest.mark.parametrize("form", FORMS)
def test_a_column_says_the_split(tmp_path: Path, form: str) -> None:
    name = write(tmp_path, MANY, form)
    split = {"column": "part", "name": "test"}
    assert [s.id for s in read(tmp_path, name, split=split)] == ["6", "7", "8", "9"]
    both = read(tmp_path, name, where={"part": ["val", "test"], "id": 3})
    assert [s.id for s in both] == ["3"]
    error = told(tmp_path, name, split={"column": "part", "name": "dev"})
    assert "no row has 'dev' in the column 'part'; available: val, test" in error.what


def drawn(root: Path, name: str, **split: Any) -> dict[str, set[str]]:
    options = {"draw": {"test": 0.4, "val": 0.2}, **split}
    return {
        each: {s.id for s in read(root, name, split={"name": each, **options})}
        for each in ("train", "val", "test")
    }


def test_a_draw_never_parts_the_samples_of_an_image(tmp_path: Path) -> None:
    name = write(tmp_path, MANY, "jsonl")
    sides = drawn(tmp_path, name)
    assert sorted(id for side in sides.values() for id in side) == [str(n) for n in range(10)]
    assert [len(sides[each]) for each in ("train", "val", "test")] == [4, 2, 4]
    for side in sides.values():
        assert {int(id) ^ 1 for id in side} == {
            int(id) for id in side
        }  # both questions of each image
    # Whatever the order of the rows; another seed, other images.
    assert drawn(tmp_path, write(tmp_path, MANY[::-1], "json")) == sides
    assert drawn(tmp_path, name, seed=1) != sides
    assert drawn(tmp_path, name) == {
        "train": sides["train"],
        "val": sides["val"],
        "test": sides["test"],
    }
    error = told(tmp_path, name, split={"draw": {"test": 0.5}, "name": "dev"})
    assert "the draw has no split 'dev'" in error.what


def test_one_image_under_two_names_stands_on_one_side(tmp_path: Path) -> None:
    for n in range(8):
        (tmp_path / f"{n}.png").write_bytes(encoded(n // 2))
    rows = [{"id": n, "image": f"{n}.png", "answer": "a"} for n in range(8)]
    for seed in range(4):
        test = drawn(tmp_path, write(tmp_path, rows, "jsonl"), seed=seed)["test"]
        assert {int(id) ^ 1 for id in test} == {int(id) for id in test}
    # Embedded ones are compared by their bytes, and rows chained by what they share stay together.
    shown = [
        {"id": n, "image": {"bytes": encoded(n // 2), "path": None}, "answer": "a"}
        for n in range(8)
    ]
    test = drawn(tmp_path, write(tmp_path, shown, "parquet"))["test"]
    assert test
    assert {int(id) ^ 1 for id in test} == {int(id) for id in test}
    chain = [{"id": n, "image": [f"{n}.png", f"{n + 1}.png"], "answer": "a"} for n in range(9)]
    sides = drawn(tmp_path, write(tmp_path, [*chain, MANY[0] | {"id": 9, "image": "z"}], "jsonl"))
    assert sorted(map(len, sides.values())) == [0, 1, 9] or 10 in map(len, sides.values())


def test_a_draw_can_be_even_and_by_a_column(tmp_path: Path) -> None:
    rows = [
        {"id": n, "image": f"{n}.png", "answer": "ab"[n % 4 == 0], "who": n // 4} for n in range(40)
    ]
    name = write(tmp_path, rows, "jsonl")
    test = drawn(tmp_path, name, stratify="answer")["test"]
    assert len(test) == 16
    assert sum(int(id) % 4 == 0 for id in test) == 4
    by = drawn(tmp_path, name, by="who")
    assert {int(id) // 4 for id in by["test"]}.isdisjoint({int(id) // 4 for id in by["train"]})


@pytest.mark.parametrize("form", ("jsonl", "json", "csv", "parquet"))
def test_base64_is_read_when_it_is_wanted(tmp_path: Path, form: str) -> None:
    texts = [base64.b64encode(encoded(n)).decode() for n in range(3)]
    rows = [{"id": n, "image": text, "answer": "é"} for n, text in enumerate(texts)]
    rows[1]["image"] = f"data:image/png;base64,{texts[1]}"
    found = read(tmp_path, write(tmp_path, rows, form))
    for n, sample in enumerate(found):
        (image,) = sample.images
        assert isinstance(image, Image)
        assert image.data is None  # it stays in the file
        assert images.read(image) == encoded(n)
        assert "image" not in sample.fields
    assert len({s.cluster for s in found}) == 3


def test_images_of_every_kind(tmp_path: Path) -> None:
    png, text = encoded(0), base64.b64encode(encoded(0)).decode()
    for cell in (
        {"bytes": text}, {"bytes": text, "path": "x.png"}, {"bytes": list(png)}, text.replace("/", "\\/"),
    ):  # fmt: skip
        line = json.dumps(ROW | {"image": cell}).replace("\\\\/", "\\/")
        (tmp_path / "t.jsonl").write_text(line + "\n")
        (sample,) = read(tmp_path, "t.jsonl")
        assert images.read(sample.images[0]) == png  # type: ignore[arg-type]
    inside = str(tmp_path / "a/x.png")  # an absolute path that leads into the folder
    assert read(tmp_path, write(tmp_path, [ROW | {"image": inside}], "jsonl"))[0].images == (
        Image(inside),
    )
    for path, says in (
        ("/etc/passwd", "outside"),
        ("../x.png", "outside"),
        ("https://x/y.png", "a URL"),
    ):
        error = told(tmp_path, write(tmp_path, [ROW | {"image": path}], "jsonl"))
        assert (says in error.what, error.where) == (True, f"{tmp_path / 't.jsonl'}:1")
    assert read(tmp_path, write(tmp_path, [ROW], "jsonl"), images=False)[0].images == ()


def test_videos_come_after_the_images(tmp_path: Path) -> None:
    row = ROW | {"clip": "v.mp4", "from": 1.5, "to": "4"}
    name = write(tmp_path, [row], "jsonl")
    (sample,) = read(tmp_path, name, videos="clip", frames=4, segment=["from", "to"], folder="m")
    video = Video.sampled(str(tmp_path / "m/v.mp4"), 4, Segment(1.5, 4.0))
    assert sample.images == (Image(str(tmp_path / "m/x.png")), video)
    assert read(tmp_path, name, images=False, videos="clip", cluster="clip")[0].cluster == "v.mp4"
    assert (
        "not a part of a video" in told(tmp_path, name, videos="clip", segment=["to", "from"]).what
    )


def test_rows_without_ids_are_named_by_what_they_hold(tmp_path: Path) -> None:
    rows = [{"image": f"{n}.png", "answer": "a"} for n in (0, 1, 1)]
    one = [s.id for s in read(tmp_path, write(tmp_path, rows, "jsonl"))]
    two = [s.id for s in read(tmp_path, write(tmp_path, rows[::-1], "csv"))]
    assert sorted(one) == sorted(two)
    assert one[2] == f"{one[1]}#2"
    named = read(tmp_path, "t.jsonl", id="{image}-{answer}", where={"image": "0.png"})
    assert [s.id for s in named] == ["0.png-a"]


@pytest.mark.parametrize(
    ("kind", "cell", "right"),
    [
        ("index", 1, "dog"), ("index", "0", "cat"), ("index", 1.0, "dog"), ("number", 1, "cat"),
        ("letter", "b", "dog"), ("letter", "(A)", "cat"), ("index", [0, 1], "cat"),
    ],
)  # fmt: skip
def test_an_answer_can_be_the_place_of_a_choice(
    tmp_path: Path, kind: str, cell: Any, right: str
) -> None:
    row = ROW | {"answer": cell, "options": ["cat", "dog"]}
    name = write(tmp_path, [row], "jsonl")
    (sample,) = read(tmp_path, name, answer_is=kind, choices="options")
    assert sample.answer == right
    (letter,) = read(tmp_path, name, answer_is=kind, choices="options", answer_as="letter")
    assert letter.answer == {"cat": "A", "dog": "B"}[right]
    assert len(letter.references) == (2 if isinstance(cell, list) else 1)


@pytest.mark.parametrize(
    ("changes", "options", "says"),
    [
        ({"answer": 2}, {"answer_is": "index", "choices": "options"}, "one of the 2 choices"),
        ({"answer": -1}, {"answer_is": "index", "choices": "options"}, "one of the 2 choices"),
        ({"answer": 1}, {"answer_is": "index"}, "one of the 0 choices"),
        ({"answer": "AB"}, {"answer_is": "letter", "choices": "options"}, "one of the 2 choices"),
        ({"answer": "cow"}, {"answer_as": "letter", "choices": "options"}, "not one of the 2"),
        ({"B": "", "C": "x"}, {"choices": ["answer", "B", "C"]}, "a choice is empty"),
    ],
)
def test_an_answer_that_is_no_choice_names_its_row(
    tmp_path: Path, changes: dict[str, Any], options: dict[str, Any], says: str
) -> None:
    name = write(tmp_path, [ROW | {"options": ["cat", "dog"]} | changes], "jsonl")
    error = told(tmp_path, name, **options)
    assert (says in error.what, error.where) == (True, f"{tmp_path / name}:1")


def test_nested_columns_in_every_form(tmp_path: Path) -> None:
    row = {"id": 1, "image": "x", "qa": {"q": "who?", "all": [{"a": "x"}, {"a": "y"}]}, "a.b": "z"}
    for form in ("jsonl", "json", "parquet"):
        (sample,) = read(
            tmp_path, write(tmp_path, [row], form), references="qa.all.a", answer="qa.all.1.a",
            fields={"question": "qa.q", "dotted": "a.b"},
        )  # fmt: skip
        assert (sample.references, sample.answer) == (("x", "y"), "y")
        assert sample.fields == {"question": "who?", "dotted": "z"}
        assert "qa.q" in told(tmp_path, write(tmp_path, [row], form), answer="qa.ask").what


def test_files_go_by_patterns_and_ranges(tmp_path: Path) -> None:
    for n in range(3):
        (tmp_path / f"s-{n:02d}.csv").write_text(f"id,image,answer\n{n},x.png,a\n")
    for files in ("s-*.csv", "s-{00..02}.csv", ["s-0[01].csv", "s-02.csv"], "s-0{0,1,2}.csv"):
        assert [s.id for s in read(tmp_path, files)] == ["0", "1", "2"]
    (tmp_path / "s[1].csv").write_text("id,image,answer\nodd,x.png,a\n")
    assert [s.id for s in read(tmp_path, "s[1].csv")] == ["odd"]
    assert "no file matches 's-03.csv'" in told(tmp_path, "s-{00..03}.csv").what
    assert "matches more than" in told(tmp_path, "s-{0..99999999}.csv").what


def test_a_json_file_names_where_its_rows_are(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps([ROW]))
    assert read(tmp_path, "t.json")[0].answer == "cat"
    (tmp_path / "t.json").write_text(json.dumps({"a": {"rows": [ROW, {"id": 2}]}, "b": []}))
    assert read(tmp_path, "t.json", rows="a.rows", where={"id": 1})[0].answer == "cat"
    assert told(tmp_path, "t.json", rows="a.rows").where == f"{tmp_path / 't.json'}: $.a.rows[1]"
    assert "has no key 'c'; its keys are: a, b" in told(tmp_path, "t.json", rows="c").what
    (tmp_path / "t.json").write_text('{"a": [{"id": 1]')
    assert "unexpected content" in told(tmp_path, "t.json").what
    (tmp_path / "t.json").write_text("")
    assert isinstance(told(tmp_path, "t.json"), DataError)


def test_options_that_contradict_are_told(tmp_path: Path) -> None:
    name = write(tmp_path, [ROW], "jsonl")
    for split, says in (
        ({"column": "a", "draw": {"test": 0.1}}, "by a column or drawn, not both"),
        ({"draw": {"test": 0.6, "val": 0.6}}, "add up to 1.2"),
        ({"draw": {"test": 1.5}}, "a number above 0 and below 1"),
        ({"draw": {"train": 0.5}}, "gets the rest"),
    ):
        assert says in str(told(tmp_path, name, split=split))
    assert isinstance(told(tmp_path, name, imags="x"), UnknownName)


def test_class_lists_are_kept_once(tmp_path: Path) -> None:
    names = tuple(f"class {n}" for n in range(500))
    packed = Samples((Sample(str(n), choices=names) for n in range(100)), where="here")
    assert packed[7].choices == names
    assert sum(map(len, packed._packed)) < 100 * 100
