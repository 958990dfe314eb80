"""One training stage: resumable after every save, seeded by its step number, and logged."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SAVE_SECONDS = 60
CLIP = 1.0


@dataclass(frozen=True)
class Stage:
    """rate: AdamW's peak learning rate, reached after `warmup` steps; it ends at `last_rate` (cosine)."""

    name: str
    steps: int
    rate: float
    last_rate: float
    warmup: int = 100
    decay: float = 0.01
    look: int = 100

    def rate_at(self, step: int) -> float:
        rising = min(1.0, (step + 1) / max(1, self.warmup))
        done = step / max(1, self.steps)
        return rising * (
            self.last_rate + (self.rate - self.last_rate) * (1 + math.cos(math.pi * done)) / 2
        )


@dataclass(frozen=True)
class Workspace:
    """A folder for training state and the log. Nothing of it is needed once the model is written."""

    folder: Path
    seed: int = 0

    def log(self, **entry: object) -> None:
        """One line of `log.jsonl`, and the same on the screen."""
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        shown = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in entry.items())
        print("  ".join(shown), flush=True)

    def state(self, stage: str) -> Path:
        return self.folder / f"{stage}.pt"

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` gives, a dataclass of tensors, kept in a file for the next start."""
        path = self.state(name)
        if path.exists():
            kind, values = torch.load(path, weights_only=False)
            return kind(**values)
        made = make()
        torch.save((type(made), vars(made)), path)
        return made


Loss = Callable[[int, torch.Generator], tuple[Tensor, Mapping[str, float]]]
"""(step, generator) -> the loss to go down, and figures to log."""


def run(
    stage: Stage,
    module: nn.Module,
    loss: Loss,
    workspace: Workspace,
    check: Callable[[int], Mapping[str, float]],
) -> None:
    """Trains `module` in place, or takes what an earlier run of this stage left and goes on from there.

    check: figures on the validation part, logged every `look` steps and at the end.
    """
    path = workspace.state(stage.name)
    optimiser = torch.optim.AdamW(
        [p for p in module.parameters() if p.requires_grad],
        lr=stage.rate,
        weight_decay=stage.decay,
        betas=(0.9, 0.98),
    )
    start, spent = 0, 0.0
    if path.exists():
        saved = torch.load(path, weights_only=True)
        module.load_state_dict(saved["module"])
        start, spent = saved["step"], saved["seconds"]
        if start >= stage.steps:
            return
        optimiser.load_state_dict(saved["optimiser"])
    began = saved_at = time.monotonic()
    figures: dict[str, list[float]] = {}
    for step in range(start, stage.steps):
        # The step alone decides its batch, so that a resumed run sees what an unbroken one sees.
        generator = torch.Generator().manual_seed(
            hash((workspace.seed, sum(stage.name.encode()), step)) % 2**63
        )
        for group in optimiser.param_groups:
            group["lr"] = stage.rate_at(step)
        value, shown = loss(step, generator)
        optimiser.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(module.parameters(), CLIP)
        optimiser.step()
        for name, figure in shown.items():
            figures.setdefault(name, []).append(figure)
        last = step + 1 == stage.steps
        if (step + 1) % stage.look == 0 or last:
            means = {name: sum(seen) / len(seen) for name, seen in figures.items()}
            seconds = round(spent + time.monotonic() - began)
            with torch.no_grad():
                found = check(step + 1)
            workspace.log(stage=stage.name, step=step + 1, seconds=seconds, **means, **found)
            figures = {}
            # Kept apart, so that the course of the training can be shown afterwards.
            torch.save(module.state_dict(), workspace.state(f"{stage.name}-{step + 1:05d}"))
        if last or time.monotonic() - saved_at > SAVE_SECONDS:
            state = {
                "module": module.state_dict(),
                "optimiser": optimiser.state_dict(),
                "step": step + 1,
                "seconds": spent + time.monotonic() - began,
            }
            # Written beside and moved, so that a kill leaves the old state or the new one.
            beside = path.with_suffix(".part")
            torch.save(state, beside)
            beside.replace(path)
            saved_at = time.monotonic()
