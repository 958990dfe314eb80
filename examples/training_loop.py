"""A model is trained in a plain loop and evaluated as it goes: what it says of squares it never saw.

python examples/training_loop.py            # ten seconds on a CPU, no downloads
"""

import sys
from pathlib import Path

import torch
from tiny_model import batches, tiny_model

from emu2eval.testing import small_task
from emu2eval.training import EvaluateHook


def main(out: Path, steps: int = 40, queries: int = 20) -> dict[int, dict[str, float]]:
    model, processor = tiny_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()

    hook = EvaluateHook(
        small_task(out, queries=queries), every=steps // 4, shots=[0, 2], out=out / "runs", name="tiny",
        processor=processor,
    )  # fmt: skip
    for step, batch in zip(range(1, steps + 1), batches(processor), strict=False):
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if scores := hook(step, model):
            print(f"step {step}: loss {loss.item():.3f}", scores)
    return hook.history


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "results/training")
    main(folder)
    print(f"emu2eval compare --series {folder / 'runs'} --file steps.svg")
