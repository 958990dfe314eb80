"""What users of other harnesses type: done, or answered with the command to type."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from emu2eval.cli import app, line, peers

PROGRAM: Any = typer.main.get_command(app)
OWN = [name for param in PROGRAM.commands["run"].params for name in param.opts]


def read(text: str) -> str:
    """The command as it is typed here, or what is answered."""
    given = shlex.split(text)
    found = peers.understood(given, OWN)
    if found is None:
        return "as it is"
    refusal = found.refusal()
    return found.command if refusal is None else str(refusal)


@pytest.mark.parametrize(
    ("typed", "ours"),
    [
        (
            "--model hf --model_args pretrained=Qwen/Qwen2.5-VL-7B-Instruct,dtype=bf16 --tasks gqa,okvqa "
            "--num_fewshot 4 --batch_size auto:4 --limit 0.1 --output_path out/ --log_samples",
            "--task gqa okvqa --model Qwen/Qwen2.5-VL-7B-Instruct --shots 4 --batch auto --limit 0.1 "
            "--out out/ --set model.settings.dtype=bfloat16",
        ),
        (
            "--tasks gqa --model qwen2_5_vl "
            "--model_args=pretrained=./mine,attn_implementation=sdpa,dtype=auto",
            "--task gqa --model ./mine --set model.settings.attention=sdpa",
        ),
        (
            "--model hf --model_args pretrained=a/b peft=./lora load_in_4bit=True device=cuda:1 --tasks gqa",
            "--task gqa --model a/b --device cuda:1 --set model.settings.adapter=./lora "
            "model.settings.quantize=4",
        ),
        (
            "--data gqa okvqa --model ./mine --work-dir out --reuse --verbose",
            "--task gqa okvqa --model ./mine --out out",
        ),
        (
            "--tasks gqa --model ./m "
            "--gen_kwargs temperature=0.7,do_sample=True,max_new_tokens=64,num_beams=3",
            "--task gqa --model ./m --set model.settings.temperature=0.7 model.settings.do_sample=true "
            "model.settings.max_new_tokens=64 task.output.beams=3",
        ),
        (
            "--model openai --model_args model_version=gpt-4o --tasks gqa -f 2",
            "--task gqa --model openai --shots 2 --set model.settings.model=gpt-4o",
        ),
        (
            "--model openai_compatible --model_args model=m,base_url=http://h/v1 --tasks gqa",
            "--task gqa --model openai-compatible --set model.settings.base_url=http://h/v1 "
            "model.settings.model=m",
        ),
        (
            "--model vllm --model_args pretrained=a/b,tensor_parallel_size=2,temperature=0.5 --tasks gqa",
            "--task gqa --model a/b --engine vllm --set model.settings.options.tensor_parallel_size=2 "
            "model.settings.temperature=0.5",
        ),
        ("--task gqa --dry_run --skip_missing", "--task gqa --dry-run --skip-missing"),
        (
            "--task gqa -n 3 --temperature 1.0",
            "--task gqa --trials 3 --set model.settings.temperature=1.0",
        ),
    ],
)
def test_what_means_the_same_is_done(typed: str, ours: str) -> None:
    assert read(typed) == f"emu2eval run {ours}"


@pytest.mark.parametrize(
    ("typed", "says", "command"),
    [
        (
            "--tasks vqav2_val --num_fewshot 4 --model ./m",
            "for vqav2_val, use --task vqav2 --split val",
            "run --task vqav2 --model ./m --split val --shots 4",
        ),
        (
            "--data MMBench_DEV_EN POPE --model ./m",
            "for MMBench_DEV_EN, use --task mmbench",
            "run --task mmbench POPE --model ./m",
        ),
        (
            "--model gguf --model_args pretrained=a.gguf --tasks gqa",
            "runs as a separate server",
            "llama-server --model a.gguf\n         emu2eval run --task gqa --model openai-compatible --set "
            "model.settings.base_url=http://127.0.0.1:8000/v1 model.settings.model=a.gguf",
        ),
        ("--tasks gqa --model hf", "hf is a backend", "run --task gqa --model ORG/NAME"),
        ("--tasks gqa --include_path ./mine", "--task FOLDER/task.yaml", "run --task gqa"),
        ("--task gqa --seed 0,1234,1234,7", "gives several seeds", "run --task gqa --seed 7"),
        ("--task gqa --output_path a.json", "emu2eval table --format json", "run --task gqa"),
        ("--tasks list", "emu2eval ls tasks", "run"),
        (
            "--task gqa --model_args pretrained=a/b,max_pixels=3",
            "max_pixels=3 has no",
            "--model a/b",
        ),
        ("--task gqa --config c.yaml", "emu2eval run experiment.yaml", "run --task gqa"),
    ],
)
def test_what_is_done_otherwise_is_answered_with_the_command(
    typed: str, says: str, command: str
) -> None:
    said = read(typed)
    assert says in said
    assert re.search(rf"try: .*{re.escape(command)}", said, re.DOTALL), said


@pytest.mark.parametrize(
    "typed",
    [
        "--task gqa 'vl_icl_*' --shots 0 4 '0*' --model emu2 openai",
        "--task ./a,b.yaml --format json -f csv --seed 3 --set task.output.beams=3 model.settings.batch=2",
        "experiment.yaml --task gqa",
        "--task gqa --limit -1",
    ],
)
def test_our_own_words_stay_as_they_are(typed: str) -> None:
    assert read(typed) == "as it is"


def test_every_word_that_is_shown_exists() -> None:
    """No answer names a verb or an option that is not there."""
    options = {name for command in _commands(PROGRAM) for p in command.params for name in p.opts}
    options |= {"--help", "--debug", "--trust"}
    for text in (*peers.ANSWERS.values(), *peers.DONE.values(), *peers.VERBS.values()):
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)) <= options, text
        for verb in re.findall(r"emu2eval ([a-z]+)", text):
            assert verb in PROGRAM.commands, text
    assert set(peers.SAME.values()) <= set(OWN)


def _commands(command: Any) -> Any:
    yield command
    for inner in getattr(command, "commands", {}).values():
        yield from _commands(inner)


def test_without_a_verb_it_is_a_run(program: Any, make_task: Any, tmp_path: Path) -> None:
    make_task()
    typed = (
        "--tasks squares/squares.yaml --model nearest --num_fewshot 1 --limit 0.2 --output_path o"
    )
    code, out, err = program(*shlex.split(typed))
    assert code == 0 and "3 of 12 queries" in " ".join(out.split())
    ours = "--task squares/squares.yaml --model nearest --shots 1 --limit 0.2 --out o"
    assert f"read as: emu2eval run {ours}" in err
    assert list((tmp_path / "o").iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "--task", "gqa", "--shot", "4"], "did you mean --shots"),
        (["table", "--output_path", "x"], "has no option --output_path; it is --out here"),
        (["table", "--log_samples"], "every answer is saved"),
        (["curves", "--colour"], "emu2eval curves has no option --colour"),
        (["eval", "--tasks", "gqa"], "emu2eval run --task TASK --model MODEL"),
        (["tabel"], "did you mean 'table'"),
        (["show", "--seed", "x"], "--seed takes a whole number"),
        (["compare"], "needs the argument RUNS"),
        (["run", "--task"], "requires an argument"),
        (["data", "chek"], "did you mean 'check'"),
    ],
)
def test_a_mistake_gets_one_paragraph(program: Any, arguments: list[str], says: str) -> None:
    code, out, err = program(*arguments)
    assert code == 2 and says in err and not out
    assert err.startswith("error: ") and "No such" not in err and "Usage" not in err


def test_options_of_many_values() -> None:
    def spread(text: str) -> list[str]:
        return line.read(shlex.split(text), PROGRAM)

    assert spread("run --shots 0 4 --limit 5") == shlex.split("run --shots 0 --shots 4 --limit 5")
    assert spread("score --set judge.a=1 judge.b=2 RUN") == shlex.split(
        "score --set judge.a=1 --set judge.b=2 RUN"
    )
    assert spread("table a b --format json") == shlex.split("table a b --format json")
