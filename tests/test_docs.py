"""The examples of docs/how-to/metrics.md, as they are written there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .conftest import MakeTask, Program

TEXT = (Path(__file__).parents[1] / "docs/how-to/metrics.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)


def test_the_examples_of_metrics_run(
    program: Program, tmp_path: Path, capsys: pytest.CaptureFixture[str], make_task: MakeTask
) -> None:
    shown = []
    # In place of the published data, which takes a second to read each time.
    make_task(name="easy-vqa").rename(tmp_path / "squares/easy-vqa.yaml")
    for kind, text in BLOCKS:
        text = text.replace('evaluate("easy-vqa"', 'evaluate("squares/easy-vqa.yaml"')
        text = text.replace("--task easy-vqa", "--task squares/easy-vqa.yaml")
        if kind == "python" and text.startswith("# "):
            (tmp_path / text.partition("\n")[0].removeprefix("# ")).write_text(text)
        elif kind == "python":
            exec(text, {"__name__": "__main__"})
            shown.append(capsys.readouterr().out)
        for line in text.splitlines() if kind == "console" else ():
            code, out, said = program(*line.split()[1:], "--format", "csv")
            assert code == 0, said
            shown.append(out)
    metrics = ["token_f1", "token_f1", "right", "words", "variety"]
    assert all(metric in out for metric, out in zip(metrics, shown, strict=True))
