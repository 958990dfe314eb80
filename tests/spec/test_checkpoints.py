"""A checkpoint in place of a model file: which facts it takes, what it is called, what is no checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from emu2eval.engine.models import models_for
from emu2eval.errors import ConfigError, ModelError, UnknownName, UserError
from emu2eval.spec import catalog
from emu2eval.spec.model import load_model
from emu2eval.spec.yamlfile import read_yaml


def checkpoint(folder: Path, name: str = "config.json", **config: Any) -> str:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(config))
    return str(folder)


def facts(name: str) -> Mapping[str, Any]:
    settings: Mapping[str, Any] = read_yaml(catalog.names("model")[name]).data["settings"]
    return settings


def test_a_folder_takes_its_familys_settings_and_its_own_name(tmp_path: Path) -> None:
    given = checkpoint(tmp_path / "runs" / "qwen-step-500", model_type="qwen2_5_vl")
    found = load_model(given)
    assert (found.name, found.adapter) == ("qwen-step-500", "huggingface")
    # The layout is left to the checkpoint: a base model of the family has no template.
    own = {"checkpoint": given, "image_options": facts("qwen2.5-vl")["image_options"]}
    assert found.settings == own
    assert load_model(given, overrides={"settings.batch": 2}).settings == {**own, "batch": 2}


def test_a_context_is_the_checkpoints_own(tmp_path: Path) -> None:
    assert facts("pixtral")["max_positions"]
    assert load_model(checkpoint(tmp_path / "p", model_type="llava")).settings.keys() == {
        "checkpoint"
    }


def test_a_familys_plain_layout_stays(tmp_path: Path) -> None:
    assert load_model(checkpoint(tmp_path / "k", model_type="kosmos-2")).settings["layout"] == (
        "plain"
    )


@pytest.mark.parametrize(
    ("file", "config"),
    [
        ("config.json", {"architectures": ["EmuForCausalLM"], "model_version": "chat"}),
        ("multimodal_encoder/config.json", {"architectures": ["EmuForCausalLM"]}),
        ("config.json", {"model": "emu2", "variant": "base"}),
    ],
)
def test_emu2_in_each_of_its_layouts(tmp_path: Path, file: str, config: dict[str, Any]) -> None:
    given = checkpoint(tmp_path / "mine", file, **config)
    found = load_model(given)
    assert (found.name, found.adapter, found.settings) == ("mine", "emu2", {"checkpoint": given})


def test_an_unknown_family_is_asked_with_the_defaults(tmp_path: Path) -> None:
    given = checkpoint(tmp_path / "new", model_type="of_next_year")
    found = load_model(given)
    assert (found.adapter, found.settings) == ("huggingface", {"checkpoint": given})


def test_a_repository_that_a_file_names_takes_all_of_it() -> None:
    found = load_model("Qwen/Qwen2.5-VL-7B-Instruct")
    assert found.name == "Qwen2.5-VL-7B-Instruct"
    assert found.settings == facts("qwen2.5-vl")


def test_a_repository_is_known_by_its_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    checkpoint(tmp_path, model_type="gemma3")
    monkeypatch.setattr(
        huggingface_hub, "hf_hub_download", lambda _, file, local_files_only: str(tmp_path / file)
    )
    found = load_model("somebody/gemma-3-tuned")
    assert (found.name, found.settings) == (
        "gemma-3-tuned",
        {"checkpoint": "somebody/gemma-3-tuned"},
    )


def test_a_repository_that_is_not_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def absent(_: str, file: str, local_files_only: bool) -> str:
        raise OSError(file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", absent)
    with pytest.raises(
        ModelError, match="somebody/model is neither a shipped model nor a folder"
    ) as caught:
        load_model("somebody/model")
    assert "--model ./model" in str(caught.value.hint)


@pytest.mark.parametrize("text", ["[]", "{", "[" * 100_000])
def test_a_configuration_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match="not a JSON object"):
        load_model(str(tmp_path))


def test_an_adapter_is_its_base_model_with_it(tmp_path: Path) -> None:
    base = checkpoint(tmp_path / "base", model_type="qwen2_5_vl")
    given = checkpoint(tmp_path / "tuned", "adapter_config.json", base_model_name_or_path=base)
    found = load_model(given)
    assert found.name == "tuned"
    assert found.settings == {**load_model(base).settings, "adapter": given}
    checkpoint(tmp_path / "tuned", "adapter_config.json", base_model_name_or_path="/not/here")
    with pytest.raises(
        ConfigError, match="base model of this adapter, /not/here, was not found"
    ) as caught:
        load_model(given)
    assert f"model.settings.adapter={given}" in str(caught.value.hint)


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"neither a model.yaml nor a checkpoint's config.json"):
        load_model(str(tmp_path))


def test_a_name_is_never_a_folder_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shipped name means the same wherever it is typed."""
    checkpoint(tmp_path / "copy", model_type="qwen2_5_vl")
    monkeypatch.chdir(tmp_path)
    assert load_model("copy").adapter == "copy"
    with pytest.raises(UnknownName):
        load_model("nothing")


def test_each_family_has_one_file() -> None:
    named = [read_yaml(path).data.get("family") for path in catalog.names("model").values()]
    families = [family for family in named if family is not None]
    assert len(families) == len(set(families)) > 8


def test_the_bundled_model_answers_bundled_tasks_alone(tmp_path: Path) -> None:
    assert models_for(["easy-vqa", "easy-vqa-draw"], None) == ("emu2-nano",)
    assert models_for(["vqav2"], ["emu2"]) == ["emu2"]
    mine = tmp_path / "mine.yaml"
    mine.write_bytes(catalog.names("task")["easy-vqa"].read_bytes())
    for tasks in (["vqav2"], ["easy-vqa", "vqav2"], [str(mine)]):
        with pytest.raises(UserError, match="no model given") as caught:
            models_for(tasks, None)
        assert caught.value.what == f"no model given for {tasks[-1]}"
