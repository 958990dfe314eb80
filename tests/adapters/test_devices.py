"""Where a model runs and how many requests it takes at a time, refused where that cannot be."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from emu2eval import evaluate
from emu2eval.adapters.base import Adapter, BatchRange
from emu2eval.adapters.local.devices import check_devices, torch_dtype
from emu2eval.adapters.machine import Machine
from emu2eval.adapters.memory import RESERVE, Workload
from emu2eval.cli import app
from emu2eval.engine.models import open_model
from emu2eval.errors import ConfigError
from emu2eval.spec.changes import Changes
from emu2eval.testing import ScriptedModel, small_task

NANO = "emu2-nano"
GB = 1 << 30


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda i: (2 * GB, 2 * GB))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: "a card")


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


def test_a_device_that_is_not_there_is_refused_with_those_that_are(no_gpu: None) -> None:
    check_devices("cpu")
    check_devices({"": "cpu", "vision": "disk"})
    for wanted in ("cuda", "cuda:1", "gpu", "disk", {"": 0}):
        with pytest.raises(ConfigError, match="it has cpu") as caught:
            check_devices(wanted)
        assert "--device" in str(caught.value.hint)


def test_the_devices_of_a_machine_with_gpus(four_gpus: None) -> None:
    for name in ("cuda", "cuda:3", "auto", "cpu"):
        check_devices(name)
    with pytest.raises(ConfigError, match="no device 'cuda:4'; it has cpu, cuda:0, cuda:1, cuda:2"):
        check_devices("cuda:4")
    # A precision that is left open is that of the device.
    assert torch_dtype(None) == torch_dtype(None, "cuda:1") == torch.bfloat16
    assert torch_dtype(None, "cpu") == torch_dtype(None, {"": "cpu"}) == torch.float32
    assert torch_dtype("float16", "cpu") == torch.float16


def test_a_machine_is_told_elsewhere(four_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = iter([(80 * GB - RESERVE, 80 * GB), (30 * GB, 80 * GB)] + [(0, 0)] * 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda i: next(sizes))
    here = pickle.loads(pickle.dumps(Machine.here()))
    # What a context takes is set aside anyway; what others use is not there.
    assert here.gpus == (80 * GB, 30 * GB, 0, 0) and here.cards == ("a card",) * 4
    assert here.host > 0 and here.devices[:3] == ["cpu", "cuda:0", "cuda:1"]


@pytest.mark.parametrize("settings", [{}, {"dtype": "float32"}, {"device_map": "cpu"}])
def test_a_planner_without_gpus_names_the_precision_of_where_it_runs(
    settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head node of a cluster has none; its keys are those of the replicas all the same."""
    changes = Changes(model={f"settings.{key}": value for key, value in settings.items()})
    elsewhere = Machine(gpus=(80 * GB,) * 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    here = open_model(NANO, changes).adapter.identity()
    planner = open_model(NANO, changes, machine=elsewhere).adapter
    told = planner.identity()
    with pytest.raises(ConfigError, match="it has cpu, cuda:0, cuda:1"):
        check_devices("cuda:2", elsewhere)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert told == open_model(NANO, changes).adapter.identity()
    assert (told == here) == bool(settings)


def test_it_is_an_option_of_a_run(no_gpu: None, tmp_path: Path) -> None:
    task = small_task(tmp_path)
    (given,) = evaluate(task, NANO, limit=2, device="cpu", out=tmp_path)
    (open_,) = evaluate(task, NANO, limit=2, out=tmp_path)
    assert given.folder == open_.folder and open_.tally.kept == 2
    assert given.rows[0].changes == ()  # where it ran is nothing that a reader must know
    arguments = ["run", "--task", str(task), "--model", NANO, "--device", "cuda:1"]
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, ConfigError)
    assert "fetching" not in done.output
    assert "this machine has no device 'cuda:1'; it has cpu" in str(done.exception)


def test_what_runs_elsewhere_has_no_device() -> None:
    assert open_model("most-common", Changes(), "cpu").adapter.limits
    server = Changes(model={"settings.model": "x"})
    with pytest.raises(ConfigError, match="does not apply to x, which has no such setting"):
        open_model("openai-compatible", server, "cuda:1")
    with pytest.raises(ConfigError, match="scripted is already in memory"):
        open_model(ScriptedModel("red"), Changes(), "cpu")


def test_a_class_with_a_setting_of_its_own() -> None:
    class Own(ScriptedModel):
        device_setting = "place"

        def __init__(self, place: str = "here") -> None:
            super().__init__("red")
            self.place = place

    found: Any = open_model(Own, Changes(), "there")
    assert (found.adapter.place, found.spec.settings) == ("there", found.spec.settings)
    assert "place" not in found.spec.settings


def test_batches_on_a_cpu_are_the_models_own(no_gpu: None) -> None:
    nano = open_model(NANO, Changes()).adapter
    assert nano.fit_batch() == BatchRange(32)
    assert ScriptedModel("red", batch=3).fit_batch() == BatchRange(3)
    assert Adapter.fit_batch is ScriptedModel.fit_batch


def test_batches_on_a_gpu_are_planned_by_what_its_memory_holds(four_gpus: None) -> None:
    """Emu2 knows what a request takes; what fits is the largest power of two, and what is loaded is
    placed for it."""

    def planned(memory: int) -> Any:
        adapter: Any = open_model(
            NANO, Changes(model={"settings.memory": f"{memory}MiB", "settings.dtype": "float32"})
        ).adapter
        return adapter, adapter.fit_batch().first

    sizes = [planned(memory)[1] for memory in (840, 880, 1000, 4000)]
    assert sizes == sorted(sizes) and sizes[0] < sizes[1] < sizes[2] <= sizes[3] == 256
    adapter, size = planned(880)
    assert size & (size - 1) == 0
    assert adapter._placed(size) is not None
    with pytest.raises(Exception, match="does not fit"):
        adapter._placed(2 * size)


def test_what_is_planned_is_the_batch_where_nobody_says_one(four_gpus: None) -> None:
    """On a GPU, of the prompts that are expected; elsewhere, and where settings say one, as before."""

    def opened(batch: int | None, **given: Any) -> Any:
        settings = {"batch": batch, "memory": "1000MiB", "dtype": "float32", **given}
        changes = Changes(model={f"settings.{key}": value for key, value in settings.items()})
        return open_model(NANO, changes).adapter

    assert opened(3).usual_batch() == BatchRange(3)
    adapter = opened(None)
    whole = adapter.usual_batch()
    assert whole == adapter.fit_batch() and whole.first > adapter.few == adapter.limits.batch
    adapter.workload = Workload(positions=40, new_tokens=4)
    assert adapter.usual_batch().first > whole.first
    assert opened(None, memory="cpu:1GiB").usual_batch() == BatchRange(4)
    assert opened(None, memory=None, device_map="cpu").usual_batch() == BatchRange(4)
