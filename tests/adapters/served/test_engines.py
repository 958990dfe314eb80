"""What an engine is told, what of that is remembered, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PILImage

from emu2eval.adapters.base import Adapter
from emu2eval.adapters.memory import GIB
from emu2eval.adapters.served import installed
from emu2eval.adapters.served.adapter import ServedAdapter
from emu2eval.adapters.served.engines import ENGINES, command, whole_options
from emu2eval.adapters.served.spread import fewest, shared_by
from emu2eval.engine.models import OpenModel, open_model
from emu2eval.engine.plan import model_identity
from emu2eval.errors import ConfigError, DoesNotFit, MissingExtra, ModelError, UserError
from emu2eval.media import images
from emu2eval.spec.changes import Changes
from emu2eval.spec.model import load_model
from emu2eval.trust import trusting
from emu2eval.types import Prompt, Request, TextOutput

from .conftest import Served, StandIns


def opened(model: str, engine: str, **settings: Any) -> OpenModel:
    changes = Changes.of({"model": {"settings": settings}} if settings else None)
    return open_model(model, changes, engine=engine)


def test_command_lines() -> None:
    """As the engines' own manuals have them."""
    lines = {
        name: " ".join(command(engine, engine.program, "M", 7, whole_options(engine, {}, {})))
        for name, engine in ENGINES.items()
    }
    assert lines == {
        "vllm": "vllm serve M --disable-uvicorn-access-log --generation-config vllm "
        "--served-model-name emu2eval --host 127.0.0.1 --port 7",
        "sglang": "sglang serve --model-path M --sampling-defaults openai --log-level-http warning "
        "--served-model-name emu2eval --host 127.0.0.1 --port 7",
        "llama.cpp": "llama-server --model M --alias emu2eval --host 127.0.0.1 --port 7",
        "transformers": "transformers serve M --host 127.0.0.1 --port 7",
    }


def test_a_users_options_come_before_what_holds_by_default() -> None:
    given = {"generation-config": None, "mm_processor_kwargs": {"num_crops": 4}}
    size = {"size": {"longest_edge": 512}}
    assert whole_options(ENGINES["vllm"], given, size) == {
        "generation_config": None,
        "mm_processor_kwargs": {"num_crops": 4},
    }
    assert whole_options(ENGINES["vllm"], {}, size)["mm_processor_kwargs"] == size
    assert whole_options(ENGINES["sglang"], {}, size)["mm_process_config"] == {"image": size}


@pytest.mark.parametrize(
    ("engine", "gpus", "config", "size"),
    [
        ("vllm", 1, {}, None),
        ("vllm", 8, {}, 8),
        ("sglang", 8, {"text_config": {"num_attention_heads": 28, "num_key_value_heads": 4}}, 4),
        # The heads of the part that sees are cut, too.
        ("vllm", 7, {"num_attention_heads": 28, "vision_config": {"num_heads": 16}}, 4),
        ("vllm", 4, {"num_attention_heads": 8, "num_key_value_heads": 1}, 4),
        ("llama.cpp", 8, {}, None),
    ],
)
def test_gpus_share_a_model_where_its_heads_can_be_shared(
    engine: str, gpus: int, config: dict[str, Any], size: int | None
) -> None:
    found = shared_by(ENGINES[engine], gpus, config, {})
    assert found == ({} if size is None else {"tensor_parallel_size": size})


def test_what_the_user_says_of_gpus_holds() -> None:
    assert shared_by(ENGINES["sglang"], 8, {}, {"tp-size": 2}) == {}
    assert shared_by(ENGINES["vllm"], 8, {}, {"data_parallel_size": 8}) == {}


@pytest.mark.parametrize(
    ("engine", "weights", "options", "gpus", "replicas"),
    [
        ("vllm", 15, {}, 1, 8),
        ("vllm", 70, {}, 2, 4),
        ("vllm", 145, {}, 4, 2),  # three would hold it, and 28 heads cannot be shared by three
        ("llama.cpp", 145, {}, 3, 2),
        ("vllm", 15, {"tensor_parallel_size": 4}, 4, 2),
    ],
)
def test_the_fewest_gpus_a_replica(
    engine: str, weights: int, options: dict[str, Any], gpus: int, replicas: int
) -> None:
    heads = {"num_attention_heads": 28, "num_key_value_heads": 4}
    fit = fewest(ENGINES[engine], weights * GIB, [80 * GIB] * 8, heads, options, 128)
    assert (fit.gpus, fit.replicas, len(fit.memory.devices)) == (gpus, replicas, gpus)


def test_a_model_that_is_too_large_is_told() -> None:
    with pytest.raises(DoesNotFit, match="the weights take 145 GiB, more than 75% of 2 GPUs"):
        fewest(ENGINES["vllm"], 145 * GIB, [80 * GIB] * 2, {}, {}, 128)
    with pytest.raises(DoesNotFit, match="ask for 4 GPUs, and there are 2"):
        fewest(ENGINES["vllm"], GIB, [80 * GIB] * 2, {}, {"tp_size": 4}, 128)


def test_replicas_of_a_checkpoint(served: Served) -> None:
    fit = served().fit_replicas([80 * GIB] * 2)
    assert fit is not None and (fit.gpus, fit.replicas) == (1, 2)
    assert fit.memory.devices[0].weights == len(b"weights")
    assert served().fit_replicas([]) is None


def test_an_engine_sees_the_gpus_of_this_process(
    engines: StandIns, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    monkeypatch.setenv("VLLM_API_KEY", "it would be asked for")
    monkeypatch.setenv("LLAMA_ARG_TEMPERATURE", "2")
    adapter = served()
    adapter.load()
    adapter.close()
    (started,) = engines.started
    assert "--tensor-parallel-size 2" in " ".join(started["argv"])
    given = started["environment"]
    assert given["CUDA_VISIBLE_DEVICES"] == "2,3" and given["HF_HUB_OFFLINE"] == "1"
    assert not {"VLLM_API_KEY", "LLAMA_ARG_TEMPERATURE"} & given.keys()


@pytest.mark.parametrize(
    ("listed", "count"), [("", 0), ("-1", 0), ("0", 1), ("GPU-8a,MIG-1/2/3", 2), ("NoDevFiles", 0)]
)
def test_visible_gpus(listed: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    assert installed.gpus() == count


def test_cards_are_named_by_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\necho 'NVIDIA H100'\ncase $* in *--id*) ;; *) echo 'NVIDIA H200';; esac"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert (installed.cards(), installed.gpus()) == ({"NVIDIA H100": 1, "NVIDIA H200": 1}, 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert (installed.cards(), installed.gpus()) == ({"NVIDIA H100": 1}, 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert (installed.cards(), installed.gpus()) == ({}, 0)


def test_an_engine_is_another_model(engines: StandIns, served: Served, checkpoint: Path) -> None:
    """Its name, release and options, and the weights, wherever they are; not how fast it is asked."""
    known: dict[str, object] = {}

    def identity(**settings: Any) -> object:
        found = opened(str(checkpoint), settings.pop("engine", "vllm"), **settings)
        return model_identity(found.spec, found.adapter)

    known["vllm"] = identity()
    known["sglang"] = identity(engine="sglang")
    known["options"] = identity(options={"max_model_len": 4096})
    (checkpoint / "model.safetensors").write_bytes(b"others")
    known["weights"] = identity()
    assert len({repr(each) for each in known.values()}) == 4
    assert identity(concurrency=1, load_timeout=None) == known["weights"]
    assert served().identity()["engine"] == "0.30.0"
    assert opened(str(checkpoint), "vllm").spec.name == "tiny-vl-vllm"


def test_an_engine_that_is_not_there_is_named_with_its_command(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    (lack,) = served("sglang").lacks()
    assert isinstance(lack, MissingExtra)
    assert "--engine sglang needs the package 'sglang', which is not installed" in str(lack)
    assert "uv pip install sglang" in str(lack)


def test_a_model_file_is_turned_into_one_for_an_engine() -> None:
    found = opened("qwen2.5-vl", "vllm", options={"max_model_len": 32768}, temperature=0.5).spec
    assert (found.name, found.adapter) == ("qwen2.5-vl-vllm", "served")
    assert found.settings == {
        "checkpoint": "Qwen/Qwen2.5-VL-7B-Instruct",
        "engine": "vllm",
        "image_options": {"size": {"shortest_edge": 200704, "longest_edge": 1003520}},
        "options": {"max_model_len": 32768},
        "temperature": 0.5,
    }
    thinks = opened("qwen3.5", "sglang").spec.settings
    assert thinks["extra"] == {"chat_template_kwargs": {"enable_thinking": False}}
    assert opened("llava-1.5", "vllm").adapter.limits.images == 1
    # As a replica elsewhere builds it, or an experiment.
    again = open_model(load_model("qwen2.5-vl"), Changes(), engine="vllm").spec
    assert again.settings.keys() == found.settings.keys() - {"options", "temperature"}


def test_ranking_is_what_the_engine_can_do() -> None:
    ranking = {
        name: opened("qwen2.5-vl", name).adapter.limits.outputs for name in ("vllm", "transformers")
    }
    assert ranking == {"vllm": {"text", "choice"}, "transformers": {"text"}}
    assert opened("qwen2.5-vl", "vllm", ranking="none").adapter.limits.outputs == {"text"}


def test_a_baseline_runs_as_it_is() -> None:
    assert opened("nearest", "vllm").spec.adapter == "nearest"


class Mine(Adapter):
    def answer(self, requests: Any) -> list[Any]:
        return []


@pytest.mark.parametrize(
    ("model", "engine", "says"),
    [
        ("emu2", "vllm", "--engine vllm does not apply to emu2, which runs in this process only"),
        ("openai-compatible", "sglang", "is a server already"),
        ("idefics2-base", "vllm", "this is a base model"),
        (Mine(), "vllm", "this model is an object in memory"),
        ("qwen2.5-vl", "vlm", "unknown engine 'vlm'; did you mean 'vllm'"),
    ],
)
def test_models_that_no_engine_serves(model: Any, engine: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        open_model(model, Changes(), engine=engine)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"host": "0.0.0.0"}, "what is served where"),
        ({"Served-Model-Name": "x"}, "what is served where"),
        ({"--port": 1}, "not the name of an option"),
        ({"chat_template": "--host=0.0.0.0"}, "begins with a dash"),
        ({"lora_modules": ["a", "-b"]}, "begins with a dash"),
        ({"api-key": "x" * 20}, "would be stored"),
        ({"trust_remote_code": True}, "would let the engine run code"),
        ({"tools": "all"}, "would let the engine run code"),
    ],
)
def test_options_that_are_refused(served: Served, options: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        served(options=options)


def test_code_of_a_checkpoint_runs_if_the_user_says_so(served: Served) -> None:
    with trusting():
        adapter = served(options={"trust_remote_code": True})
    assert adapter.lacks() == [] or all("vllm" in str(each) for each in adapter.lacks())


def test_image_options_that_an_engine_cannot_take_are_told() -> None:
    request = Request("k", Prompt(query=("?",)), TextOutput())
    assert opened("qwen2.5-vl", "vllm").adapter.warning(request) is None
    told = opened("qwen2.5-vl", "transformers").adapter.warning(request)
    assert told is not None and "transformers takes no image_options" in told


def test_gguf(engines: StandIns, tmp_path: Path) -> None:
    folder = tmp_path / "gguf"
    folder.mkdir()
    model, second = folder / "m-00001-of-00002.gguf", folder / "m-00002-of-00002.gguf"
    model.write_bytes(b"first")
    second.write_bytes(b"second")
    found = opened(str(folder), "llama.cpp")
    assert found.spec.name == "gguf" and found.adapter.lacks() == []
    shown = Request(
        "k", Prompt(query=(images.from_pil(PILImage.new("RGB", (4, 4))), "?")), TextOutput()
    )
    assert "without a projector" in str(found.adapter.refusal(shown))
    before = found.adapter.identity()["weights"]
    (folder / "mmproj-m.gguf").write_bytes(b"eyes")
    found = opened(str(model), "llama.cpp")
    assert found.adapter.refusal(shown) is None
    assert found.adapter.identity()["weights"] != before
    found.adapter.load()
    found.adapter.close()
    argv = engines.started[0]["argv"]
    assert argv[argv.index("--mmproj") + 1] == str(folder / "mmproj-m.gguf")
    assert argv[:2] == ["--model", str(model)]
    (folder / "another.gguf").write_bytes(b"")
    (lack,) = opened(str(folder), "llama.cpp").adapter.lacks()
    assert "there are: another.gguf, m-00001-of-00002.gguf" in str(lack)


def test_what_is_no_checkpoint_is_told_before_anything_starts(
    engines: StandIns, served: Served, checkpoint: Path
) -> None:
    (checkpoint / "model.safetensors").unlink()
    (lack,) = served().lacks()
    assert isinstance(lack, ModelError) and "no weights" in str(lack)
    (lack,) = served(checkpoint="./nowhere").lacks()
    assert "no checkpoint found" in str(lack)


def test_the_version_of_a_package_is_read_without_importing_it(engines: StandIns) -> None:
    """The interpreter that its script names knows; a stand-in's does not, so that it is asked itself."""
    program = installed.program_of(ENGINES["transformers"])
    assert installed.version_of(ENGINES["transformers"], program)[0].isdecimal()
    assert installed.version_of(ENGINES["vllm"], installed.program_of(ENGINES["vllm"])) == "0.30.0"


def test_the_adapter_is_built_from_plain_settings(engines: StandIns, checkpoint: Path) -> None:
    """As a replica does, wherever it is."""
    spec = opened(str(checkpoint), "vllm").spec
    adapter = open_model(spec, Changes()).adapter
    assert isinstance(adapter, ServedAdapter) and adapter.lacks() == []
