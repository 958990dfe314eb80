"""The HTML report's data: every image once, prompts as they were asked, and what holds without data."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image as PILImage
from PIL import ImageChops

from emu2eval import evaluate
from emu2eval.compare.comparison import compare
from emu2eval.engine.questions import Place
from emu2eval.engine.reopen import reopen
from emu2eval.errors import ConfigError
from emu2eval.media import images
from emu2eval.report import page
from emu2eval.report.page import reading
from emu2eval.report.page.html import embedded
from emu2eval.report.page.tables import encoded
from emu2eval.runs.answers import from_line, to_line
from emu2eval.runs.scored import read_run
from emu2eval.runs.scores import write_scores
from emu2eval.types import Image, Prompt

Make = Callable[..., Path]


def content(file: Path) -> dict[str, Any]:
    """The data that a page holds, with what is packed in it by name."""
    text = file.read_text()
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    for name, packed in re.findall(
        r'<script type="text/plain" id="chunk-([^"]+)">(.*?)</script>', text
    ):
        data[name] = json.loads(gzip.decompress(base64.b64decode(packed)))
    return data


def set_of(data: dict[str, Any], run: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = data[f"set-{run['set']}"]
    return found


def answers_of(data: dict[str, Any], number: int = 0) -> list[list[Any]]:
    found: list[list[Any]] = set_of(data, data["runs"][number])["answers"][str(number)]
    return found


def flat(data: dict[str, Any], own: dict[str, Any], sample: dict[str, Any]) -> list[str]:
    """A sample's prompt as a page tells it; an image by its name."""

    def said(part: int) -> str:
        return own["texts"][part] if part >= 0 else data["images"][-1 - part][3]

    lead, separator = (own["texts"][place] for place in sample["j"])
    parts = []
    for turn in sample["d"]:
        ask, reply = own["turns"][turn]
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
    for number, (folder, run) in enumerate(zip(runs, data["runs"], strict=True)):
        prompts = reopen(folder, demonstrations=True).prompts
        assert prompts is not None
        own = set_of(data, run)
        assert len(answers_of(data, number)) == run["answers"] == run["shown"] == 12
        for answer in answers_of(data, number):
            sample = own["samples"][answer[0]]
            position = prompts.questions.samples.position(sample["i"])
            assert position is not None
            prompted = prompts.at(Place(position, sample["t"]))
            assert "".join(flat(data, own, sample)) == asked(prompted.prompt)
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
    text = (tmp_path / "one.html").read_text()
    inside = [
        source
        for group in re.findall(r'id="inside-\d+">(.*?)</script>', text)
        for source in json.loads(group)
    ]
    assert not (tmp_path / "one_images").exists()
    assert len(inside) == len(sources)
    assert all(source.startswith("data:image/webp;base64,") for source in inside)
    assert [entry[0] for entry in content(tmp_path / "one.html")["images"]] == [*range(len(inside))]


def test_differences_are_those_of_the_comparison(runs: list[Path], tmp_path: Path) -> None:
    page.write(runs, tmp_path / "report.html")
    data = content(tmp_path / "report.html")
    shown = [(each["kind"], each["setting"], each["a"], each["b"]) for each in data["differences"]]
    # Models at equal shots, the better one against the other; a model with demonstrations against itself.
    assert shown == [
        ("models", "0", 2, 0), ("models", "2", 3, 1), ("shots", "2", 0, 1), ("shots", "2", 2, 3),
    ]  # fmt: skip
    for each in data["differences"]:
        head = compare(read_run(runs[each["a"]]), read_run(runs[each["b"]])).differences[0]
        assert (each["difference"], each["low"], each["p"]) == (head.difference, head.low, head.p)
        assert each["holm"] >= each["p"]


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
    ids = [sample["i"] for sample in data["set-0"]["samples"]]
    found = {ids[answer[0]]: answer for answer in answers_of(data)}
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
    assert len(data["set-0"]["samples"]) == 1
    plain, with_more = answers_of(data)
    assert len(plain) < 11 and with_more[10] == 1
    assert [data["set-0"]["texts"][place] for place in with_more[11:]] == [
        "blue\nQ:",
        "hm",
        "length",
    ]


def test_without_its_data_a_run_is_shown_without_prompts(
    runs: list[Path], tmp_path: Path, program: Callable[..., tuple[int, str, str]]
) -> None:
    (tmp_path / "squares" / "test.jsonl").unlink()
    code, _, said = program("report", *map(str, runs), "--file", "report.html")
    assert code == 0
    assert "prompts are not shown" in said and "test.jsonl" in said
    data = content(tmp_path / "report.html")
    assert all(run["promptless"] for run in data["runs"])
    sets = [set_of(data, run) for run in data["runs"]]
    assert not any("q" in sample for each in sets for sample in each["samples"])
    texts = {sets[0]["texts"][answer[2]] for answer in answers_of(data)}
    assert texts == {"red"}


def test_an_image_that_cannot_be_opened_costs_its_own_place(
    runs: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "squares" / "images" / "0003.png").write_bytes(b"no image")
    page.write(runs[:1], tmp_path / "report.html")
    data = content(tmp_path / "report.html")
    broken = [place for place, entry in enumerate(data["images"]) if entry[0] is None]
    assert ["not an image" in data["images"][place][3] for place in broken] == [True]
    samples = data["set-0"]["samples"]
    lost = sorted(sample["i"] for sample in samples if -1 - broken[0] in sample["q"])
    assert lost == ["q0003", "q0009"]
    # Their answers were given to another image than the one that is there today.
    other = [samples[a[0]]["i"] for a in answers_of(data) if len(a) > 7 and a[7] == 1]
    assert other == lost


def test_of_many_samples_some_are_drawn_and_all_are_counted(
    runs: list[Path], tmp_path: Path
) -> None:
    """The same ones of every run and of larger draws, but for those without a score, which come first."""
    written = page.write(runs, tmp_path / "report.html", samples=5)
    assert (written.answers, written.samples) == (48, 20)
    data = content(tmp_path / "report.html")
    drawn = []
    for number, run in enumerate(data["runs"]):
        samples = set_of(data, run)["samples"]
        drawn.append({samples[answer[0]]["i"] for answer in answers_of(data, number)})
        assert sum(run["counts"].values()) == run["answers"] == 12
        assert run["rows"][0]["n"] + run["rows"][0]["unscored"] == 12
    assert drawn[0] == drawn[1]
    page.write(runs[:1], tmp_path / "more.html", samples=8)
    more = content(tmp_path / "more.html")
    assert drawn[0] < {sample["i"] for sample in more["set-0"]["samples"]}


def test_a_baseline_is_what_the_others_are_compared_with(runs: list[Path], tmp_path: Path) -> None:
    page.write(runs, tmp_path / "report.html", baseline="mixed")
    data = content(tmp_path / "report.html")
    models = [each for each in data["differences"] if each["kind"] == "models"]
    assert {
        (data["runs"][each["a"]]["model"], data["runs"][each["b"]]["model"]) for each in models
    } == {("mixed", "red")}
    with pytest.raises(ConfigError, match="'nobody'"):
        page.write(runs, tmp_path / "report.html", baseline="nobody")


def test_what_was_answered_in_the_place_of_what(runs: list[Path], tmp_path: Path) -> None:
    page.write(runs[:1], tmp_path / "report.html")
    data = content(tmp_path / "report.html")
    assert data["runs"][0]["confusion"]
    (found,) = data["confusions"]
    labels = found["labels"]
    for label, row in zip(labels, found["counts"], strict=True):
        asked = [s for s in data["set-0"]["samples"] if data["set-0"]["texts"][s["r"][0]] == label]
        # The model says red, whatever is shown.
        assert row[labels.index("red")] == sum(row) == len(asked)


def test_the_settings_and_the_words_of_a_run_are_there(runs: list[Path], tmp_path: Path) -> None:
    page.write(runs[1:2], tmp_path / "report.html")
    (about,) = content(tmp_path / "report.html")["about"]
    assert about["when"].startswith("20") and about["when"].endswith("+00:00")
    assert about["template"]["ask"] == "{image}{question} Answer:"
    assert "default = red" in about["settings"]["model"]
    assert "shots = 2" in about["settings"]["run"]


def test_nothing_in_the_data_ends_its_element() -> None:
    evil = "</script><script>alert(1)</script><!-- & \u2028\u2029"
    text = embedded({evil: [evil]})
    assert not set("<>&\u2028\u2029") & set(text)
    assert msgspec.json.decode(text) == {evil: [evil]}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--file", "report.pdf"], "an .html file"),
        (["nothing-like-this"], "unknown run"),
        (["--out", "empty"], "no runs to report"),
    ],
)
def test_mistakes_are_explained(
    arguments: list[str],
    said: str,
    runs: list[Path],
    program: Callable[..., tuple[int, str, str]],
) -> None:
    code, _, printed = program(
        "report", *([] if "--out" in arguments else ["--out", "runs"]), *arguments
    )
    assert code == 2
    assert said in printed


def test_a_small_copy_of_a_photo_is_its_own_pixels(tmp_path: Path) -> None:
    """A JPEG is decoded no larger than it must be; upright, and as a whole one is shown."""
    ramp = PILImage.linear_gradient("L").resize((800, 600)).convert("RGB")
    exif = PILImage.Exif()
    exif[0x0112] = 6
    ramp.save(tmp_path / "turned.jpg", quality=95, exif=exif)
    image = Image(str(tmp_path / "turned.jpg"))
    small = images.load(image, 200)
    assert small.size == (150, 200) and images.load(image).size == (600, 800)
    whole = images.load(image).resize(small.size, PILImage.Resampling.BOX)
    apart = ImageChops.difference(small, whole).getextrema()
    assert max(high for _, high in apart) <= 6
    with PILImage.open(io.BytesIO(encoded(image, 100))) as copy:
        assert copy.size == (75, 100)


def test_a_copy_holds_pixels_and_nothing_else_of_the_file() -> None:
    """A photograph's is a JPEG; its comment, camera and profile are not in it. A small drawing's loses
    no pixel."""
    large = PILImage.effect_noise((90, 80), 50).convert("RGB")
    exif = PILImage.Exif()
    exif[0x010F] = "camera"
    buffer = io.BytesIO()
    large.save(buffer, "JPEG", comment=b"private", exif=exif, icc_profile=b"profile")
    assert all(word in buffer.getvalue() for word in (b"private", b"camera", b"profile"))
    copy = encoded(Image(data=buffer.getvalue()))
    assert copy[:2] == b"\xff\xd8"
    assert not any(word in copy for word in (b"private", b"camera", b"profile"))
    small = images.from_pil(large.crop((0, 0, 64, 64)))
    with PILImage.open(io.BytesIO(encoded(small))) as shown:
        assert shown.format == "WEBP"
        assert ImageChops.difference(shown.convert("RGB"), images.load(small)).getbbox() is None


def test_samples_of_runs_of_the_same_questions_are_ranked_once(
    runs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked: list[str] = []
    rank = reading._rank
    monkeypatch.setattr(reading, "_rank", lambda name: (ranked.append(name), rank(name))[1])
    read = reading.Reading(runs)
    orders = {read(folder).order for folder in runs}
    assert len(orders) == 1 and sorted(ranked) == sorted(*orders)
