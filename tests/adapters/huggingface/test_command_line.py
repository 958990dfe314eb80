"""Tiny models through the ordinary command line: files of a checkpoint in, a table out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from emu2eval import evaluate
from emu2eval.adapters.huggingface.adapter import HuggingFaceAdapter
from emu2eval.adapters.huggingface.settings import HuggingFaceSettings
from emu2eval.cli import app
from emu2eval.errors import ConfigError, MissingExtra, ModelError, PlanError
from emu2eval.report.notes import notes
from emu2eval.runs.answers import Answer
from emu2eval.runs.store import RunStore
from emu2eval.types import Mark

from .prompts import built, prompt, request

MakeTask = Callable[..., Path]


def answers(folder: Path) -> list[Answer]:
    return sorted(RunStore(folder).answers(), key=lambda answer: answer.id)


def run(*arguments: str) -> list[dict[str, Any]]:
    done = CliRunner().invoke(app, ["run", "-f", "json", *arguments])
    assert done.exit_code == 0, done.output
    return list(json.loads(done.stdout[done.stdout.index("[") :]))


def test_each_family_at_0_4_and_16_shots(
    model_file: Callable[..., str], make_task: MakeTask, family: str
) -> None:
    task = str(make_task(queries=6, pool=20))
    rows = run(
        "--task",
        task,
        "--model",
        model_file(family),
        "--shots",
        "0",
        "--shots",
        "4",
        "--shots",
        "16",
    )
    assert [(row["shots"], row["n"], row["unscored"]) for row in rows] == [
        ("0", 6, 0), ("4", 6, 0), ("16", 6, 0)
    ]  # fmt: skip
    for row, shots in zip(rows, (0, 4, 16), strict=True):
        for answer in answers(Path("results/runs") / row["run"]):
            assert len(answer.shown) == shots + 1
            assert answer.tokens_in is not None and answer.tokens_in > 4 * (shots + 1)
            assert answer.ended in ("stop", "length") and not answer.marks


@pytest.mark.parametrize("chooser", ["fixed", "random"])
def test_batch_and_reuse_change_no_stored_answer(
    model_file: Callable[..., str], make_task: MakeTask, tmp_path: Path, chooser: str
) -> None:
    task = str(make_task(queries=10, pool=20))
    found = []
    for number, settings in enumerate(({"batch": 1, "reuse": False}, {"batch": 8})):
        (result,) = evaluate(
            task, model_file("idefics3", **settings), shots=[4], out=tmp_path / f"{number}",
            changes=[f"task.demonstrations.chooser={chooser}"],
        )  # fmt: skip
        found.append([(answer.id, answer.text) for answer in answers(result.folder)])
    assert found[0] == found[1]
    assert len({text for _, text in found[0]}) > 2


def test_one_image_only_is_refused_with_the_choices(
    model_file: Callable[..., str], make_task: MakeTask, tmp_path: Path
) -> None:
    """Refused while planning; text-only demonstrations and one grid of all images are taken."""
    task, model = str(make_task(queries=4, pool=20)), model_file("llava", images=1)
    with pytest.raises(PlanError, match="has 5 images, but llava accepts 1") as caught:
        evaluate(task, model, shots=[4], out=tmp_path / "runs")
    assert "--shots '0*'" in str(caught.value) and "model.settings.grid=true" in str(caught.value)
    assert not (tmp_path / "runs").exists()
    (only,) = evaluate(task, model, shots=["0*"], out=tmp_path / "runs")
    assert [len(answer.shown) for answer in answers(only.folder)] == [1] * 4
    (grid,) = evaluate(
        task, model, shots=[4], out=tmp_path / "runs", changes=["model.settings.grid=true"]
    )
    assert grid.rows[0].n == 4
    assert {answer.marks for answer in answers(grid.folder)} == {(Mark("tiles"),)}
    assert any("tiles of one" in note for note in notes(grid.rows[0]))
    assert only.rows[0].notes == ()


def test_the_refusal_on_the_command_line(
    model_file: Callable[..., str], make_task: MakeTask, program: Any
) -> None:
    task, model = str(make_task(queries=4, pool=20)), model_file("llava", images=1)
    code, _, errors = program("run", "--task", task, "--model", model, "--shots", "4")
    told = " ".join(errors.split())
    assert code == 2
    assert "the prompt has 5 images, but llava accepts 1" in told
    assert "--shots '0*'" in told and "--set model.settings.grid=true" in told
    assert not Path("results").exists()


@pytest.mark.parametrize("name", ["idefics3", "kosmos2"])
def test_demonstrations_like_the_query_to_the_model_itself(
    model_file: Callable[..., str], make_task: MakeTask, name: str
) -> None:
    """RICES through the evaluated model's own encoder: squares of the query's colour come first."""
    changes = ["chooser=rices", "options.encoder=model"]
    (row,) = run(
        *("--task", str(make_task(queries=6, pool=20)), "--model", model_file(name)),
        *("--shots", "2"),
        *(part for change in changes for part in ("--set", f"task.demonstrations.{change}")),
    )
    assert (row["n"], row["unscored"]) == (6, 0)
    for answer in answers(Path("results/runs") / row["run"]):
        alike = {int(shown[1:]) % 5 for shown in answer.examples}
        assert alike == {int(answer.id[1:]) % 5}


def test_a_grid_beside_the_query(model_file: Callable[..., str]) -> None:
    adapter = built(model_file("idefics3"), grid=True)
    encoded = adapter.opened.form.encode(prompt(5, 0))
    assert [len(shown.tiles) for shown in encoded.shown] == [5, 0]
    text = adapter.opened.processor.tokenizer.decode(encoded.ids)
    places = [text.index(f"(image {number})") for number in range(1, 6)]
    assert places == sorted(places) and encoded.spans[0][1] < encoded.spans[1][0]
    adapter.load()
    (response,) = adapter.answer([request(prompt(5, 0))])
    assert response.error is None and response.marks == (Mark("tiles"),)


def test_what_is_too_long_is_refused_or_shortened(
    model_file: Callable[..., str], make_task: MakeTask, tmp_path: Path
) -> None:
    task, model = str(make_task(queries=4, pool=20)), model_file("idefics3", max_positions=300)
    with pytest.raises(PlanError, match="positions, but idefics3 has 300") as caught:
        evaluate(task, model, shots=[8], out=tmp_path / "runs")
    assert "--fit" in str(caught.value.hint)
    assert not (tmp_path / "runs").exists()
    (result,) = evaluate(task, model, shots=[8], fit=True, out=tmp_path / "runs")
    assert result.rows[0].shortened == 4
    assert all(1 <= answer.left_out <= 7 for answer in answers(result.folder))


def test_images_may_cost_less(model_file: Callable[..., str]) -> None:
    whole = built(model_file("idefics3"))
    small = built(model_file("idefics3", image_options={"do_image_splitting": False}))
    asked = request(prompt(1, 0))
    assert small.positions(asked) < whole.positions(asked)


def test_a_broken_image_costs_its_own_request(
    model_file: Callable[..., str], tmp_path: Path
) -> None:
    from emu2eval.types import Image, Prompt

    adapter = built(model_file("llava"))
    adapter.load()
    good = request(prompt(1, 0))
    path = tmp_path / "gone.png"
    asked = prompt(1, 1)
    from emu2eval.media import images

    path.write_bytes(images.read(asked.turns[0].ask[0]))  # type: ignore[arg-type]
    broken = request(Prompt(query=(Image(path=str(path)), "what? Answer:")))
    path.unlink()
    first, second = adapter.answer([broken, good])
    assert first.error is not None and "does not exist" in first.error
    assert second.text is not None


def test_mistakes_are_one_paragraph(model_file: Callable[..., str], tmp_path: Path) -> None:
    model = model_file("llava")
    for settings, says in (
        ({"layout": "talk"}, "'chat' or 'plain'"),
        ({"dtype": "float8"}, "did you mean 'float"),
        ({"batch": 0}, "at least 1"),
        ({"repetition_penalty": 0.0}, "above 0"),
        ({"quantize": 3}, "4 or 8"),
    ):
        with pytest.raises(ConfigError, match=says):
            built(model, **settings)
    for settings, kind, says in (
        ({"layout": "plain", "image_options": {"sise": 1}}, ConfigError, "image_options.*sise"),
        ({"layout": "plain", "image_options": {"size": "x"}}, ConfigError, "image_options"),
        ({"layout": "chat"}, ModelError, "no chat template"),
        ({"checkpoint": str(tmp_path / "nothing")}, ModelError, "no checkpoint found"),
        ({"checkpoint": str(tmp_path)}, ModelError, "no config.json"),
        ({"quantize": 4}, MissingExtra, "bitsandbytes"),
    ):
        (error,) = built(model, **settings).lacks()
        assert isinstance(error, kind) and re.search(says, str(error)), error
    with pytest.raises(MissingExtra, match="bitsandbytes"):
        built(model, quantize=4).load()


def test_remote_code_never_runs_unasked(saved: Callable[[str], Path], tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "own"
    shutil.copytree(saved("llava"), folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own-kind", "auto_map": {"AutoConfig": "own.Own"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text("raise SystemExit('this ran')")
    (error,) = HuggingFaceAdapter(HuggingFaceSettings(checkpoint=str(folder))).lacks()
    assert "trust_remote_code: true" in str(error.hint)


def test_offline_says_how_to_get_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: dict[str, Any] = {}

    def offline(name: str, **options: Any) -> str:
        asked.update(options)
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    name = "HuggingFaceM4/Idefics3-8B-Llama3"
    adapter = HuggingFaceAdapter(HuggingFaceSettings(checkpoint=name, revision="abc"))
    assert asked == {}
    (error,) = adapter.lacks()
    assert f"hf download {name} --revision abc" in str(error.hint) and asked["local_files_only"]
    asked.clear()
    with pytest.raises(ModelError, match="no network") as caught:
        adapter.fetch()
    assert f"hf download {name} --revision abc" in str(caught.value.hint)
    assert asked["revision"] == "abc" and "local_files_only" not in asked
    assert not [pattern for pattern in asked["allow_patterns"] if pattern.endswith((".py", ".bin"))]


def test_the_identity_names_what_decides_answers(
    saved: Callable[[str], Path], model_file: Callable[..., str], tmp_path: Path
) -> None:
    import shutil

    first = built(model_file("llava")).identity()
    assert first["dtype"] == "float32" and first["remote_code"] is False
    folder = tmp_path / "other"
    shutil.copytree(saved("llava"), folder)
    same = built(model_file("llava", checkpoint=str(folder))).identity()
    assert same == first
    template = folder / "chat_template.jinja"
    template.write_text("{{ messages }}")
    assert built(model_file("llava", checkpoint=str(folder))).identity() != first
