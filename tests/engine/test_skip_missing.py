"""`--skip-missing`: samples whose image has no file are left out where the user asks, and counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from emu2eval import evaluate
from emu2eval.data.absent import absent
from emu2eval.engine.reopen import reopen, score_again
from emu2eval.errors import ImageError, MissingData
from emu2eval.report.notes import notes
from emu2eval.runs.record import LeftOut, read_record
from emu2eval.types import Image, Sample, Video


def images_of(task: Path, split: str) -> list[Path]:
    rows = (task.parent / f"{split}.jsonl").read_text().splitlines()
    return [task.parent / "images" / json.loads(row)["image"] for row in rows]


def answered(folder: Path) -> dict[str, Any]:
    lines = (folder / "responses.jsonl").read_text().splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


def test_a_missing_image_is_no_sample_where_the_user_asks(
    make_task: Any, make_model: Any, tmp_path: Path
) -> None:
    task, model = make_task(queries=12), str(make_model(default="red"))
    queries, pool = images_of(task, "test"), images_of(task, "train")
    (whole,) = evaluate(str(task), model, shots=2, out=tmp_path / "runs")
    for path in (queries[3], queries[7], pool[0]):
        path.rename(path.with_suffix(".away"))
    with pytest.raises(ImageError, match="does not exist"):
        evaluate(str(task), model, shots=2, out=tmp_path / "other")
    (result,) = evaluate(str(task), model, shots=2, out=tmp_path / "other", skip_missing=True)
    row = result.rows[0]
    assert (row.n, row.covered, row.queries, row.unscored) == (10, 10, 12, 0)
    assert (row.missing, row.missing_examples) == (2, 1)
    said = notes(row)
    assert "2 queries skipped: image or video file missing" in said
    assert "1 demonstration skipped: image or video file missing" in said
    before, now = answered(whole.folder), answered(result.folder)
    assert set(before) - set(now) == {"q0003", "q0007"}
    assert all("q1000" not in each["examples"] for each in now.values())
    # Another pool is another run; where none of the pool is missing, it is the same run.
    assert result.folder.name != whole.folder.name
    # Scoring again is of what was asked, not of what lies in the folder by now.
    for path in (queries[3], queries[7], pool[0]):
        path.with_suffix(".away").rename(path)
    again = score_again(result.folder)
    assert again.rows[0] == row
    assert reopen(result.folder, demonstrations=True).prompts is not None
    assert read_record(result.folder).left_out == LeftOut(
        queries=("q0003", "q0007"), demonstrations=("q1000",)
    )


def test_what_is_there_later_is_asked_then(make_task: Any, make_model: Any, tmp_path: Path) -> None:
    task, model = make_task(queries=6), str(make_model(default="red"))
    path = images_of(task, "test")[2]
    path.rename(path.with_suffix(".away"))
    options: dict[str, Any] = {"out": tmp_path / "runs", "skip_missing": True}
    (part,) = evaluate(str(task), model, **options)
    path.with_suffix(".away").rename(path)
    (whole,) = evaluate(str(task), model, **options)
    assert whole.folder == part.folder
    assert (part.tally.asked, whole.tally.asked, whole.tally.kept) == (5, 1, 5)
    assert (part.rows[0].missing, whole.rows[0].missing, whole.rows[0].n) == (1, 0, 6)
    assert read_record(whole.folder).left_out == LeftOut()


def test_a_limit_is_the_same_subset_with_less_in_it(
    make_task: Any, make_model: Any, tmp_path: Path
) -> None:
    task, model = make_task(queries=12), str(make_model(default="red"))
    (whole,) = evaluate(str(task), model, limit=5, out=tmp_path / "a")
    asked = sorted(answered(whole.folder))
    lost = images_of(task, "test")
    ids = [f"q{number:04d}" for number in range(12)]
    lost[ids.index(asked[0])].unlink()
    lost[ids.index(next(each for each in ids if each not in asked))].unlink()
    (part,) = evaluate(str(task), model, limit=5, out=tmp_path / "b", skip_missing=True)
    assert sorted(answered(part.folder)) == asked[1:]
    assert (part.rows[0].missing, part.rows[0].covered) == (1, 4)


def test_nothing_left_is_refused(make_task: Any, make_model: Any, tmp_path: Path) -> None:
    task = make_task(queries=3)
    for path in images_of(task, "test"):
        path.unlink()
    with pytest.raises(MissingData, match="3 of 3 samples refer to a missing file"):
        evaluate(str(task), str(make_model()), out=tmp_path / "runs", skip_missing=True)


def test_the_command_says_what_it_leaves_out(
    make_task: Any, make_model: Any, program: Any, tmp_path: Path
) -> None:
    task, model = make_task(queries=4), make_model(default="red")
    images_of(task, "test")[1].unlink()
    command = ("run", "-t", str(task), "-m", str(model), "--out", str(tmp_path / "runs"))
    code, _, err = program(*command)
    assert (code, "does not exist" in err) == (2, True)
    code, out, err = program(*command, "--skip-missing", "-f", "csv")
    assert code == 0
    assert "1 of 4 samples refer to a missing file and are skipped; the first is q0001" in (
        " ".join(err.split())
    )
    assert "1 query left out" in out or ",missing," in out


def test_every_file_that_a_sample_needs_is_looked_for(tmp_path: Path) -> None:
    here, gone = tmp_path / "here.png", tmp_path / "no" / "gone.mp4"
    here.touch()
    there, away = Image(str(here)), Image(str(gone))
    samples = [
        Sample("text"),
        Sample("bytes", images=(Image(data=b"1"),)),
        Sample("there", images=(there, Video.sampled(str(here), 2)), answer=there),
        Sample("image", images=(there, away)),
        Sample("video", images=(Video.sampled(str(gone), 2),)),
        Sample("frames", images=(Video((there, away)),)),
        Sample("answer", answer=away),
        Sample("reference", references=("a", away)),
    ]
    assert absent(samples) == ["image", "video", "frames", "answer", "reference"]
