"""Runs on the hub: what is laid out, said and kept back; the hub itself is a stand-in."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from emu2eval import evaluate
from emu2eval.errors import ConfigError, MissingExtra, StoreError, UserError
from emu2eval.exports.push import pack, upload
from emu2eval.runs.record import read_record


@pytest.fixture
def run(make_task: Any, make_model: Any, tmp_path: Path) -> Path:
    task = str(make_task(queries=3))
    (result,) = evaluate(task, str(make_model("robot", default="red")), out=tmp_path / "runs")
    return result.folder


class Hub:
    """`HfApi`, of which four calls are used. known: whether the dataset is there, and private."""

    def __init__(self, known: bool | None = None, fails: Exception | None = None):
        self.known, self.fails = known, fails
        self.said: list[Any] = []
        self.files: dict[str, str] = {}

    def __call__(self, token: str | None) -> Hub:
        return self

    def repo_info(self, repo: str, repo_type: str) -> Any:
        from huggingface_hub.errors import RepositoryNotFoundError

        if self.known is None:
            raise RepositoryNotFoundError("404", response=SimpleNamespace(headers={}, request=None))
        return SimpleNamespace(private=self.known)

    def create_repo(self, repo: str, repo_type: str, private: bool) -> None:
        self.said.append((repo, repo_type, private))

    def upload_folder(self, *, folder_path: Path, repo_id: str, **about: Any) -> None:
        if self.fails is not None:
            raise self.fails
        for path in folder_path.rglob("*"):
            if path.is_file() and path.suffix != ".png":
                self.files[path.relative_to(folder_path).as_posix()] = path.read_text()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Any:
    def use(found: Hub) -> Hub:
        monkeypatch.setattr("huggingface_hub.HfApi", found)
        return found

    return use


def test_a_private_dataset_with_a_card(run: Path, tmp_path: Path, hub: Any, program: Any) -> None:
    there = hub(Hub())
    code, _, said = program("push", str(run), "me/runs", "--yes")
    assert (code, there.said) == (0, [("me/runs", "dataset", True)])
    folder = f"runs/{run.name}"
    assert set(there.files) == {
        *("README.md", "results.json", "rows.jsonl"),
        *(f"{folder}/{name}" for name in ("run.json", "report.json", "scores.jsonl")),
        f"{folder}/responses.jsonl",
    }
    # No question of the benchmark is among them.
    assert not [name for name, text in there.files.items() if "what colour is square" in text]
    _, front, body = there.files["README.md"].split("---\n", 2)
    assert yaml.safe_load(front)["configs"] == [{"config_name": "rows", "data_files": "rows.jsonl"}]
    assert "| robot |" in body and "no questions, references or images" in body
    row = json.loads(there.files["rows.jsonl"].splitlines()[0])
    assert (row["model"], row["unit"], row["n"]) == ("robot", "percent", 3)
    assert "me/runs (private): 1 runs, 7 files" in said and "no benchmark texts" in said
    assert f"a record contains a path on this machine: {read_record(run).task.file}" in said


def test_texts_and_images_only_where_they_are_asked_for(run: Path, tmp_path: Path) -> None:
    (run / "images").mkdir(exist_ok=True)
    (run / "images" / "a.png").write_bytes(b"png")
    plain = pack([run], tmp_path / "plain", "me/runs", "")
    whole = pack([run], tmp_path / "whole", "me/runs", "", drawn=True, texts=True)
    assert (plain.drawn, whole.drawn) == (0, 1)
    more = {name for name, _ in whole.files()} - {name for name, _ in plain.files()}
    kinds = {name.rpartition("/")[2].partition("_")[0] for name in more}
    assert kinds == {"a.png", "results", "samples"}
    assert whole.size > plain.size


def test_nothing_goes_without_a_yes(run: Path, hub: Any, program: Any) -> None:
    there = hub(Hub())
    code, _, said = program("push", str(run), "me/runs")
    assert (code, there.files) == (2, {}) and "uploading needs confirmation" in said
    code, _, said = program("push", str(run), "me/runs", "--dry-run")
    assert (code, there.files) == (0, {}) and "results.json" in said


def test_a_public_dataset_is_no_surprise(run: Path, tmp_path: Path, hub: Any) -> None:
    parcel = pack([run], tmp_path / "parcel", "me/runs", "")
    hub(Hub(known=False))
    with pytest.raises(ConfigError, match="already exists and is public"):
        upload(parcel, "me/runs")
    there = hub(Hub(known=False))
    assert upload(parcel, "me/runs", public=True) == "https://huggingface.co/datasets/me/runs"
    assert there.files and not there.said
    assert hub(Hub(known=True)) and upload(parcel, "me/runs")


def test_what_stands_in_the_way_is_a_paragraph(
    run: Path, tmp_path: Path, hub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="not a dataset name"):
        pack([run], tmp_path / "a", "runs", "")
    parcel = pack([run], tmp_path / "parcel", "me/runs", "")
    monkeypatch.setenv("HF_TOKEN", "a-token-of-somebody")
    hub(Hub(fails=OSError("no route, a-token-of-somebody")))
    with pytest.raises(UserError, match=r"upload to the hub failed: OSError: no route, \[key\]"):
        upload(parcel, "me/runs")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setattr("emu2eval.errors.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="push needs the package 'huggingface_hub'"):
        upload(parcel, "me/runs")


def test_a_key_in_a_file_is_not_uploaded(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVER_KEY", read_record(run).fingerprint)
    with pytest.raises(StoreError, match="what looks like an API key") as raised:
        pack([run], tmp_path / "parcel", "me/runs", "")
    assert str(raised.value.where) == "results.json"
