"""Evaluation while a model is trained: a series of runs, and training that is none the wiser."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from emu2eval import load_runs, testing
from emu2eval.adapters.local.tensor_digest import weights_digest
from emu2eval.errors import UserError
from emu2eval.runs.record import read_record
from emu2eval.training import EvaluateCallback, EvaluateHook

NewModel = Callable[..., Any]
Examples = list[dict[str, torch.Tensor]]

pytestmark = pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning")


def small_task(folder: Path, queries: int = 2) -> Path:
    output = {"kind": "text", "max_new_tokens": 2}
    return testing.small_task(folder, queries=queries, pool=4, output=output)


def looped(model: Any, examples: Examples, hook: Any = None, steps: int = 4) -> Any:
    """A plain loop."""
    torch.manual_seed(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for step in range(1, steps + 1):
        batch = torch.randint(len(examples), (2,)).tolist()
        rows = [examples[i] for i in batch]
        loss = model(**{name: torch.stack([row[name] for row in rows]) for name in rows[0]}).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if hook is not None:
            hook(step, model)
    return model


def test_a_hook_in_a_plain_loop(
    new_model: NewModel, examples: Examples, processor: Any, tmp_path: Path, program: Any
) -> None:
    hook = EvaluateHook(
        small_task(tmp_path, queries=2), every=2, shots=[0, 2], out=tmp_path / "runs", name="mine",
        processor=processor,
    )  # fmt: skip
    model = new_model()
    before = {name: weight.data_ptr() for name, weight in model.named_parameters()}
    looped(model, examples, hook)
    # Training with it is bit for bit training without it, of the very same tensors.
    assert weights_digest(model) == weights_digest(looped(new_model(), examples))
    assert {name: weight.data_ptr() for name, weight in model.named_parameters()} == before
    assert [*hook.history] == [2, 4]
    assert set(hook.history[2]) == {"eval_small_0shot", "eval_small_2shot"}

    runs = sorted((tmp_path / "runs").iterdir())
    assert [run.name.rpartition("_")[0] for run in runs] == [
        f"small_{shots}-shot_mine-step-00000{step}" for shots in (0, 2) for step in (2, 4)
    ]
    record = read_record(runs[0])
    assert record.model.training is not None
    assert (record.model.training.series, record.model.training.step) == ("mine", 2)

    frame = load_runs(tmp_path / "runs", rows=True)
    assert {*zip(frame.series, frame.step, strict=True)} == {("mine", 2), ("mine", 4)}
    code, said, _ = program(
        "compare", "--series", str(tmp_path / "runs"), "--format", "json", "--file", "steps.svg"
    )
    steps = json.loads(said)
    assert code == 0
    assert [(s["shots"], s["step"]) for s in steps] == [(k, n) for k in "02" for n in (2, 4)]
    assert [s["value"] for s in steps[:2]] == [
        hook.history[step]["eval_small_0shot"] for step in (2, 4)
    ]
    assert "training step" in Path("steps.svg").read_text()
    assert program("curves", "--out", str(tmp_path / "runs"), "--file", "curves.svg")[0] == 0
    drawn = Path("curves.svg").read_text()
    # Over the steps, and over shots at the latest.
    assert "training step" in drawn and "mine-step-000004" in drawn
    assert "mine-step-000002" not in drawn


def test_a_series_goes_on_with_its_latest_runs(
    new_model: NewModel, processor: Any, tmp_path: Path, program: Any
) -> None:
    task, model = small_task(tmp_path, queries=2), new_model()

    def hook() -> EvaluateHook:
        return EvaluateHook(task, every=5, out=tmp_path / "runs", name="mine", processor=processor)

    first = hook()
    first(5, model), first(10, model)
    with torch.no_grad():
        model.lm_head.weight.mul_(0.5)
    again = hook()  # of a training that went on from step 5, otherwise than before
    again(10, model), again(15, model)
    _, said, _ = program("compare", "--series", str(tmp_path / "runs"), "--format", "json")
    steps = json.loads(said)
    assert [step["step"] for step in steps] == [5, 10, 15]
    digest = weights_digest(model)
    latest = [read_record(tmp_path / "runs" / step["run"]).identity.model for step in steps]
    assert [each.files["weights"] == digest for each in latest if each] == [False, True, True]


def trained(
    model: Any, examples: Examples, folder: Path, callbacks: Any = (), **options: Any
) -> Any:
    from transformers import Trainer, TrainingArguments

    kinds: Any = (Trainer, TrainingArguments)
    resume = options.pop("resume", None)
    arguments = kinds[1](
        output_dir=str(folder), max_steps=4, per_device_train_batch_size=2, learning_rate=3e-3,
        logging_steps=2, save_steps=2, use_cpu=True, report_to=[], disable_tqdm=True, **options,
    )  # fmt: skip
    trainer = kinds[0](
        model, arguments, train_dataset=examples, callbacks=list(callbacks),

    )  # fmt: skip
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def test_a_callback_of_the_trainer(
    new_model: NewModel, examples: Examples, processor: Any, tmp_path: Path
) -> None:
    def callback() -> EvaluateCallback:
        return EvaluateCallback(
            [small_task(tmp_path, queries=2)], every=2, shots=2, at_start=True,
            out=tmp_path / "runs", processor=processor, strict=True,
        )  # fmt: skip

    plain = trained(new_model(), examples, tmp_path / "plain")
    mine = trained(new_model(), examples, tmp_path / "mine", [callback()])
    assert weights_digest(mine.model) == weights_digest(plain.model)

    def logged(trainer: Any) -> list[tuple[int, float]]:
        name = "eval_small_2shot"
        return [(e["step"], e[name]) for e in trainer.state.log_history if name in e]

    assert [step for step, _ in logged(mine)] == [0, 2, 4]
    names = {path.name.rpartition("_")[0] for path in (tmp_path / "runs").iterdir()}
    assert names == {f"small_2-shot_mine-step-00000{step}" for step in (0, 2, 4)}

    # Training that is resumed goes on with its log and its series.
    made = set((tmp_path / "runs").iterdir())
    kept = tmp_path / "mine" / "checkpoint-2"
    resumed = trained(new_model(kept), examples, tmp_path / "mine", [callback()], resume=str(kept))
    assert logged(resumed) == logged(mine)
    assert set((tmp_path / "runs").iterdir()) == made


def test_scores_are_reported_where_the_callback_knows_the_trainer(tmp_path: Path) -> None:
    class Trainer:
        def __init__(self) -> None:
            self.callbacks: list[Any] = []
            self.logged: list[dict[str, float]] = []

        def add_callback(self, callback: Any) -> None:
            self.callbacks.append(callback)

        def log(self, scores: dict[str, float]) -> None:
            self.logged.append(scores)

    class State:
        is_world_process_zero, global_step, epoch = True, 2, 1.0
        log_history: tuple[Any, ...] = ()

    trainer: Any = Trainer()
    task = small_task(tmp_path, queries=2)
    callback = EvaluateCallback(task, every=2, out=tmp_path, name="mine").attach(trainer)
    callback.on_step_end(None, State(), None, model=lambda prompt: "red")
    assert trainer.callbacks == [callback]
    assert trainer.logged == [{"eval_small_0shot": 50.0}]


def test_what_is_wrong_is_said_before_the_first_step(new_model: NewModel, tmp_path: Path) -> None:
    for wrong, says in (
        ({"tasks": "small", "every": 0}, "every must be a number of steps"),
        ({"tasks": "no-such-task", "every": 2}, "unknown task"),
        ({"tasks": small_task(tmp_path), "every": 2, "shots": "x"}, "shots"),
        ({"tasks": small_task(tmp_path), "every": 2, "settings": {"layuot": "x"}}, "layuot"),
    ):
        with pytest.raises(UserError, match=says):
            EvaluateHook(**wrong)(1, new_model())  # type: ignore[arg-type]


def test_a_fault_in_an_evaluation_does_not_end_training(tmp_path: Path) -> None:
    task = small_task(tmp_path, queries=2)

    def fails(prompt: Any) -> str:
        raise KeyError("anything")

    hook = EvaluateHook(task, every=1, out=tmp_path, name="mine")
    assert hook(1, lambda prompt: "red") == {"eval_small_0shot": 50.0}
    (tmp_path / "small.yaml").unlink()
    with pytest.warns(UserWarning, match="step 2 was not evaluated: this task file"):
        assert hook(2, lambda prompt: "red") == {}
    assert EvaluateHook(small_task(tmp_path, queries=2), every=1, out=tmp_path)(3, fails) == {
        "eval_small_0shot_unscored": 2
    }


def test_other_processes_do_not_evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    hook = EvaluateHook(small_task(tmp_path), every=1, out=tmp_path / "runs")
    assert hook(1, lambda prompt: "red") == {}
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    "options",
    [{"bf16": True}, {"gradient_checkpointing": True}, {"lora": True},
     {"lora": True, "gradient_checkpointing": True}],
    ids=lambda options: "+".join(options),
)  # fmt: skip
def test_training_is_the_same_however_it_is_done(
    new_model: NewModel, examples: Examples, processor: Any, tmp_path: Path, options: Any
) -> None:
    import peft
    from accelerate.state import AcceleratorState

    def done(name: str, callbacks: Any = ()) -> Any:
        AcceleratorState._reset_state(reset_partial_state=True)
        torch.manual_seed(0)
        model, given = new_model(), dict(options)
        if given.pop("lora", False):
            layers = r".*language_model.*\.(q_proj|v_proj)"
            config = peft.LoraConfig(r=2, target_modules=layers, lora_dropout=0.1)
            model = peft.get_peft_model(model, config)
        return trained(model, examples, tmp_path / name, callbacks, save_strategy="no", **given)

    callback = EvaluateCallback(
        small_task(tmp_path), every=2, shots=2, out=tmp_path, processor=processor, strict=True
    )
    mine, plain = done("mine", [callback]), done("plain")
    assert [*callback.hook.history] == [2, 4]
    assert weights_digest(mine.model) == weights_digest(plain.model)
    assert mine.model.training and plain.model.training
