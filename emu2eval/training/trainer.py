"""A callback for transformers' Trainer: few-shot scores in its log, every N steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emu2eval.engine.wanted import AnyTask
from emu2eval.errors import MissingExtra
from emu2eval.training.hook import EvaluateHook

try:
    from transformers import TrainerCallback
except ImportError:
    raise MissingExtra("transformers", "hf", why="EvaluateCallback") from None


class EvaluateCallback(TrainerCallback):
    """`Trainer(..., callbacks=[EvaluateCallback(["vqav2"], every=500, shots=[0, 4], limit=500)])`.

    hook: everything that `EvaluateHook` takes; without a name, the series is named after the Trainer's
    run or its output folder; the default processor is the Trainer's `processing_class`. at_start,
    at_end: evaluate before the first step, and after the last one. Scores are added to
    `state.log_history`, and so to every checkpoint, from which a resumed training continues its series;
    `attach(trainer)` adds the callback in a way that also passes them to the Trainer's loggers, such as
    TensorBoard.
    """

    def __init__(
        self,
        tasks: AnyTask | list[AnyTask],
        *,
        every: int,
        at_start: bool = False,
        at_end: bool = True,
        **hook: Any,
    ):
        self.hook = EvaluateHook(tasks, every=every, **hook)
        self.at_start = at_start
        self.at_end = at_end
        self._trainer: Any = None

    def attach(self, trainer: Any) -> EvaluateCallback:
        """Adds the callback to a Trainer and passes its scores to the Trainer's log."""
        self._trainer = trainer
        trainer.add_callback(self)
        return self

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if not state.is_world_process_zero:
            return
        hook, processor = self.hook, more.get("processing_class")
        if hook.processor is None and hasattr(processor, "image_processor"):
            hook.processor = processor
        if hook.name is None:
            hook.name = Path(args.run_name or args.output_dir or "training").name
        hook.check(more["model"])
        if self.at_start and state.global_step == 0:
            self._evaluate(state, more["model"])

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if state.global_step % self.hook.every == 0:
            self._evaluate(state, more["model"])

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if self.at_end and state.global_step not in self.hook.history:
            self._evaluate(state, more["model"])

    def _evaluate(self, state: Any, model: Any) -> None:
        if not state.is_world_process_zero:
            return
        scores = self.hook.evaluate(state.global_step, model)
        if self._trainer is not None:
            self._trainer.log(dict(scores))
        elif scores:
            about = {"epoch": state.epoch, "step": state.global_step}
            state.log_history.append({**scores, **about})
