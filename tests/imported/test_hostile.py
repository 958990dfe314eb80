"""Files of answers that are damaged, or made to do harm: one paragraph, or their answers and no more."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Make = Callable[..., Path]
Call = Callable[..., Any]
DIGITS = "9" * 5000
ROW = '{"id": "q0000", "prediction": "red", '


@pytest.mark.parametrize(
    "text",
    [
        f'{ROW} "more": {"[" * 100_000}{"]" * 100_000}}}',
        f'{ROW} "more": {DIGITS}}}',
        f'{ROW} "error_bar": NaN, "more": {DIGITS}}}',
    ],
    ids=["lists in lists", "digits", "digits beside NaN"],
)
def test_json_beyond_all_measure(text: str, make_task: Make, refused: Call, tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(f'{{"id": "q0001", "prediction": "red"}}\n{text}\n')
    said = refused(str(path), "--task", str(make_task()), "--shots", "0")
    assert said.startswith("not valid JSON") and f"where: {path}:2" in said


def test_half_a_character_is_stored_as_one_that_is_missing(
    make_task: Make, imported: Call, tmp_path: Path
) -> None:
    """JSON can write the halves of an emoji apart, as a text cut in the middle of one has it."""
    path = tmp_path / "answers.jsonl"
    rows = ['{"id": "q0000", "prediction": "red \\ud83d"}']
    path.write_text("\n".join([*rows, '{"id": "q0001", "prediction": "\\ud83d\\ude00"}']))
    folder, _ = imported(path, "--task", make_task(), "--shots", "0")
    stored = (folder / "responses.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["text"] for line in stored] == ["red \ufffd", "\U0001f600"]


def test_scores_and_log_probabilities_that_no_float_holds(
    make_task: Make, imported: Call, refused: Call, tmp_path: Path
) -> None:
    path = tmp_path / "samples.jsonl"
    row = f'"doc_id": 0, "doc": {{"id": "q0000"}}, "resps": [["red"]], "acc": 1, "x": {"9" * 400}'
    path.write_text(f"{{{row}}}\n")
    _, said = imported(path, "--task", make_task(), "--shots", "0")
    assert "their acc" in said and "their x" not in said
    ranked = make_task(
        output={"kind": "choice", "choices": ["red", "blue"]}, score={"scorer": "choice"}
    )
    path = tmp_path / "ranked.jsonl"
    path.write_text(f'{{"id": "q0000", "log_probs": [-1, -{"9" * 400}]}}\n')
    said = refused(str(path), "--task", str(ranked), "--shots", "0")
    assert "not a list of log-probabilities" in said


def test_names_in_a_file_do_not_reach_the_terminal_as_commands(
    make_task: Make, program: Call, tmp_path: Path
) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text('{"\\u001b[31mid": "q0000", "prediction": "red", "model": "../\\u001b[2Jm"}\n')
    code, _, said = program("import", str(path), "--task", str(make_task()), "--shots", "0")
    assert code == 0 and "\x1b" not in said
    assert "ids from the column \\x1b[31mid" in said and "the model is named 2Jm" in said
