"""Readers of the multiple-choice and yes/no benchmarks: what is particular about each one's files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PILImage

from emu2eval import evaluate
from emu2eval.data import mmbench, mmmu, pope, scienceqa, seed_bench
from emu2eval.data.load import load_split
from emu2eval.data.samples import Samples
from emu2eval.errors import DataError, PlanError, UnknownName
from emu2eval.media import images
from emu2eval.prompts import PromptBuilder
from emu2eval.report.notes import notes
from emu2eval.spec.task import load_task
from emu2eval.types import Image, Mark, Sample, Segment, Video
from emu2eval.watch import Watcher

from ..tasks.layouts import mmbench as mmbench_files
from ..tasks.layouts import mmmu as mmmu_files
from ..tasks.layouts import pope as pope_files
from ..tasks.layouts import scienceqa_img as scienceqa_files
from ..tasks.layouts import seed_bench as seed_files
from .damage import told

SEED: dict[str, Any] = {
    "file": "seed_bench/SEED-Bench.json",
    "images": "seed_bench/SEED-Bench-image",
    "videos": {
        "10": "seed_bench/ssv2/videos",
        "11": "seed_bench/epic-kitchens",
        "12": "seed_bench/breakfast",
    },
}


@pytest.fixture
def seed(tmp_path: Path) -> Path:
    seed_files.write(tmp_path)
    return tmp_path


def rewrite(path: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_seed_bench_ids_are_one_name_for_number_and_text(seed: Path) -> None:
    """LLaVA casts ids to numbers where that is possible; those of videos are like v5."""
    ids = [sample.id for sample in seed_bench.read(seed, **SEED)]
    assert ids == ["101661", "101662", "101663", "v4", "v5", "v6"]


def test_seed_bench_images_have_no_ending(seed: Path) -> None:
    first = next(seed_bench.read(seed, **SEED, only="image"))
    (image,) = first.images
    assert isinstance(image, Image)
    assert image.name == "1454426_259111191"
    assert images.info(image).format == "JPEG"
    assert first.groups == {"data_type": "image", "dimension": "Instance Attributes"}


def test_seed_bench_segments_are_seconds_or_frames(seed: Path) -> None:
    videos = [sample.images[0] for sample in seed_bench.read(seed, **SEED, only="video")]
    sources = [video.source for video in videos if isinstance(video, Video)]
    assert [(source[1], source[2]) for source in sources if source] == [
        (16, None),
        (16, Segment(0.4, 1.0)),
        (16, Segment(2, 8, in_frames=True)),
    ]


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("answer", "E", "the answer is 'E', but there are 4 options"),
        ("segment", [5, 5], "not a start and an end"),
        ("data_type", "sound", "the data type is 'sound'"),
        ("data_id", "../secret", "outside the data folder"),
        ("question_type_id", 13, "no folder is given for the videos of dimension 13"),
    ],
)
def test_a_wrong_row_of_seed_bench_is_named(seed: Path, key: str, value: object, says: str) -> None:
    rewrite(seed / SEED["file"], lambda content: content["questions"][5].update({key: value}))
    said = told(lambda: seed_bench.read(seed, **SEED))
    assert says in said and "SEED-Bench.json, question v6" in said


def test_an_id_that_the_published_file_holds_twice_is_two_samples(seed: Path) -> None:
    """49914 among the images (AILab-CVC/SEED-Bench on the hub: 17,990 rows, 17,989 ids)."""

    def twice(content: Any) -> None:
        content["questions"].append(content["questions"][0] | {"question": "What else is there?"})

    rewrite(seed / SEED["file"], twice)
    with pytest.raises(DataError, match="the id '101661' appears twice"):
        Samples(seed_bench.read(seed, **SEED), where="here")
    samples = Samples(seed_bench.read(seed, **SEED, repeated=[101661]), where="here")
    assert samples.ids[:2] == ["101661", "101661#2"]
    assert samples[1].fields["question"] == "What else is there?"
    assert load_task("seed_bench").spec.data.options["repeated"] == [49914]


def test_popes_files_count_from_one_and_share_their_images(tmp_path: Path) -> None:
    pope_files.write(tmp_path)
    files = {c: f"pope/coco_pope_{c}.json" for c in pope_files.CATEGORIES}
    samples = list(pope.read(tmp_path, files, "coco/val2014"))
    assert len({sample.id for sample in samples}) == len(samples) == 12
    assert {sample.cluster for sample in samples} == {f"COCO_val2014_{n:012d}.jpg" for n in (1, 2)}
    path = tmp_path / files["popular"]
    path.write_text(path.read_text().replace('"label": "no"', '"label": "maybe"'))
    lost = [s for s in pope.read(tmp_path, files, "coco/val2014") if s.unreadable]
    assert {sample.id.partition("-")[0] for sample in lost} == {"popular"}
    assert "'maybe', not yes or no" in str(lost[0].unreadable)
    assert str(lost[0].unreadable).endswith("coco_pope_popular.json:2)")


def test_scienceqa_img_leaves_out_problems_without_an_image(tmp_path: Path) -> None:
    scienceqa_files.write(tmp_path)
    options = ("scienceqa/problems.json", "scienceqa/pid_splits.json", "scienceqa/images")
    samples = list(scienceqa.read(tmp_path, *options, "test"))
    assert [sample.id for sample in samples] == ["1", "2", "3", "4", "5"]
    assert [len(sample.choices) for sample in samples] == [4, 5, 3, 4, 5]
    assert all(images.info(p) for s in samples for p in s.images if isinstance(p, Image))
    assert samples[0].groups == {"subject": "natural science", "grades": "1-6"}


def test_scienceqa_prompts_have_single_spaces_where_llava_has_them(tmp_path: Path) -> None:
    """Each pair of spaces becomes one, in one pass; the choices that a scorer sees stay as they are."""
    scienceqa_files.write(tmp_path)
    path = tmp_path / "scienceqa/problems.json"
    problems = json.loads(path.read_text())
    changes = {"question": "Which  one   is it?", "hint": " One  of them. "}
    problems["1"] |= {**changes, "choices": ["a  b", "c", "d", "e"]}
    path.write_text(json.dumps(problems))
    options = ("scienceqa/problems.json", "scienceqa/pid_splits.json", "scienceqa/images")
    sample = next(iter(scienceqa.read(tmp_path, *options, "test")))
    assert (sample.fields["question"], sample.fields["hint"]) == (
        "Which one  is it?",
        "One of them.",
    )
    assert (sample.fields["options"], sample.choices[0]) == ("A. a b\nB. c\nC. d\nD. e", "a  b")


def test_scienceqa_has_no_other_parts(tmp_path: Path) -> None:
    scienceqa_files.write(tmp_path)
    options = ("scienceqa/problems.json", "scienceqa/pid_splits.json", "scienceqa/images")
    with pytest.raises(UnknownName, match="minival"):
        list(scienceqa.read(tmp_path, *options, "minitest"))


def bench(tmp_path: Path, rows: list[dict[str, Any]], **options: Any) -> list[Sample]:
    mmbench_files.write_table(tmp_path / "m.tsv", rows)
    return list(mmbench.read(tmp_path, "m.tsv", **options))


def test_mmbench_reads_the_rotations_of_the_file(tmp_path: Path) -> None:
    samples = bench(tmp_path, mmbench_files.question(241) + mmbench_files.question(242))
    assert [s.id for s in samples] == [
        *(f"241-{n}" for n in range(4)),
        *(f"242-{n}" for n in range(3)),
    ]
    assert {(s.cluster, s.fields["rotations"]) for s in samples} == {("241", "4"), ("242", "3")}
    # The right option moves one letter up in every rotation.
    assert [s.references for s in samples[:4]] == [("B",), ("A",), ("D",), ("C",)]
    assert {s.choices["ABCD".index(str(s.answer))] for s in samples[:4]} == {"green"}


def test_mmbench_rotates_what_the_file_does_not(tmp_path: Path) -> None:
    rotated = bench(tmp_path, mmbench_files.question(241))
    made = bench(tmp_path, mmbench_files.question(241)[:1])
    assert [(s.id, s.choices, s.references) for s in made] == [
        (s.id, s.choices, s.references) for s in rotated
    ]


def test_a_pool_of_mmbench_holds_each_question_once(tmp_path: Path) -> None:
    rows = mmbench_files.question(241) + mmbench_files.question(242)
    assert [s.id for s in bench(tmp_path, rows, rotations="first")] == ["241-0", "242-0"]


def test_a_row_of_mmbench_may_name_the_row_whose_image_it_shares(tmp_path: Path) -> None:
    rows = mmbench_files.question(241)
    for row in rows[1:]:
        row["image"] = "241"
    samples = bench(tmp_path, rows)
    assert len({s.images for s in samples}) == 1
    rows[1]["image"] = "999"
    assert "no image" in told(lambda: bench(tmp_path, rows))


def test_mmbench_keeps_places_and_not_images(tmp_path: Path) -> None:
    """Cells with quotes and newlines do not shift where an image is found."""
    samples = Samples(bench(tmp_path, mmbench_files.question(241)), where="here")
    for sample in samples:
        (image,) = sample.images
        assert isinstance(image, Image) and image.data is None
        assert images.info(image).format == "JPEG"
    assert samples[0].fields["question"].count("\n") == 1
    assert samples[0].fields["hint"] == 'A "square" is drawn.'


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("answer", "E", "the answer is 'E'"),
        ("index", "first", "not an integer"),
        ("image", "nan", "no image"),
        ("image", "!" * 100, "not base64"),
    ],
)
def test_a_wrong_row_of_mmbench_is_named(tmp_path: Path, key: str, value: str, says: str) -> None:
    rows = mmbench_files.question(241)
    rows[0][key] = value

    def read() -> Iterator[Sample]:
        for sample in bench(tmp_path, rows):
            yield sample
            for image in sample.images:
                assert isinstance(image, Image)
                images.info(image)

    said = told(read)
    assert says in said and "m.tsv" in said


@pytest.mark.parametrize("option", ["None", "NaN", "none", "nan"])
def test_an_option_of_mmbench_may_be_a_word_for_nothing(tmp_path: Path, option: str) -> None:
    (row,) = mmbench_files.question(241)[:1]
    first, *_ = bench(tmp_path, [row | {"B": option, "D": "", "answer": "C", "hint": option}])
    assert first.choices == (row["A"], option, row["C"])
    assert (first.answer, first.fields["hint"]) == ("C", option)


def test_a_row_that_does_not_fit_its_header_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.tsv").write_text("index\tquestion\tA\timage\n1\twhat?\n")
    with pytest.raises(DataError, match="2 cells, but the header has 4") as caught:
        list(mmbench.read(tmp_path, "m.tsv"))
    assert str(caught.value.where).endswith("m.tsv:2")


def exam(tmp_path: Path, **changes: Any) -> Sample:
    row = mmmu_files.question("validation_Art_1", 201, hidden=False) | changes
    mmmu_files.write_table(tmp_path / "Art/validation-00000-of-00001.parquet", [row])
    (sample,) = mmmu.read(tmp_path.parent, tmp_path.name, "validation", ["Art"])
    return sample


def test_mmmu_options_are_a_list_written_as_text(tmp_path: Path) -> None:
    sample = exam(tmp_path, options="['$6', \"it's\", 'x, y']", answer="B")
    assert (sample.choices, sample.references) == (("$6", "it's", "x, y"), ("B",))
    assert sample.groups["discipline"] == "Art and Design"
    assert "is not a list" in str(exam(tmp_path, options="__import__('os').getcwd()").unreadable)


def test_open_questions_of_mmmu_accept_several_answers(tmp_path: Path) -> None:
    sample = exam(tmp_path, question_type="open", options="[]", answer="['1', 'one']")
    assert (sample.choices, sample.references, sample.answer) == ((), ("1", "one"), "1")


def test_hidden_answers_of_mmmu_are_a_question_mark(tmp_path: Path) -> None:
    assert exam(tmp_path, answer="?").references == ()


def test_an_image_that_mmmu_speaks_of_must_be_there(tmp_path: Path) -> None:
    lost = exam(tmp_path, question="What is in <image 3>?")
    assert lost.id == "validation_Art_1"
    assert "refers to image 3, but the row has image_1 (" in str(lost.unreadable)
    assert str(lost.unreadable).endswith("row 0)")


def test_marks_of_mmmu_name_columns_and_images_of_the_explanation_stay_out(tmp_path: Path) -> None:
    sample = exam(
        tmp_path,
        question="<image 2> and <image 4>?",
        options="['none', '<image 2>']",
        answer="B",
        **{f"image_{n}": mmmu_files.image(n) for n in (1, 2, 4, 5)},
    )
    assert sample.numbers == (2, 4)
    shown = [i.member for i in sample.images if isinstance(i, Image)]
    assert shown == ["image_2/0/0", "image_4/0/0"]
    (again,) = Samples([sample], where="here")
    builder = PromptBuilder(load_task("mmmu", protocol="plain").protocol, "here")
    parts = builder.build(again, []).query
    second, fourth = sample.images
    assert parts == (
        *("Question: ", second, " and ", fourth, "?\n(A) none\n(B) ", second, "\nAnswer:"),
    )


def test_one_row_of_mmmu_that_cannot_be_read_costs_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told, unscored and counted, asked of no model and never shown."""
    monkeypatch.setenv("EMU2EVAL_DATA", str(tmp_path / "data"))
    mmmu_files.write(tmp_path / "data")
    folder = tmp_path / "data/hub/MMMU/MMMU/Art"
    for part in ("validation", "dev"):
        row = mmmu_files.question(f"{part}_Art_1", 201, hidden=False)
        table = [row | {"options": "['<image 30>', 'b', 'c', 'd']"}]
        mmmu_files.write_table(folder / f"{part}-00000-of-00001.parquet", table)
    told_of: list[str] = []

    class Listening(Watcher):
        def note(self, text: str) -> None:
            told_of.append(text)

    (result,) = evaluate(
        "mmmu", "most-common", shots=[29], watcher=Listening(), out=tmp_path / "runs"
    )
    (row,) = [row for row in result.rows if row.group is None][:1]
    assert (row.n, row.unscored, row.covered) == (29, 1, 30)
    assert (Mark("unreadable"), 1) in row.marks
    assert "1 sample in the data could not be read" in notes(row)
    assert (result.tally.asked, result.tally.failed) == (29, 0)
    assert [t for t in told_of if "validation_Art_1, the text refers to image 30" in t]
    with pytest.raises(PlanError, match="the pool has only 29"):
        evaluate("mmmu", "most-common", shots=[30], out=tmp_path / "runs")


def test_a_file_with_many_unreadable_rows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMU2EVAL_DATA", str(tmp_path))
    pope_files.write(tmp_path)
    path = tmp_path / "pope/coco_pope_popular.json"
    path.write_text(path.read_text().replace('"label": "no"', '"label": "0"'))
    with pytest.raises(DataError, match="2 of 4 samples could not be read; the first is 'popular-"):
        load_split(load_task("pope"), "popular")


def test_all_subjects_of_mmmu_are_read(tmp_path: Path) -> None:
    assert len(mmmu.DISCIPLINE_OF) == 30
    assert len(mmmu.DISCIPLINES) == 6
    mmmu_files.write(tmp_path)
    samples = list(mmmu.read(tmp_path, "hub/MMMU/MMMU", "dev"))
    assert {sample.groups["subject"] for sample in samples} == set(mmmu.DISCIPLINE_OF)
    shown = [p for s in samples for p in s.images]
    assert all(isinstance(p, Image) and p.data is None for p in shown)
    assert isinstance(shown[0], Image)
    assert isinstance(images.load(shown[0]), PILImage.Image)
