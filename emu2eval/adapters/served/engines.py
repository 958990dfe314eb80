"""The serving engines that can be started: what each is called, how it is told what to do, what it can do.

Options were read in the engines' own sources and manuals: vLLM 0.30 (`vllm serve`), SGLang at 16c8ff4
(`sglang serve`), llama.cpp at 00dc805 (tools/server/README.md), transformers 5.23 (`transformers serve`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from emu2eval.adapters.openai.settings import FORMATS, Format, Ranking
from emu2eval.errors import ConfigError

EngineName = Literal["vllm", "sglang", "llama.cpp", "transformers"]

HOST = "127.0.0.1"
NAME = "emu2eval"
"""What the model is called in requests, where the engine can be told."""

_WHERE = ("--host", HOST, "--port", "{port}")


@dataclass(frozen=True, slots=True)
class Engine:
    """program: looked for on PATH; package: its distribution; install: the command that brings it.

    start, fixed: the arguments before and after the options, with {model} and {port} to be filled in; of two
    values for one option the last counts. defaults: options that are given unless the user gives others.
    gpus: the option for the number of GPUs that share the model.
    image_options: the option that takes those of the image processor, and the keys around them.
    version: the arguments that make it print its version, where its Python is not to be asked.
    concurrency: requests at once. named: the model can be called NAME in requests, else by its path.
    """

    name: EngineName
    program: str
    package: str
    install: str
    start: tuple[str, ...]
    fixed: tuple[str, ...]
    version: tuple[str, ...]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    gpus: str | None = None
    image_options: tuple[str, ...] = ()
    ranking: Ranking | None = None
    concurrency: int = 64
    formats: tuple[Format, ...] = FORMATS
    named: bool = True
    gguf: bool = False


ENGINES: Mapping[str, Engine] = MappingProxyType(
    {
        engine.name: engine
        for engine in (
            Engine(
                name="vllm",
                program="vllm",
                package="vllm",
                install="uv pip install vllm",
                start=("serve", "{model}", "--disable-uvicorn-access-log"),
                fixed=("--served-model-name", NAME, *_WHERE),
                version=("--version",),
                # Else generation_config.json decides what a request leaves open, such as a penalty.
                defaults={"generation_config": "vllm"},
                gpus="tensor_parallel_size",
                image_options=("mm_processor_kwargs",),
                ranking="prompt_logprobs",
            ),
            Engine(
                name="sglang",
                program="sglang",
                package="sglang",
                install="uv pip install sglang",
                start=("serve", "--model-path", "{model}"),
                fixed=("--served-model-name", NAME, *_WHERE),
                version=("version",),
                defaults={"sampling_defaults": "openai", "log_level_http": "warning"},
                gpus="tensor_parallel_size",
                image_options=("mm_process_config", "image"),
                ranking="first_token",
            ),
            Engine(
                name="llama.cpp",
                program="llama-server",
                package="llama.cpp",
                install="brew install llama.cpp, or a release of github.com/ggml-org/llama.cpp",
                start=("--model", "{model}"),
                fixed=("--alias", NAME, *_WHERE),
                version=("--version",),
                ranking="first_token",
                concurrency=8,
                formats=("JPEG", "PNG"),  # it does not read WebP
                gguf=True,
            ),
            Engine(
                name="transformers",
                program="transformers",
                package="transformers",
                install="pip install 'transformers[serving]'",
                start=("serve", "{model}"),
                fixed=_WHERE,
                version=("version",),
                concurrency=4,
                named=False,
            ),
        )
    }
)

_OURS = frozenset(
    "host port uds model model_path m served_model_name alias a api_key api_key_file admin_api_key config "
    "ssl_keyfile ssl_certfile ssl_ca_certs ssl_key_file ssl_cert_file hf_repo hf hfr model_url mu "
    "docker_repo dr revision force_model api_prefix root_path fastapi_root_path grpc_mode headless nnodes "
    "node_rank reuse_port models_dir models_preset hf_token".split()
)
"""Options that say what is served where, which is decided here."""

_CODE = frozenset(
    "trust_remote_code middleware tool_parser_plugin reasoning_parser_plugin logits_processors worker_cls "
    "worker_extension_cls scheduler_cls io_processor_plugin tool_server tools tools_runtime agent "
    "ui_mcp_proxy webui_mcp_proxy mcp_servers_config mcp_servers_json allowed_local_media_path media_path "
    "enable_custom_logit_processor custom_weight_loader forward_hooks log_config_file rpc".split()
)
"""Options that run other code than the engine's, read files for requests, or reach other machines."""

_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def brings_code(options: Mapping[str, Any]) -> list[str]:
    """The options that make more run or readable than the model.

    >>> brings_code({"trust-remote-code": True, "tools": None, "max_model_len": 8192})
    ['trust-remote-code']
    """
    return [key for key, value in options.items() if value and plain(key) in _CODE]


def check_options(options: Mapping[str, Any]) -> None:
    """Raises ConfigError for an option that is decided here, or cannot be passed on as one."""
    for key, value in options.items():
        where = f"settings.options.{key}"
        if not _KEY.fullmatch(key):
            raise ConfigError(
                f"{key!r} is not the name of an option",
                where=where,
                hint="write it without dashes in front: --set model.settings.options.max_model_len=8192",
            )
        if plain(key) in _OURS:
            raise ConfigError(
                f"the option {key!r} says what is served where, which emu2eval decides",
                where=where,
                hint="remove it; for a server that you start yourself: --model openai-compatible",
            )
        for text in value if isinstance(value, list | tuple) else (value,):
            if isinstance(text, str) and text.startswith("-"):
                raise ConfigError(
                    f"the value of the option {key!r} begins with a dash, so it would be another option",
                    where=where,
                )


def arguments(options: Mapping[str, Any]) -> Iterator[str]:
    """Options as a command line has them: true = the option alone, false = its --no- form, null = none.

    >>> list(arguments({"max_model_len": 8192, "enforce_eager": True, "eplb": False, "a": None}))
    ['--max-model-len', '8192', '--enforce-eager', '--no-eplb']
    >>> list(arguments({"limit": {"image": 2}, "several": ["a", 1]}))
    ['--limit', '{"image": 2}', '--several', 'a', '1']
    """
    for key, value in options.items():
        name = key.replace("_", "-")
        if value is None:
            continue
        if isinstance(value, bool):
            yield f"--{name}" if value else f"--no-{name}"
            continue
        yield f"--{name}"
        for each in value if isinstance(value, list | tuple) else (value,):
            yield json.dumps(each) if isinstance(each, Mapping) else str(each)


def command(
    engine: Engine, program: str, model: str, port: int, options: Mapping[str, Any]
) -> list[str]:
    """The command line that serves a model."""
    filled = {"{model}": model, "{port}": str(port)}
    start, fixed = (
        [filled.get(each, each) for each in part] for part in (engine.start, engine.fixed)
    )
    return [program, *start, *arguments(options), *fixed]


def whole_options(
    engine: Engine, options: Mapping[str, Any], image_options: Mapping[str, Any]
) -> dict[str, Any]:
    """What the engine is given: the user's options before those that hold by default."""
    found = dict(engine.defaults)
    if image_options and engine.image_options:
        option, *around = engine.image_options
        value: Any = dict(image_options)
        for key in reversed(around):
            value = {key: value}
        found[option] = value
    given = {plain(key): value for key, value in options.items()}
    return {**found, **given}


def plain(key: str) -> str:
    """An option's name as Python would have it."""
    return key.replace("-", "_").casefold()
