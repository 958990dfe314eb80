"""Folders of `datasets`, image folders and webdataset shards as samples; and what damaged ones are told."""

from __future__ import annotations

import io
import json
import tarfile
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from emu2eval import registry
from emu2eval.errors import DataError, ImageError, MissingData, UserError
from emu2eval.media import arrowfile, images
from emu2eval.types import Image, Sample

from ..conftest import encoded

pa = pytest.importorskip("pyarrow")


def read(kind: str, root: Path, **options: Any) -> list[Sample]:
    return list(registry.build("reader", kind, options, given=(root,)))


def told(kind: str, root: Path, **options: Any) -> UserError:
    with pytest.raises(UserError) as caught:
        read(kind, root, **options)
    return caught.value


def seen(sample: Sample) -> list[bytes]:
    return [images.read(image) for image in sample.images if isinstance(image, Image)]


# -- folders of `datasets` -------------------------------------------------------------------------

LABEL = {"names": ["cat", "dog"], "_type": "ClassLabel"}
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def save(folder: Path, shards: list[list[dict[str, Any]]], *, batch: int = 2) -> list[Path]:
    """As `Dataset.save_to_disk` of datasets 4 leaves it, without the library."""
    folder.mkdir(parents=True)
    features = {
        "image": {"_type": "Image"},
        "label": LABEL,
        "more": {"feature": {"_type": "Image"}, "_type": "List"},
        "tags": {"feature": LABEL, "_type": "Sequence"},
    }
    info = {"features": features}
    schema = pa.schema(
        {
            "image": PICTURE,
            "label": pa.int64(),
            "more": pa.list_(PICTURE),
            "tags": pa.list_(pa.int64()),
            "question": pa.string(),
        }
    ).with_metadata({"huggingface": json.dumps({"info": info})})
    paths = []
    for n, rows in enumerate(shards):
        path = folder / f"data-{n:05d}-of-{len(shards):05d}.arrow"
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
            writer.write_table(pa.Table.from_pylist(rows, schema), max_chunksize=batch)
        paths.append(path)
    files = [{"filename": path.name} for path in paths]
    (folder / "state.json").write_text(json.dumps({"_data_files": files, "_split": "train"}))
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return paths


def arrow_row(n: int) -> dict[str, Any]:
    cell = {"bytes": encoded(n), "path": f"{n}.jpg"}
    return {
        "image": cell,
        "label": n % 2,
        "more": [cell] * (n % 3),
        "tags": [1, 0],
        "question": f"q{n}",
    }


def test_a_folder_of_datasets(tmp_path: Path) -> None:
    save(tmp_path / "d", [[arrow_row(n) for n in range(3)], [arrow_row(n) for n in (3, 4)]])
    found = read("datasets", tmp_path / "d", answer="label", images=["image", "more"])
    assert [sample.answer for sample in found] == ["cat", "dog", "cat", "dog", "cat"]
    assert [len(sample.images) for sample in found] == [1, 2, 3, 1, 2]
    for n, sample in enumerate(found):
        assert set(seen(sample)) == {encoded(n)}
        assert sample.choices == ("cat", "dog")  # the label's classes
        assert sample.fields["question"] == f"q{n}"
        assert sample.images[0] == Image(
            str(tmp_path / "d" / f"data-0000{n // 3}-of-00002.arrow"),
            member=arrowfile.member("image", n % 3 // 2, n % 3 % 2),
        )
    assert len({sample.id for sample in found}) == 5  # of what they hold: the rows have no ids
    (first, *_) = read("datasets", tmp_path / "d", answer="tags", choices=False, references="tags")
    assert (first.references, first.answer, first.choices) == (("dog", "cat"), "dog", ())
    drawn = [
        {
            s.id
            for s in read(
                "datasets", tmp_path / "d", answer="label", split={"name": n, "draw": {"test": 0.4}}
            )
        }
        for n in ("train", "test")
    ]
    assert (len(drawn[0]), len(drawn[1]), drawn[0] & drawn[1]) == (3, 2, set())


def test_splits_of_a_folder_of_datasets(tmp_path: Path) -> None:
    for n, split in enumerate(("train", "validation")):
        save(tmp_path / split, [[arrow_row(n)]])
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    (sample,) = read("datasets", tmp_path, answer="label", split={"name": "validation"})
    assert sample.answer == "dog"
    error = told("datasets", tmp_path, answer="label", split={"name": "val"})
    assert "the folder has no split 'val'; did you mean 'validation'" in error.what
    assert "nothing to select or draw" in told("datasets", tmp_path, split={"column": "a"}).what
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["../x"]}')
    assert "outside the data folder" in told("datasets", tmp_path, split={"name": "../x"}).what
    (tmp_path / "dataset_dict.json").unlink()
    assert "has no state.json" in told("datasets", tmp_path).what


def test_damaged_folders_of_datasets_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = save(tmp_path / "d", [[arrow_row(n) for n in range(6)]])
    whole = path.read_bytes()
    image = read("datasets", tmp_path / "d", answer="label")[4].images[0]
    # Cut anywhere, between two batches, too; and whatever else is found under the name.
    ends = [at for at in range(0, len(whole), 8) if whole[at : at + 4] == b"\xff\xff\xff\xff"]
    for content in (
        *(whole[:at] for at in (*ends, 100, len(whole) - 3)),
        b"<html>",
        b"ARROW1\0\0" + whole,
    ):
        path.write_bytes(content)
        error = told("datasets", tmp_path / "d", answer="label")
        assert ("truncated or damaged" in error.what, error.where) == (True, str(path)), error
        with pytest.raises(UserError):
            images.info(image)  # type: ignore[arg-type]
    # What `datasets` says of the columns is damaged: there are no names of classes then.
    path.write_bytes(whole.replace(b'"features"', b'"f\xffatures"'))
    (tmp_path / "d/dataset_info.json").unlink()
    assert read("datasets", tmp_path / "d", answer="label")[1].answer == "1"
    path.write_bytes(whole)
    (tmp_path / "d/state.json").write_text('{"_data_files": [{"filename": "../d/x.arrow"}]}')
    assert "outside the data folder" in told("datasets", tmp_path / "d").what
    (tmp_path / "d/state.json").write_text('{"_data_files": [{"filename": "x.arrow"}]}')
    assert isinstance(told("datasets", tmp_path / "d"), MissingData)
    (tmp_path / "d/state.json").write_text('{"_data_files": [{}], "_indices_data_files": [{}]}')
    assert "flatten_indices" in str(told("datasets", tmp_path / "d"))
    assert len(read("datasets", tmp_path / "d", files="*.arrow", answer="label")) == 6
    path.unlink()
    with pytest.raises(ImageError, match="does not exist"):
        images.info(image)  # type: ignore[arg-type]


def test_offsets_that_lead_outside_are_refused(tmp_path: Path) -> None:
    (path,) = save(tmp_path / "d", [[arrow_row(n) for n in range(2)]])
    whole = path.read_bytes()
    lengths = [len(encoded(0)), len(encoded(0)) + len(encoded(1))]
    offsets = b"".join(n.to_bytes(4, "little") for n in (0, *lengths))
    assert whole.count(offsets) >= 1
    path.write_bytes(whole.replace(offsets, offsets[:8] + b"\xff\xff\xff\x7f"))
    assert "truncated or damaged" in told("datasets", tmp_path / "d", answer="label").what


def test_compressed_arrow_files_are_refused(tmp_path: Path) -> None:
    """A few bytes may unpack to any number, and nothing says to how many."""
    (path,) = save(tmp_path / "d", [[arrow_row(0)]])
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    table = pa.table({"question": ["0" * 100_000], "answer": ["a"]})
    for new in (pa.ipc.new_stream, pa.ipc.new_file):
        with pa.OSFile(str(path), "wb") as file, new(file, table.schema, options=options) as writer:
            writer.write_table(table)
        assert "compressed" in told("datasets", tmp_path / "d", images=False).what
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    assert read("datasets", tmp_path / "d", images=False)[0].answer == "a"


@pytest.mark.parametrize("label", [2, -2])
def test_a_class_that_does_not_exist_names_its_row(tmp_path: Path, label: int) -> None:
    save(tmp_path / "d", [[arrow_row(0), arrow_row(1) | {"label": label}]])
    error = told("datasets", tmp_path / "d", answer="label")
    assert f"contains the class {label}, but there are 2" in error.what
    assert str(error.where).endswith(".arrow, row 1")
    (tmp_path / "e").mkdir()
    save(tmp_path / "e/d", [[arrow_row(0) | {"label": -1}, arrow_row(1) | {"label": None}]])
    assert {s.answer for s in read("datasets", tmp_path / "e/d", answer="label")} == {None}


# -- image folders ---------------------------------------------------------------------------------


def fill(root: Path, *paths: str) -> Path:
    for n, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(encoded(n) if "." in path else b"")
    return root


def test_an_image_folder(tmp_path: Path) -> None:
    fill(
        tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", "train/dog/1.PNG", "Validation/cat/sub/2.jpg",
        "Validation/emu/3.jpg", "train/cat/.hidden.jpg", "train/cat/notes.txt", "train/__MACOSX/x.jpg",
    )  # fmt: skip
    train = read("image-folder", tmp_path, split={"name": "train"})
    assert {(s.id, s.answer) for s in train} == {
        ("cat/1.jpg", "cat"), ("dog/1.PNG", "dog"), ("dog/1.jpg", "dog"),  # two files with one stem
    }  # fmt: skip
    val = read("image-folder", tmp_path, split={"name": "val"}, classes={"emu": "an emu"})
    assert [(s.id, s.answer) for s in val] == [("cat/sub/2.jpg", "cat"), ("emu/3.jpg", "an emu")]
    assert val[0].choices == ("an emu", "cat", "dog")  # those of every split
    assert val[0].fields["options"] == "A. an emu\nB. cat\nC. dog"
    error = told("image-folder", tmp_path, split={"name": "test"})
    assert "no folder for the split test, only for train and val" in error.what
    assert "`split: val`, and under `data`: `splits: {train: {}, val: {}}`" in str(error.hint)
    named = read("image-folder", tmp_path, split={"name": "test"}, folder="Validation")
    assert len(named) == 2


def test_without_folders_of_splits_they_are_drawn_evenly(tmp_path: Path) -> None:
    fill(tmp_path, *(f"{name}/{n}.jpg" for name in ("cat", "dog") for n in range(6)))
    (tmp_path / "dog/5.jpg").write_bytes((tmp_path / "cat/0.jpg").read_bytes())
    sides = {n: read("image-folder", tmp_path, split={"name": n}) for n in ("train", "test")}
    ids = [{s.id for s in side} for side in sides.values()]
    assert not ids[0] & ids[1]
    assert len(ids[0] | ids[1]) == 12
    assert any({"dog/5.jpg", "cat/0.jpg"} <= side for side in ids)  # one image
    for side in sides.values():
        counts = [sum(s.answer == name for s in side) for name in ("cat", "dog")]
        assert min(counts) >= 2
    more = read("image-folder", tmp_path, split={"name": "test", "draw": {"test": 0.25}, "seed": 3})
    assert len(more) == 3
    assert told("image-folder", tmp_path, split={"name": "val"}).what.startswith(
        "the draw has no split"
    )


def test_classes_that_look_alike_are_refused(tmp_path: Path) -> None:
    root = fill(tmp_path / "a", "Katze/1.jpg", "katze/1.jpg", "Straße/1.jpg", "東京/1.jpg")
    assert "only in case, spaces or accents: 'Katze' and 'katze'" in told("image-folder", root).what
    found = read(
        "image-folder",
        root,
        classes={"katze": "kitten"},
        split={"column": "id", "name": "東京/1.jpg"},
    )
    assert found[0].choices == ("Katze", "Straße", "kitten", "東京")
    half = {"draw": {"x": 0.5}, "name": "x"}
    meant = {"classes": {"katze": "Katze"}, "where": {"answer": "Katze"}}
    merged = read("image-folder", root, split=half, **meant)
    assert len(merged) == 1
    two = [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")]
    root = fill(tmp_path / "b", *(f"{name}/1.jpg" for name in two))
    if len(list(root.iterdir())) == 2:
        assert "case, spaces or accents" in told("image-folder", root).what


def test_an_image_folder_with_metadata(tmp_path: Path) -> None:
    fill(tmp_path, "test/1.jpg", "test/2.jpg")
    (tmp_path / "test/metadata.csv").write_text("file_name,caption\n1.jpg,one\n2.jpg,two\n")
    found = read("image-folder", tmp_path, split={"name": "test"}, answer="caption")
    assert [(s.id, s.answer) for s in found] == [("1.jpg", "one"), ("2.jpg", "two")]
    assert "not in a class folder" in told("image-folder", tmp_path, split={"name": "test"}).what
    with (tmp_path / "test/metadata.csv").open("a") as file:
        file.write("3.jpg,three\n")
    error = told("image-folder", tmp_path, split={"name": "test"}, answer="caption")
    assert "1 images listed in the metadata are missing, such as '3.jpg'" in error.what
    with (tmp_path / "test/metadata.csv").open("a") as file:
        file.write("../3.jpg,three\n")
    error = told("image-folder", tmp_path, split={"name": "test"}, answer="caption")
    assert "outside the data folder" in error.what


def test_folders_without_images_are_told(tmp_path: Path) -> None:
    assert "contains no images" in told("image-folder", tmp_path, split={"name": "test"}).what
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/notes.txt").touch()
    assert isinstance(told("image-folder", tmp_path, split={"name": "test"}), MissingData)
    fill(tmp_path, "cat/1.jpg")
    (tmp_path / "cat/loop").symlink_to(tmp_path)
    assert len(read("image-folder", tmp_path, split={"name": "test"})) == 1
    assert "(No such file or directory)" in told("image-folder", tmp_path / "none").what


# -- webdataset ------------------------------------------------------------------------------------


def tar(path: Path, members: dict[str, bytes] | list[tarfile.TarInfo]) -> Path:
    with tarfile.open(path, "w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member)
                info.size = len(members[member])  # type: ignore[call-overload]
                archive.addfile(info, io.BytesIO(members[member]))  # type: ignore[call-overload]
    return path


def shard(root: Path, name: str, numbers: range) -> None:
    members: dict[str, bytes] = {}
    for n in numbers:
        members[f"./a/{n:03d}.jpg"] = encoded(n)
        members[f"./a/{n:03d}.mask.png"] = encoded(n + 50)
        members[f"./a/{n:03d}.json"] = json.dumps({"question": f"q{n}", "answer": f"a{n}"}).encode()
        members[f"./a/{n:03d}.cls"] = f"{n % 2}\n".encode()
        members[f"./a/{n:03d}.pickle"] = b"cos\nsystem\n(S'exit'\ntR."
    tar(root / name, members)


def test_webdataset_shards(tmp_path: Path) -> None:
    shard(tmp_path, "t-000.tar", range(3))
    shard(tmp_path, "t-001.tar", range(3, 5))
    found = read("webdataset", tmp_path, files="t-{000..001}.tar")
    assert [(s.id, s.answer, s.fields["question"]) for s in found] == [
        (f"a/{n:03d}", f"a{n}", f"q{n}") for n in range(5)
    ]
    assert [seen(s) for s in found] == [[encoded(n), encoded(n + 50)] for n in range(5)]
    one = read(
        "webdataset", tmp_path, files="t-000.tar", images="jpg", answer="cls", id="{shard}-{id}"
    )
    assert [(s.id, s.answer, seen(s)) for s in one][1] == ("t-000-a/001", "1", [encoded(1)])
    assert one[0].fields["question"] == "q0"
    assert "pickle" not in one[0].fields
    masks = read("webdataset", tmp_path, files="t-000.tar", images="mask.png", answer="json.answer")
    assert seen(masks[2]) == [encoded(52)]
    # Each shard may count anew: told once, with the way out.
    shard(tmp_path, "u-0.tar", range(2))
    shard(tmp_path, "u-1.tar", range(2))
    error = told("webdataset", tmp_path, files="u-*.tar")
    assert "'a/000' appears twice" in error.what
    assert 'id: "{shard}/{id}"' in str(error.hint)
    assert len(read("webdataset", tmp_path, files="u-*.tar", id="{shard}/{id}")) == 4


def special(name: str, kind: bytes, link: str = "") -> list[tarfile.TarInfo]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return [info]


@pytest.mark.parametrize(
    ("members", "says"),
    [
        (special("0.jpg", tarfile.SYMTYPE, "/etc/passwd"), "contains a link"),
        (special("0.jpg", tarfile.LNKTYPE, "../x"), "contains a link"),
        (special("0.jpg", tarfile.FIFOTYPE), "contains a link, a device"),
        (special("0.jpg", tarfile.CHRTYPE), "contains a link, a device"),
        (special("/etc/0.jpg", tarfile.REGTYPE), "path outside its folder"),
        (special("a/../../0.jpg", tarfile.REGTYPE), "path outside its folder"),
        ({"0.json": b"{"}, "not JSON"),
        ({"0.txt": b"\xff\xfe"}, "not UTF-8"),
        ({"0.json": b"[" * 100_000}, "not JSON"),
        ({"0.txt": b"a" * 2000}, "at most"),
    ],
)
def test_hostile_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, members: Any, says: str
) -> None:
    from emu2eval.data import webdataset

    if says == "at most":
        monkeypatch.setattr(webdataset, "LARGEST_TEXT", 1000)
    path = tar(tmp_path / "t.tar", members)
    error = told("webdataset", tmp_path, files="t.tar", images=False)
    assert (says in error.what, str(path) in str(error.where)) == (True, True), error
    assert [p.name for p in tmp_path.iterdir()] == ["t.tar"]


def test_damaged_shards(tmp_path: Path) -> None:
    import gzip

    shard(tmp_path, "t.tar", range(3))
    path = tmp_path / "t.tar"
    whole = path.read_bytes()
    image = read("webdataset", tmp_path, files="t.tar")[2].images[0]
    for at in (len(whole) // 2, len(whole) - 9000, 1024, 512):
        path.write_bytes(whole[:at])
        assert isinstance(told("webdataset", tmp_path, files="t.tar"), DataError)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError):
        images.info(image)  # type: ignore[arg-type]
    # A header in the middle that cannot be read, and a second archive behind the end.
    at = whole.index(b"./a/001.jpg")
    for content in (whole[:at] + b"\xff" * 512 + whole[at + 512 :], whole + whole):
        path.write_bytes(content)
        assert (
            "damaged, or followed by another one"
            in told("webdataset", tmp_path, files="t.tar").what
        )
    path.write_bytes(gzip.compress(whole))
    assert "gunzip" in str(told("webdataset", tmp_path, files="t.tar").hint)
    path.write_bytes(b"<html>" + b" " * 3000)
    assert "not a tar archive" in told("webdataset", tmp_path, files="t.tar").what
    sparse = special("0.jpg", tarfile.GNUTYPE_SPARSE)
    assert isinstance(
        told("webdataset", tar(tmp_path / "s.tar", sparse).parent, files="s.tar"), DataError
    )
