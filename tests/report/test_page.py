"""The HTML report's data: every image once, prompts as they were asked, and what holds without data."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from emu2eval import evaluate
from emu2eval.compare.comparison import compare
from emu2eval.engine.questions import Place
from emu2eval.engine.reopen import reopen
from emu2eval.report import page
from emu2eval.report.page.html import embedded
from emu2eval.runs.answers import from_line, to_line
from emu2eval.runs.scored import read_run
from emu2eval.runs.scores import write_scores
from emu2eval.types import Image, Prompt

Make = Callable[..., Path]


def content(file: Path) -> dict[str, Any]:
    """The data that a page holds."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', file.read_text())
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def flat(data: dict[str, Any], sample: dict[str, Any]) -> list[str]:
    """A sample's prompt as a page tells it; an image by its name."""

    def said(part: int) -> str:
        return data["texts"][part] if part >= 0 else data["images"][-1 - part][3]

    lead, separator = (data["texts"][place] for place in sample["j"])
    parts = []
    for turn in sample["d"]:
        ask, reply = data["turns"][turn]
        parts += [*map(said, ask), lead, *map(said, reply), separator]
    return [*parts, *map(said, sample["q"])]


def asked(prompt: Prompt) -> str:
    return "".join(p.name if isinstance(p, Image) else str(p) for p in prompt.flat())


@pytest.fixture
def runs(make_task: Make, make_model: Make, tmp_path: Path) -> list[Path]:
    task = str(make_task(12, 20, images=6))
    red = str(make_model("red", default="red"))
    mixed = str(make_model("mixed", replies={"square 1?": "green"}, default="blue", fail=["e 5?"]))
    results = evaluate(task, [red, mixed], shots=[0, 2], out=tmp_path / "runs")
    return [result.folder for result in results]


def test_prompts_are_the_ones_that_were_asked(runs: list[Path], tmp_path: Path) -> None:
    page.write(runs, tmp_path / "report.html")
    data = content(tmp_path / "report.html")
    for folder, run in zip(runs, data["runs"], strict=True):
        prompts = reopen(folder, demonstrations=True).prompts
        assert prompts is not None
        samples = data["sets"][run["set"]]
        assert len(run["answers"]) == 12
        for answer in run["answers"]:
            sample = samples[answer[0]]
            position = prompts.questions.samples.position(sample["i"])
            assert position is not None
            prompted = prompts.at(Place(position, sample["t"]))
            assert "".join(flat(data, sample)) == asked(prompted.prompt)
            # Nothing says that the reply was given to another prompt.
            assert len(answer) < 8
    # Models that were asked the same share what they were asked.
    assert [run["set"] for run in data["runs"]] == [0, 1, 0, 1]


def test_every_image_is_there_once(runs: list[Path], tmp_path: Path) -> None:
    page.write(runs, tmp_path / "report.html")
    data = content(tmp_path / "report.html")
    sources = [entry[0] for entry in data["images"]]
    files = {f"report_images/{file.name}" for file in (tmp_path / "report_images").iterdir()}
    assert len(sources) == len(set(sources)) and set(sources) == files
    page.write(runs, tmp_path / "one.html", inline=True)
    inside = content(tmp_path / "one.html")
    assert not (tmp_path / "one_images").exists()
    assert len(inside["images"]) == len(sources)
    assert all(entry[0].startswith("data:image/webp;base64,") for entry in inside["images"])


def test_the_matrix_is_the_comparison(runs: list[Path], tmp_path: Path) -> None:
    page.write(runs, tmp_path / "report.html")
    (matrix,) = content(tmp_path / "report.html")["matrices"]
    assert len(matrix["cells"]) == 6
    for cell in matrix["cells"]:
        head = compare(read_run(runs[cell["a"]]), read_run(runs[cell["b"]])).differences[0]
        assert (cell["difference"], cell["p"]) == (head.difference, head.p)
        assert cell["holm"] >= cell["p"]


def test_replies_to_another_prompt_and_shortened_prompts_are_marked(
    runs: list[Path], tmp_path: Path
) -> None:
    path = runs[1] / "responses.jsonl"
    answers = [from_line(line) for line in path.read_bytes().splitlines(keepends=True)]
    other, images, shorter, *rest = answers
    answers[0] = msgspec.structs.replace(other, examples=other.examples[::-1])
    answers[1] = msgspec.structs.replace(images, shown=images.shown[::-1])
    answers[2] = msgspec.structs.replace(
        shorter, examples=shorter.examples[1:], shown=shorter.shown[1:], left_out=1
    )
    path.write_bytes(b"".join(map(to_line, answers)))
    page.write(runs[1:2], tmp_path / "report.html")
    data = content(tmp_path / "report.html")
    ids = [sample["i"] for sample in data["sets"][0]]
    found = {ids[answer[0]]: answer for answer in data["runs"][0]["answers"]}
    assert found[other.id][6:] == found[images.id][6:] == [None, 1]
    assert found[shorter.id][6:] == [1]
    assert all(len(found[answer.id]) < 7 for answer in rest)


def test_takes_of_a_prompt_and_all_that_came_with_a_reply(runs: list[Path], tmp_path: Path) -> None:
    """Several answers to a prompt share what was asked; thoughts and the whole text stand beside each."""
    run = read_run(runs[1])
    first, *_ = run.scores.values()
    write_scores(runs[1], [first, msgspec.structs.replace(first, take=1)])
    path = runs[1] / "responses.jsonl"
    answers = [from_line(line) for line in path.read_bytes().splitlines(keepends=True)]
    (own,) = (answer for answer in answers if answer.id == first.id)
    more = msgspec.structs.replace(
        own, take=1, text="blue", raw="blue\nQ:", thought="hm", ended="length"
    )
    path.write_bytes(b"".join(map(to_line, [own, more])))
    page.write(runs[1:2], tmp_path / "report.html")
    data = content(tmp_path / "report.html")
    assert len(data["sets"][0]) == 1
    plain, with_more = data["runs"][0]["answers"]
    assert len(plain) < 11 and with_more[10] == 1
    assert [data["texts"][place] for place in with_more[11:]] == ["blue\nQ:", "hm", "length"]


def test_without_its_data_a_run_is_shown_without_prompts(
    runs: list[Path], tmp_path: Path, program: Callable[..., tuple[int, str, str]]
) -> None:
    (tmp_path / "squares" / "test.jsonl").unlink()
    code, _, said = program("report", *map(str, runs), "--out", "report.html")
    assert code == 0
    assert "shown without prompts" in said and "test.jsonl" in said
    data = content(tmp_path / "report.html")
    assert all(run["promptless"] for run in data["runs"])
    assert not any("q" in sample for samples in data["sets"] for sample in samples)
    texts = {data["texts"][answer[2]] for answer in data["runs"][0]["answers"]}
    assert texts == {"red"}


def test_an_image_that_cannot_be_opened_costs_its_own_place(
    runs: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "squares" / "images" / "0003.png").write_bytes(b"no image")
    page.write(runs[:1], tmp_path / "report.html")
    data = content(tmp_path / "report.html")
    broken = [place for place, entry in enumerate(data["images"]) if entry[0] is None]
    assert ["not an image" in data["images"][place][3] for place in broken] == [True]
    samples = data["sets"][0]
    lost = [sample["i"] for sample in samples if -1 - broken[0] in sample["q"]]
    assert lost == ["q0003", "q0009"]
    # Their answers were given to another image than the one that is there today.
    other = [samples[a[0]]["i"] for a in data["runs"][0]["answers"] if len(a) > 7 and a[7] == 1]
    assert other == lost


def test_nothing_in_the_data_ends_its_element() -> None:
    evil = "</script><script>alert(1)</script><!-- & \u2028\u2029"
    text = embedded({evil: [evil]})
    assert not set("<>&\u2028\u2029") & set(text)
    assert msgspec.json.decode(text) == {evil: [evil]}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "report.pdf"], "written as .html"),
        (["nothing-like-this"], "unknown run"),
        (["--runs", "empty"], "no run to report"),
    ],
)
def test_mistakes_are_explained(
    arguments: list[str],
    said: str,
    runs: list[Path],
    program: Callable[..., tuple[int, str, str]],
) -> None:
    code, _, printed = program(
        "report", *([] if "--runs" in arguments else ["--runs", "runs"]), *arguments
    )
    assert code == 2
    assert said in printed
