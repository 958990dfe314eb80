"""Samples from the hub's parquet files: columns mapped, images read late, shards all of one upload."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PILImage

from emu2eval import registry
from emu2eval.data.samples import Samples
from emu2eval.errors import DataError, ImageError, MissingData, UnknownName, UserError
from emu2eval.media import images, parquetfile
from emu2eval.types import Image, Sample

from ..conftest import encoded, hub_image, write_shards


def read(root: Path, files: str, **options: Any) -> Any:
    hidden = {} if {"answer", "references"} & options.keys() else {"answer": False}
    return registry.build("reader", "parquet", {"files": files, **hidden, **options}, given=(root,))


def rows(count: int = 7) -> list[dict[str, Any]]:
    return [
        {
            "question_id": 100 + n,
            "image_id": n // 2,
            "image": hub_image(n // 2),
            "question": f"What is {n}?",
            "answers": [{"answer": a, "answer_id": i} for i, a in enumerate(["red", "a", "red"])],
            "types": {"structural": "query" if n % 2 else "verify"},
            "kept": n != 3,
        }
        for n in range(count)
    ]


OPTIONS: dict[str, Any] = {
    "id": "question_id",
    "fields": ["question"],
    "references": "answers.answer",
    "cluster": "image_id",
    "groups": {"structure": "types.structural"},
}


def test_columns_become_samples(tmp_path: Path) -> None:
    write_shards(tmp_path / "data", "val", rows(), shards=2)
    samples = list(read(tmp_path, "data/val-*.parquet", **OPTIONS))
    assert [s.id for s in samples] == [str(100 + n) for n in range(7)]
    assert samples[5].fields == {"question": "What is 5?"}
    assert samples[5].references == ("red", "a", "red")
    assert samples[5].answer == "red"  # the most common one
    assert samples[5].cluster == "2"
    assert samples[5].groups == {"structure": "query"}
    for n, sample in enumerate(samples):
        (image,) = sample.images
        assert isinstance(image, Image)
        assert images.read(image) == encoded(n // 2)
        assert images.load(image).size[1] == 16
    # Equal bytes in two rows are one image.
    first, second = (images.digest(s.images[0]) for s in samples[:2])  # type: ignore[arg-type]
    assert first == second


def test_images_stay_where_they_are_until_they_are_asked_for(tmp_path: Path) -> None:
    (path,) = write_shards(tmp_path / "data", "val", rows(), shards=1, group=3)
    samples = Samples(read(tmp_path, "data/*.parquet", **OPTIONS), where="val")
    image = samples[4].images[0]
    assert image == Image(str(path), member="image/1/1")
    assert image.name == f"{path.name}#image/1/1"
    assert image.data is None
    assert pickle.loads(pickle.dumps(image)) == image
    assert images.read(image) == encoded(2)


def test_what_is_kept_in_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shards(tmp_path, "val", rows(40), shards=1, group=2)
    shown = [s.images[0] for s in read(tmp_path, "*.parquet", **OPTIONS)]
    one = sum(len(encoded(0)) for _ in range(2))
    monkeypatch.setattr(parquetfile, "KEPT_BYTES", 4 * one)
    parquetfile._blocks.clear()
    for n, image in enumerate(shown):
        assert images.read(image) == encoded(n // 2)  # type: ignore[arg-type]
        assert len(parquetfile._blocks) <= 4
    parquetfile._blocks.clear()
    monkeypatch.setattr(parquetfile, "KEPT_BYTES", 0)  # a row group larger than that is kept alone
    for n in (39, 0, 17):
        assert images.read(shown[n]) == encoded(n // 2)  # type: ignore[arg-type]
        assert len(parquetfile._blocks) == 1


def test_only_the_rows_of_the_split(tmp_path: Path) -> None:
    """nlphuji/flickr30k: one split called test holds every row, and a column tells which is which."""
    listed = [
        {"img_id": str(n), "image": hub_image(n), "caption": [f"a {n}", f"the {n}"], "split": s}
        for n, s in enumerate(["train", "test", "val", "test", "train"])
    ]
    write_shards(tmp_path, "test", listed, shards=1)
    options = {"id": "img_id", "references": "caption", "where": {"split": "test"}}
    samples = list(read(tmp_path, "test-*.parquet", **options))
    assert [s.id for s in samples] == ["1", "3"]
    assert images.read(samples[1].images[0]) == encoded(3)  # type: ignore[arg-type]
    assert samples[1].references == ("a 3", "the 3")
    with pytest.raises(DataError, match="no row has"):
        list(read(tmp_path, "test-*.parquet", **{**options, "where": {"split": "tset"}}))
    # lmms-lab/flickr30k has all rows too, but no column that tells them apart: refused, not mixed.
    for row in listed:
        del row["split"]
    write_shards(tmp_path / "other", "test", listed, shards=1)
    with pytest.raises(UnknownName, match="'split'"):
        list(read(tmp_path / "other", "test-*.parquet", **options))


def test_questions_and_images_in_files_of_their_own(tmp_path: Path) -> None:
    """lmms-lab/GQA: one configuration holds the questions, another the images, joined by an id."""
    asked = [
        {"id": f"2{n}", "imageId": f"n{n // 2}", "question": f"Is it {n}?", "answer": "yes"}
        for n in range(6)
    ]
    write_shards(tmp_path / "testdev_instructions", "testdev", asked, shards=1)
    shown = [{"id": f"n{n}", "image": hub_image(n)} for n in (2, 0, 1)]
    write_shards(tmp_path / "testdev_images", "testdev", shown, shards=2, group=1)
    options = {
        "fields": ["question"],
        "answer": "answer",
        "cluster": "imageId",
        "join": {"files": "testdev_images/*.parquet", "on": "imageId", "id": "id"},
    }
    samples = list(read(tmp_path, "testdev_instructions/*.parquet", **options))
    assert [s.id for s in samples] == [f"2{n}" for n in range(6)]
    assert samples[0].references == ("yes",)
    for n, sample in enumerate(samples):
        assert images.read(sample.images[0]) == encoded(n // 2)  # type: ignore[arg-type]
    write_shards(tmp_path / "testdev_images", "testdev", shown[:2], shards=2, group=1)
    with pytest.raises(DataError, match=r"no image with the id 'n1'") as caught:
        list(read(tmp_path, "testdev_instructions/*.parquet", **options))
    assert str(caught.value.where).endswith("testdev-00000-of-00001.parquet, row 2")
    with pytest.raises(UserError, match="'join' of reader parquet needs the key 'on'"):
        list(read(tmp_path, "testdev_instructions/*.parquet", join={"files": "x"}))


def test_several_images_some_or_none(tmp_path: Path) -> None:
    """MMMU has columns image_1 to image_7, mostly empty; SEED-Bench a list of images."""
    listed = [
        {
            "id": str(n),
            "image_1": hub_image(n),
            "image_2": hub_image(10 + n) if n == 1 else None,
            "image_3": None if n else hub_image(None),
            "frames": [hub_image(20 + n + i) for i in range(n)],
        }
        for n in range(3)
    ]
    write_shards(tmp_path, "val", listed, shards=1, group=3)
    columns = ["image_1", "image_2", "image_3", "frames"]
    samples = list(read(tmp_path, "*.parquet", images=columns))
    seen = [[images.read(p) for p in s.images] for s in samples]  # type: ignore[arg-type]
    wanted = [[0], [1, 11, 21], [2, 22, 23]]
    assert seen == [[encoded(number) for number in numbers] for numbers in wanted]


def test_a_pool_keeps_only_the_answer(tmp_path: Path) -> None:
    write_shards(tmp_path, "train", rows(2), shards=1)
    options = OPTIONS | {"references": False, "answer": "answers.answer", "groups": []}
    (sample, _) = read(tmp_path, "*.parquet", **options)
    assert (sample.answer, sample.references) == ("red", ())
    (one, _) = read(tmp_path, "*.parquet", id="question_id", answer="answers.1.answer")
    assert (one.answer, one.references) == ("a", ("a",))


def test_ids_made_of_columns(tmp_path: Path) -> None:
    """lmms-lab/POPE counts from 1 in each category; lmms-lab/VizWiz-VQA leaves .jpg off its names."""
    write_shards(tmp_path, "test", rows(2), shards=1)
    samples = list(read(tmp_path, "*.parquet", id="{image_id}-{question_id}.jpg"))
    assert [s.id for s in samples] == ["0-100.jpg", "0-101.jpg"]
    with pytest.raises(UnknownName, match="unknown column 'image_idd'"):
        list(read(tmp_path, "*.parquet", id="{image_idd}-1"))


def test_hidden_answers(tmp_path: Path) -> None:
    listed = [{**row, "answers": None, "types": None} for row in rows(2)]
    write_shards(tmp_path, "test", listed, shards=1)
    (first, _) = read(tmp_path, "*.parquet", **OPTIONS)
    assert (first.answer, first.references, first.groups) == (None, (), {})


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"id": "question_idd"}, UnknownName, "did you mean 'question_id'"),
        ({"fields": ["quest"]}, UnknownName, "unknown column 'quest'"),
        ({"images": "photo"}, UnknownName, "unknown column 'photo'"),
        ({"id": "types.none"}, UnknownName, "available: types.structural"),
    ],
)
def test_columns_that_are_not_there(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    write_shards(tmp_path, "val", rows(2), shards=1)
    with pytest.raises(error, match=says):
        list(read(tmp_path, "*.parquet", **{**OPTIONS, **options}))


def test_shards_that_are_not_all_there_or_of_two_uploads(tmp_path: Path) -> None:
    paths = write_shards(tmp_path, "val", rows(), shards=3)
    paths[1].unlink()
    with pytest.raises(MissingData, match=r"val-00001-of-00003 is missing") as caught:
        list(read(tmp_path, "val-*.parquet", **OPTIONS))
    assert "hf download" in str(caught.value.hint)
    write_shards(tmp_path, "val", rows(), shards=3)
    write_shards(tmp_path, "val", rows(), shards=2)
    with pytest.raises(DataError, match=r"two uploads.*of-00002 and .*of-00003"):
        list(read(tmp_path, "val-*.parquet", **OPTIONS))


def test_a_loading_script_is_never_run(tmp_path: Path) -> None:
    """HuggingFaceM4/VQAv2 is a program that fetches the data; `datasets` runs such programs no more."""
    (tmp_path / "VQAv2.py").write_text("raise SystemExit('ran')")
    with pytest.raises(MissingData, match="no file matches") as caught:
        list(read(tmp_path, "data/validation-*.parquet", **OPTIONS))
    assert "VQAv2.py is a loading script" in str(caught.value.hint)
    (tmp_path / "validation.csv").touch()  # then the program is somebody's own
    with pytest.raises(MissingData) as caught:
        list(read(tmp_path, "validaton.csv", **OPTIONS))
    assert str(caught.value.hint) == "did you mean 'validation.csv'? Set `files` in the task file"


def test_damaged_files_and_images(tmp_path: Path) -> None:
    (path,) = write_shards(tmp_path, "val", rows(4), shards=1)
    whole = path.read_bytes()
    (sample, *_) = read(tmp_path, "*.parquet", **OPTIONS)
    image = sample.images[0]
    middle = whole[:4] + bytes(len(whole) - 1400) + whole[-1396:]  # the footer is whole
    for content in (whole[: len(whole) // 2], middle, b"", b"<html>404</html>"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="truncated or damaged"):
            list(read(tmp_path, "*.parquet", **OPTIONS))
    path.unlink()
    with pytest.raises(ImageError, match="does not exist"):
        images.info(image)  # type: ignore[arg-type]
    broken = [{**row, "image": {"bytes": b"<html>", "path": "x"}} for row in rows(2)]
    write_shards(tmp_path, "val", broken, shards=1)
    with pytest.raises(ImageError, match="not an image") as caught:
        images.info(image)  # type: ignore[arg-type]
    assert str(caught.value.where) == f"{path}#image/0/0"


def test_few_bytes_that_unpack_to_many_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    given = [
        {"id": str(n), "q": "0" * 100_000 + str(n), "image": {"bytes": b"x"}} for n in range(9)
    ]
    path = tmp_path / "test.parquet"
    pq.write_table(pa.Table.from_pylist(given), path, compression="zstd", use_dictionary=False)
    assert len(list(read(tmp_path, "*.parquet", fields=["q"]))) == 9
    monkeypatch.setattr(parquetfile, "MOST_BYTES", 500_000)
    with pytest.raises(DataError, match="column 'q' of row group 0 decompresses to") as caught:
        list(read(tmp_path, "*.parquet", fields=["q"]))
    assert str(path) in str(caught.value)
    assert len(list(read(tmp_path, "*.parquet", fields=["id"]))) == 9


def test_members_come_back_as_they_went_in() -> None:
    sample = Sample("a", images=(Image("/x/y.parquet", member="image/0/1"), Image("/x/z.png")))
    packed = Samples([sample], where="here")
    assert packed[0] == sample
    moved = Sample("a", images=(Image("/w/y.parquet", member="image/0/1"), Image("/w/z.png")))
    other = Sample("a", images=(Image("/x/y.parquet", member="image/0/2"), Image("/x/z.png")))
    assert packed.digest == Samples([moved], where="here").digest
    assert packed.digest != Samples([other], where="here").digest
    with pytest.raises(ValueError, match="member"):
        Image(data=b"x", member="image/0/1")


@pytest.mark.parametrize(
    ("options", "known"),
    [
        ({"references": "answers.text"}, "answers.answer"),
        ({"groups": ["types.kind"]}, "types.structural"),
        ({"fields": ["question.text"]}, "nothing inside"),
        ({"fields": {"first": "answers.0.text"}}, "answers.0.answer"),
        ({"answer": "answers.answer.text"}, "answers.answer"),
        ({"cluster": "scene"}, "image_id"),
    ],
)
def test_a_column_inside_another_exists_too(
    tmp_path: Path, options: dict[str, Any], known: str
) -> None:
    write_shards(tmp_path, "val", rows(2), shards=1)
    with pytest.raises(UnknownName) as caught:
        list(read(tmp_path, "*.parquet", id="question_id", **options))
    assert known in caught.value.what


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"fields": ["answers"]}, r"'answers' contains \[\{"),
        ({"fields": {"first": "answers.0"}}, "'answers.0' contains {"),
        ({"references": "answers"}, "'answers' contains {"),
        ({"answer": "types"}, "'types' contains {"),
        ({"groups": ["answers"]}, r"'answers' contains \[\{"),
    ],
)
def test_a_cell_of_another_kind_names_its_row(
    tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    write_shards(tmp_path, "val", rows(2), shards=1)
    with pytest.raises(DataError, match=says) as caught:
        list(read(tmp_path, "*.parquet", id="question_id", **options))
    assert str(caught.value.where).endswith(".parquet, row 0")


def test_an_empty_answer_is_none(tmp_path: Path) -> None:
    listed = [{"id": n, "image": hub_image(n), "answer": text} for n, text in enumerate(["", "a"])]
    write_shards(tmp_path, "val", listed, shards=1)
    empty, full = read(tmp_path, "*.parquet", answer="answer")
    assert (empty.answer, empty.references) == (None, ())
    assert (full.answer, full.references) == ("a", ("a",))


@pytest.mark.parametrize("held", [5, {"file": "x.jpg"}])
def test_a_column_of_something_else_holds_no_images(tmp_path: Path, held: Any) -> None:
    write_shards(tmp_path / "data", "val", [{**row, "image": held} for row in rows(2)], shards=1)
    with pytest.raises(DataError, match="but images are expected"):
        list(read(tmp_path, "data/val-*.parquet", **OPTIONS))


@pytest.mark.parametrize("held", ["x.jpg", {"path": "x.jpg"}, ["x.jpg"]])
def test_images_can_be_files_beside_it(tmp_path: Path, held: Any) -> None:
    write_shards(tmp_path / "data", "val", [{**row, "image": held} for row in rows(2)], shards=1)
    (sample, _) = read(tmp_path, "data/val-*.parquet", folder="pictures", **OPTIONS)
    assert sample.images == (Image(str(tmp_path / "pictures/x.jpg")),)


def test_a_column_of_bytes_holds_images(tmp_path: Path) -> None:
    listed = [{**row, "image": encoded(n)} for n, row in enumerate(rows(2))]
    write_shards(tmp_path / "data", "val", listed, shards=1)
    found = [sample.images[0] for sample in read(tmp_path, "data/val-*.parquet", **OPTIONS)]
    assert [images.read(image) for image in found if isinstance(image, Image)] == [
        encoded(0),
        encoded(1),
    ]


def test_texts_and_names_that_are_not_utf8_are_damage(tmp_path: Path) -> None:
    (path,) = write_shards(tmp_path, "val", rows(2), shards=1)
    whole = path.read_bytes()
    for old, new in ((b"question", b"q\xffestion"), (b"What is 0?", b"What\xffis 0?")):
        path.write_bytes(whole.replace(old, new))
        with pytest.raises(UserError, match=r"truncated or damaged|unknown column"):
            list(read(tmp_path, "*.parquet", **OPTIONS))


def test_a_file_exchanged_for_one_of_its_size_and_time_is_read_anew(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    for name, colour in (("a", (255, 0, 0)), ("b", (0, 0, 255))):
        plain = PILImage.new("RGB", (8, 8), colour)
        stream = io.BytesIO()
        plain.save(stream, "BMP")
        table = pa.table({"image": [stream.getvalue()]})
        pyarrow.parquet.write_table(table, tmp_path / f"{name}.parquet", compression="none")
    one, other = tmp_path / "a.parquet", tmp_path / "b.parquet"
    assert one.stat().st_size == other.stat().st_size
    shown = [Image(str(one), member=parquetfile.member("image", 0, 0)) for _ in range(2)]
    first = images.digest(shown[0])
    times = (one.stat().st_atime_ns, one.stat().st_mtime_ns)
    other.replace(one)
    os.utime(one, ns=times)
    assert images.digest(shown[1]) != first
