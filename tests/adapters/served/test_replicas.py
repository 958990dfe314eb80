"""Replicas that each start an engine of their own, in real processes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from threading import Thread
from typing import Any

from emu2eval.engine.backends.pool import Placing, Replicas, Tell
from emu2eval.engine.backends.replica import Replica, ReplicaStart
from emu2eval.engine.evaluation import plans
from emu2eval.engine.options import RunOptions
from emu2eval.engine.plan import model_identity
from emu2eval.engine.runner import execute
from emu2eval.runs.store import RunStore
from emu2eval.spec.changes import Changes
from emu2eval.trust import trusting

from ...engine.backends.processes import Processes
from .conftest import StandIns, gone


def test_each_replica_has_an_engine_on_its_gpus(
    engines: StandIns, checkpoint: Path, make_task: Any, tmp_path: Path
) -> None:
    """One is killed in the middle: its engine is gone, another takes its place, nothing is lost."""
    # Whoever trusts a checkpoint's code does so for all replicas.
    changes = Changes(model={"settings.options.trust_remote_code": True})
    options = RunOptions(shots=("1",), engine="vllm", changes=changes)
    with trusting():
        ((plan,),) = plans([str(make_task(queries=40))], [str(checkpoint)], options)
    plan.adapter.limits = plan.adapter.limits.__class__(frozenset({"text"}), batch=4)

    def made(number: int) -> Replica:
        os.environ["CUDA_VISIBLE_DEVICES"] = f"{2 * number},{2 * number + 1}"
        return Replica(ReplicaStart(plan.model, trusted=True))

    notes: list[str] = []
    site = Processes(made)
    pool = Replicas(
        lambda: Placing(site, 2),
        lambda: model_identity(plan.model, plan.adapter),
        Tell(lambda: None, lambda state: None, notes.append),
        streams=True,
    )
    engines.order(holds="0,1")

    def kill() -> None:
        while not (engines.folder / "held").exists():
            time.sleep(0.005)
        os.kill(site.started[0].process.pid or 0, signal.SIGKILL)

    Thread(target=kill, daemon=True).start()
    with RunStore(tmp_path / "run").open_for_writing() as store:
        store.index(plan.questions.slot_of, plan.questions.slots)
        tally = execute(plan, store, pool)
        answers = list(store.answers())
    pool.close()
    assert (tally.failed, len(answers), {answer.text for answer in answers}) == (0, 40, {"red"})
    assert any("was lost (killed)" in note for note in notes), notes
    started = engines.started
    assert {each["environment"]["CUDA_VISIBLE_DEVICES"] for each in started} >= {"0,1", "2,3"}
    assert all("--tensor-parallel-size 2" in " ".join(each["argv"]) for each in started)
    assert len({each["argv"][-1] for each in started}) == len(started)
    assert gone(*(each["pid"] for each in started))
