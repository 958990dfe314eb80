"""What users of lm-eval, lmms-eval and VLMEvalKit type: done where it means the same, else answered.

Options as of EleutherAI/lm-evaluation-harness 4e7e0d4 (`lm_eval/_cli/run.py`), EvolvingLMMs-Lab/lmms-eval
75571cf (`lmms_eval/__main__.py`) and open-compass/VLMEvalKit e8e78f0 (`run.py`).
docs/how-to/coming-from.md says all of it for people.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from emu2eval.errors import UserError
from emu2eval.spec import catalog
from emu2eval.spec.elsewhere import known_elsewhere, said_elsewhere

SAME: Mapping[str, str] = MappingProxyType(
    {
        "--tasks": "--task",
        "--data": "--task",
        "--num_fewshot": "--shots",
        "--num-fewshot": "--shots",
        "--output_path": "--out",
        "--work-dir": "--out",
        "-o": "--out",
        "--batch_size": "--batch",
        "-b": "--batch",
        "-L": "--limit",
        "-M": "--model",
        "--repeats": "--trials",
        "--num_samples": "--trials",
        "-n": "--trials",
    }
)
"""Options that take the same values as ours."""

SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "--temperature": "model.settings.temperature",
        "--top-p": "model.settings.top_p",
        "--top-k": "model.settings.top_k",
        "--repetition-penalty": "model.settings.repetition_penalty",
        "--max-tokens": "model.settings.max_new_tokens",
        "--api-nproc": "model.settings.concurrency",
        "--retry": "model.settings.retries",
        "--timeout": "model.settings.timeout",
        "--system_instruction": "model.settings.system",
        "--judge-base-url": "judge.settings.base_url",
        "--judge-api-nproc": "judge.settings.concurrency",
        "--judge-retry": "judge.settings.retries",
        "--judge-timeout": "judge.settings.timeout",
    }
)
"""Options that are settings here."""

DONE: Mapping[str, str] = MappingProxyType(
    {
        "--log_samples": "every answer is saved",
        "-s": "every answer is saved",
        "--log_samples_suffix VALUE": "every answer is saved",
        "--use_cache VALUE": "stored answers are reused, no request is sent twice",
        "--cache_requests VALUE": "stored answers are reused, no request is sent twice",
        "--reuse": "run the same command again to continue",
        "--keep-failed": "the same command retries failed requests",
        "--apply_chat_template": "a model's own chat template is used",
        "--fewshot_as_multiturn": "demonstrations are turns of the model's chat template",
        "--process_with_media": "images are always read",
        "--verbosity VALUE": "--debug shows the traceback of an error",
        "--verbose": "--debug shows the traceback of an error",
        "-v VALUE": "--debug shows the traceback of an error",
        "--api-mode": "a server is used through a model file, such as openai-compatible",
        "--check_integrity": "emu2eval check --task TASK checks a task",
        "--show_config": "run.json in the run's folder holds the whole task",
    }
)
"""What needs not be asked for. VALUE: the option has one, which is left out with it."""

ANSWERS: Mapping[str, str] = MappingProxyType(
    {
        "--include_path": "name your own task by the path of its file: --task FOLDER/task.yaml",
        "--data-config": "name your own task by the path of its file: --task FOLDER/task.yaml",
        "--config": "pass an experiment file as an argument: emu2eval run experiment.yaml",
        "-C": "pass an experiment file as an argument: emu2eval run experiment.yaml",
        "--trust_remote_code": "to run code that comes with a checkpoint, use --trust with "
        "--set model.settings.trust_remote_code=true",
        "--confirm_run_unsafe_code": "code in a model's answers is never run",
        "--write_out": "to show prompts: emu2eval show --task TASK --shots 4 --index 0",
        "-w": "to show prompts: emu2eval show --task TASK --shots 4 --index 0",
        "--predict_only": "answers are stored before they are scored; to rescore them: emu2eval score RUN",
        "-x": "answers are stored before they are scored; to rescore them: emu2eval score RUN",
        "--mode": "run requests what is missing and scores everything; emu2eval score RUN only rescores",
        "--wandb_args": "to export stored runs to Weights & Biases: emu2eval export --format wandb",
        "--wandb_config_args": "to export stored runs to Weights & Biases: emu2eval export --format wandb",
        "--wandb_log_samples": "to export stored runs to Weights & Biases: emu2eval export --format wandb",
        "--hf_hub_log_args": "to write a model card's table: emu2eval export --format model-index",
        "--max_batch_size": "--batch auto finds the largest batch that fits",
        "--samples": "to show one query: emu2eval show --task TASK --id ID; --limit picks a fixed random "
        "subset",
        "--offset": "--limit picks a fixed random subset; there is no offset",
        "--baseline": "to compare stored runs sample by sample: emu2eval compare RUN_A RUN_B",
        "--power-analysis": "emu2eval compare RUN_A RUN_B reports the smallest detectable difference",
        "--base-url": "a server is a model: --model openai-compatible --set "
        "model.settings.base_url=http://127.0.0.1:8000/v1 model.settings.model=NAME",
        "--key": "the API key is read from $OPENAI_API_KEY, never from the command line",
        "--judge-key": "the API key is read from $OPENAI_API_KEY, never from the command line",
        "--judge-args": "to change a judge's settings: --set judge.settings.temperature=0",
        "--use-verifier": "to choose the judge, which is a model like any other: --judge NAME",
        "--custom-prompt": "prompts are set by the task's protocol: --protocol NAME, or edit the task file",
        "--system-prompt": "to set a system prompt: --set model.settings.system='…'",
        "--metadata": "to set a task's options: --set task.data.options.KEY=VALUE",
        "--launcher_args": "start the judge's server yourself: vllm serve NAME; then --judge "
        "openai-compatible --set judge.settings.model=NAME",
        "--reasoning_tags": "reasoning is recognized by model family and stored apart from the answer",
        "--max_tokens": "to limit a server's total tokens: --set model.settings.budget.tokens=100000",
        "--tui": "emu2eval --help lists the commands; for a page of a run: emu2eval report",
        "--extra-body": "to add fields to a server request: --set model.settings.extra='{KEY: VALUE}'",
        "--judge_model": "to choose the judge: --judge NAME",
    }
)
"""What is done in another way; the option, with its values, is left out of the command that is shown."""

VERBS: Mapping[str, str] = MappingProxyType(
    {
        "eval": "emu2eval run --task TASK --model MODEL",
        "evaluate": "emu2eval run --task TASK --model MODEL",
        "infer": "emu2eval run --task TASK --model MODEL",
        "tasks": "emu2eval ls tasks",
        "models": "emu2eval ls models",
        "list": "emu2eval ls",
        "version": "emu2eval --version",
        "validate": "emu2eval check --task TASK",
        "power": "emu2eval compare RUN_A RUN_B",
        "ui": "emu2eval report",
        "tui": "emu2eval report",
        "serve": "emu2eval report",
        "summary": "emu2eval table",
        "results": "emu2eval table",
        "leaderboard": "emu2eval table --pivot",
        "scan": "emu2eval ls runs",
        "download": "emu2eval data status",
        "help": "emu2eval --help",
    }
)
"""Verbs of others, and what is typed here."""

_ENGINES = {
    "vllm": "vllm",
    "vllm-vlm": "vllm",
    "vllm_generate": "vllm",
    "sglang": "sglang",
    "llava_sglang": "sglang",
}
"""Their backends that are serving engines here."""
_SERVERS = {"gguf", "ggml"}
_HOSTED = {
    "async_openai",
    "gpt4v",
    "gpt4o",
    "litellm",
    "local-chat-completions",
    "local-completions",
    "openai",
    "openai-chat-completions",
    "openai-completions",
    "openai_compatible",
}
_LOCAL = {"hf", "hf-auto", "hf-multimodal", "huggingface", "async_hf_model"}
_ARGS: Mapping[str, str] = MappingProxyType(
    {
        "dtype": "dtype",
        "torch_dtype": "dtype",
        "revision": "revision",
        "peft": "adapter",
        "attn_implementation": "attention",
        "max_length": "max_positions",
        "device_map": "device_map",
        "batch_size": "batch",
        "max_new_tokens": "max_new_tokens",
        "max_gen_toks": "max_new_tokens",
        "temperature": "temperature",
        "do_sample": "do_sample",
        "top_p": "top_p",
        "top_k": "top_k",
        "repetition_penalty": "repetition_penalty",
        "length_penalty": "length_penalty",
        "max_images": "images",
        "base_url": "base_url",
        "num_concurrent": "concurrency",
        "max_retries": "retries",
        "timeout": "timeout",
        "system_prompt": "system",
    }
)
"""Keys of --model_args and --gen_kwargs -> settings of a model here."""
_ASKED = frozenset(
    "revision temperature top_p max_new_tokens max_gen_toks timeout max_retries num_concurrent device "
    "trust_remote_code".split()
)
"""Those of a serving engine's that are no options of the engine itself."""
_GENERATION = {"num_beams": "task.output.beams", "until": "task.output.stop"}
_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "half": "float16", "fp32": "float32"}
_OURS = frozenset({"--task", "-t", "--model", "-m", "--seed", "-f"})
"""Options of ours whose values may be meant as somebody else's."""


@dataclass(frozen=True)
class Understood:
    """A command line as it is typed here. told: what else is said of it; answers: what cannot be done so."""

    arguments: list[str]
    told: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    before: str = ""
    """A command to give first."""

    @property
    def command(self) -> str:
        return shlex.join(["emu2eval", *self.arguments])

    def refusal(self) -> UserError | None:
        """What to type instead, where that cannot be done by itself."""
        if not self.answers:
            return None
        hint = self.command if not self.before else f"{self.before}\n         {self.command}"
        return UserError("; ".join(dict.fromkeys(self.answers)), hint=hint)


@dataclass
class _Reading:
    """One walk along a command line of `run`."""

    out: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)
    args: dict[str, str] | None = None
    before: str = ""
    changed: bool = False


def understood(arguments: Sequence[str], own: Iterable[str]) -> Understood | None:
    """The arguments of `run` in our words; None where they are already. own: the options that `run` has."""
    read, known = _Reading(), frozenset(own)
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        option, equals, value = word.partition("=")
        if not option.startswith("-") or option == "-":
            read.out.append(word)
            continue
        dashed = "--" + option[2:].replace("_", "-")
        if option.startswith("--") and option not in known and dashed in known:
            option = dashed
            read.changed = True
        values = [value] if equals else []
        if option in known and option not in _OURS:
            read.out.append(option + equals + value)
            continue
        while rest and not equals and _is_value(rest[0]):
            values.append(rest.pop(0))
        _take(read, option, values, known)
    return _finished(read, arguments)


def _is_value(word: str) -> bool:
    return not word.startswith("-") or word == "-" or re.fullmatch(r"-\d[\d.]*", word) is not None


def _take(read: _Reading, option: str, values: list[str], known: frozenset[str]) -> None:
    name = SAME.get(option, option)
    if name in ("--task", "-t"):
        read.changed |= option in SAME
        _take_tasks(read, values)
    elif name in ("--model", "-m"):
        read.changed |= option in SAME
        read.models += values
    elif option == "--seed" and values and "," in values[0]:
        last = values[0].split(",")[-1].strip()
        seed = last if last.isdecimal() else "0"
        read.answers.append(
            f"--seed {values[0]} gives several seeds; here one seed covers demonstrations and sampled answers"
        )
        read.out += ["--seed", seed]
    elif option == "-f" and values and values[0].isdecimal():
        read.changed = True
        read.out += ["--shots", *values]
    elif option in ("--seed", "-f"):
        read.out += [option, *values]
    elif name == "--out" and option in SAME:
        _take_folder(read, option, values)
    elif option in SAME:
        read.changed = True
        if name == "--batch" and values and values[0].startswith("auto:"):
            values = ["auto"]
        read.out += [name, *values]
    elif option in ("--model_args", "-a"):
        read.args = {**(read.args or {}), **_pairs(values)}
    elif option in ("--gen_kwargs", "--gen-kwargs"):
        read.changed = True
        for key, value in _pairs(values).items():
            _take_argument(read, "--gen_kwargs", key, value)
    elif option in SETTINGS:
        read.changed = True
        read.settings[SETTINGS[option]] = " ".join(values)
    elif option in DONE or f"{option} VALUE" in DONE:
        read.changed = True
        read.told.append(f"{option}: {DONE.get(option) or DONE[f'{option} VALUE']}")
        if option in DONE:
            read.out += values  # a flag: what stands behind it is no value of its
    elif option in ANSWERS:
        read.answers.append(f"{option}: {ANSWERS[option]}")
    else:
        read.out += [option, *values]


def _take_tasks(read: _Reading, values: Iterable[str]) -> None:
    if list(values) == ["list"]:
        read.answers.append("to list the tasks: emu2eval ls tasks")
        return
    ours = {*catalog.names("task"), *catalog.names("suite")}
    splits = set()
    for name in (part for value in values for part in _parts(value)):
        found = None if name in ours or catalog.is_path(name) else known_elsewhere(name)
        if found is None:
            read.tasks.append(name)
            continue
        task, split = found
        read.answers.append(str(said_elsewhere(name)))
        read.tasks.append(task)
        splits.add(split)
    if len(splits) == 1 and None not in splits and "--split" not in read.out:
        read.out += ["--split", *map(str, splits)]


def _parts(value: str) -> list[str]:
    """Of a list; a path is whole, since its name may have a comma."""
    return [value] if catalog.is_path(value) else [part for part in value.split(",") if part]


def _take_folder(read: _Reading, option: str, values: list[str]) -> None:
    if values and re.search(r"\.jsonl?$", values[0]):
        read.answers.append(
            f"{option} {values[0]}: --out is the folder of runs; to write a results file: "
            "emu2eval table --format json"
        )
        return
    read.changed = True
    read.out += ["--out", *values]


def _pairs(values: Iterable[str]) -> dict[str, str]:
    """`a=1,b=2` or `a=1 b=2`; a part without = belongs to the value before it."""
    found: dict[str, str] = {}
    last = None
    for part in (part for value in values for part in value.split(",")):
        key, equals, value = part.partition("=")
        if equals:
            last = key.strip()
            found[last] = value
        elif last is not None and part:
            found[last] += f",{part}"
    return found


def _take_argument(read: _Reading, option: str, key: str, value: str) -> None:
    if key in _GENERATION:
        read.settings[_GENERATION[key]] = value
    elif key in ("load_in_8bit", "load_in_4bit"):
        if value.lower() == "true":
            read.settings["model.settings.quantize"] = key[8]
    elif key == "device":
        read.out += ["--device", value]
    elif key == "trust_remote_code":
        read.told.append("trust_remote_code: code that comes with a checkpoint is not run")
    elif key in _ARGS:
        if _ARGS[key] != "dtype" or value != "auto":
            value = _DTYPES.get(value, value.lower() if value in ("True", "False") else value)
            read.settings[f"model.settings.{_ARGS[key]}"] = value
    else:
        read.answers.append(
            f"{option} {key}={value} has no equivalent; to change a model's settings: --set "
            "model.settings.KEY=VALUE (a wrong KEY lists the valid ones)"
        )


def _take_model(read: _Reading) -> list[str]:
    """What stands behind --model."""
    args = read.args
    if args is None:
        (kind,) = read.models if len(read.models) == 1 else ("",)
        if kind in _LOCAL | _ENGINES.keys() | _SERVERS and kind not in catalog.names("model"):
            read.answers.append(
                f"{kind} is a backend; --model names the model: a folder, org/name on the hub, or a name "
                "from emu2eval ls models; for a serving engine: --engine vllm"
            )
            return ["ORG/NAME"]
        return read.models
    read.changed = True
    kind = read.models[0] if read.models else "hf"
    given = dict(args)
    named = [given.pop(key, "") for key in ("pretrained", "model", "model_version", "model_name")]
    which = next(filter(None, named), "")
    if not which:
        read.answers.append(f"--model_args for {kind} names no model: pretrained=… is missing")
        which = "ORG/NAME"
    if kind in _ENGINES:
        read.out += ["--engine", _ENGINES[kind]]
    if kind in _SERVERS:
        read.answers.append(f"{kind} runs as a separate server: start it first, then run")
        read.before = f"llama-server --model {which}"
        given = {key: value for key, value in given.items() if key in ("temperature", "top_p")}
    for key, value in given.items():
        if kind in _ENGINES and key not in _ASKED:
            read.settings[f"model.settings.options.{key}"] = value
        else:
            _take_argument(read, "--model_args", key, value)
    if kind in _SERVERS or (kind in _HOSTED and "base_url" in given):
        read.settings.setdefault("model.settings.base_url", "http://127.0.0.1:8000/v1")
        read.settings["model.settings.model"] = which
        return ["openai-compatible"]
    if kind in _HOSTED:
        read.settings["model.settings.model"] = which
        return ["openai"]
    return [which]


def _finished(read: _Reading, typed: Sequence[str]) -> Understood | None:
    model = _take_model(read)
    if not read.changed and not read.answers:
        return None
    head = ["run"]
    if read.tasks:
        head += ["--task", *read.tasks]
    if model:
        head += ["--model", *model]
    tail = [f"{key}={value}" for key, value in read.settings.items()]
    if tail:
        read.out += ["--set", *tail]
    return Understood([*head, *read.out], tuple(read.told), tuple(read.answers), read.before)
