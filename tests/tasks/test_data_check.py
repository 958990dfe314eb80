"""Each benchmark's small data set is whole to `emu2eval data check`, but for its size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from emu2eval.data.load import load_split
from emu2eval.data.presence import OFFICIAL, pieces
from emu2eval.doctor.data_status import check
from emu2eval.spec.task import load_task


def test_fields_and_images_are_as_they_should_be(task: str, root: Path) -> None:
    findings = list(check(task))
    assert findings
    for finding in findings:
        small = "officially" in finding.seen or " files" in finding.seen
        assert finding.holds or small, f"{finding.rule}: {finding.seen}"


@pytest.mark.parametrize(
    "name", ["gqa", "vizwiz", "hateful_memes", "msvd_qa", "msrvtt_qa", "vqav2"]
)
def test_a_split_needs_no_file_of_another(
    name: str, roots: Callable[[str], Path], tmp_path: Path
) -> None:
    """Their archives hold all splits: a user keeps the files of one."""
    whole = replace(load_task(name), root=roots(name))
    every = {path for download in whole.spec.data.downloads for path in download.gives}
    for split in whole.spec.data.splits:
        alone = replace(whole, root=tmp_path / split)
        given = [path for piece in pieces(alone, split, OFFICIAL) for path in piece.gives]
        assert len(given) < len(every)
        for path in given:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(whole.root / path.relative_to(alone.root))
        assert load_split(alone, split).ids == load_split(whole, split).ids


def test_splits_of_which_only_the_images_of_all_are_there_are_not_checked(
    roots: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = roots("gqa")
    (tmp_path / "gqa/questions").mkdir(parents=True)
    for path in ("gqa/images", "gqa/questions/testdev_balanced_questions.json"):
        (tmp_path / path).symlink_to(whole / path)
    monkeypatch.setenv("EMU2EVAL_DATA", str(tmp_path))
    findings = list(check("gqa"))
    assert {f.rule for f in findings if f.seen == "not present, so not checked"} == (
        set(load_task("gqa").spec.data.splits) - {"testdev"}
    )
    assert all(f.holds or "officially" in f.seen for f in findings)


def test_what_set_replaces_need_not_be_there(tmp_path: Path) -> None:
    changes = {"data.options.names": None, "data.options.video_name": "vid{video_id}.avi"}
    task = replace(load_task("msvd_qa", overrides=changes), root=tmp_path)
    given = [path for piece in pieces(task, "test", OFFICIAL) for path in piece.gives]
    assert given == [tmp_path / "msvd_qa/test_qa.json", tmp_path / "msvd/YouTubeClips"]
    moved = load_task("vizwiz", overrides={"data.splits.val.images": "elsewhere"})
    given = [path.name for piece in pieces(moved, "val", OFFICIAL) for path in piece.gives]
    assert given == ["val.json"]
