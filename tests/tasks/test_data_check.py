"""Each benchmark's small data set is whole to `emu2eval data check`, but for its size."""

from __future__ import annotations

from pathlib import Path

from emu2eval.doctor.data_status import check


def test_fields_and_images_are_as_they_should_be(task: str, root: Path) -> None:
    findings = list(check(task))
    assert findings
    for finding in findings:
        small = "officially" in finding.seen or " files" in finding.seen
        assert finding.holds or small, f"{finding.rule}: {finding.seen}"
