"""What is said of how a model answers, and of what its checkpoint recommends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from emu2eval.adapters.emu2.settings import Emu2Settings
from emu2eval.adapters.huggingface.settings import HuggingFaceSettings
from emu2eval.adapters.local.generation import described
from emu2eval.cli import app
from emu2eval.doctor.checks import check_model
from emu2eval.testing import small_task

NANO = Path(__file__).parents[2] / "models" / "emu2-nano"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "most likely (greedy)"),
        ({"max_new_tokens": 7}, "most likely (greedy), of at most 7 tokens"),
        ({"beams": 3}, "the best of 3 beams, or the number that the task sets"),
        ({"do_sample": True, "top_p": 0.5}, "sampled (temperature 1, top_p 0.5)"),
        ({"temperature": 0.7, "seed": 4}, "sampled (temperature 0.7, seed 4)"),
    ],
)
def test_how_it_answers(given: dict[str, Any], said: str, tmp_path: Path) -> None:
    assert described(HuggingFaceSettings(checkpoint="x", **given), tmp_path) == said


@pytest.mark.parametrize(
    ("recommended", "how"),
    [
        (
            {"do_sample": True, "temperature": 0.6, "top_p": 0.8, "top_k": 20, "eos_token_id": 2},
            "model.settings.temperature=0.6 model.settings.top_p=0.8 model.settings.top_k=20",
        ),
        ({"do_sample": True, "temperature": None}, "model.settings.do_sample=true"),
        ({"temperature": 0.9}, None),
        ({"num_beams": 4}, None),
    ],
)
def test_what_a_checkpoint_recommends(
    recommended: dict[str, Any], how: str | None, tmp_path: Path
) -> None:
    """Shown with the options that would do it; greedy stays the default."""
    (tmp_path / "generation_config.json").write_text(json.dumps(recommended))
    said = described(Emu2Settings(checkpoint="x"), tmp_path)
    assert said.startswith("the best of 5 beams, or the number that the task sets; ")
    for name, value in recommended.items():
        if name != "eos_token_id" and value is not None:
            assert f"{name} {str(value).lower()}" in said
    assert "eos_token_id" not in said
    assert said.partition("--set ")[2] == (f"{how})" if how else "")
    drawn = described(HuggingFaceSettings(checkpoint="x", temperature=0.5), tmp_path)
    assert "which is not applied automatically" in drawn and "--set" not in drawn
    (tmp_path / "generation_config.json").write_text("{")
    assert described(HuggingFaceSettings(checkpoint="x"), tmp_path) == "most likely (greedy)"


def test_it_is_told_by_check_and_by_a_dry_run(tmp_path: Path) -> None:
    for file in ("config.json", "model.safetensors", "tokenizer.model"):
        (tmp_path / file).symlink_to(NANO / file)
    (tmp_path / "generation_config.json").write_text(json.dumps({"temperature": 0.6}))
    model = tmp_path / "own.yaml"
    settings = {"checkpoint": ".", "temperature": 0.9, "beams": 1}
    model.write_text(yaml.safe_dump({"name": "own", "adapter": "emu2", "settings": settings}))
    said = "sampled (temperature 0.9); generation_config.json recommends temperature 0.6"
    told = next(finding for finding in check_model(str(model)) if finding.rule == "answers")
    assert told.holds and told.seen.startswith(said)
    task = str(small_task(tmp_path))
    console = Console(width=300)
    done = CliRunner().invoke(
        app, ["run", "--task", task, "--model", str(model), "--dry-run"],
        env={"COLUMNS": str(console.width)},
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert f"own, answers: {said}" in done.stdout
