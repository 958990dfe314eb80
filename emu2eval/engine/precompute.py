"""Features ahead of time: what `run` would compute by itself, for whole splits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace

from emu2eval.data.sources import choose, require
from emu2eval.engine.backends.choose import Where
from emu2eval.engine.backends.encoding import Encoders
from emu2eval.engine.models import open_model
from emu2eval.engine.plan import OwnEncoder
from emu2eval.engine.splits import Splits
from emu2eval.engine.supplies import NamedPart, bring
from emu2eval.engine.tasks import described, opened
from emu2eval.errors import ConfigError, UnknownName, of_part
from emu2eval.fewshot.choosers import PoolFeatures
from emu2eval.spec.changes import Changes
from emu2eval.watch import Watcher


def compute_features(
    task: str,
    splits: Sequence[str] | None = None,
    encoder: str | None = None,
    *,
    model: str | None = None,
    protocol: str | None = None,
    changes: Changes | None = None,
    at: Where | None = None,
    watcher: Watcher | None = None,
) -> Iterator[tuple[str, PoolFeatures]]:
    """(split, what was made) for every image of the splits, and its texts where the chooser weighs them.

    splits, encoder: the task's own where left out. at: where encoders run; None = in this process. Continues
    where it was stopped. Raises UserError.
    """
    told, changed = watcher or Watcher(), changes or Changes()
    if encoder is not None:
        changed = changed.merged(Changes(task={"demonstrations.options.encoder": encoder}))
    task_ = opened(described(task, changed, protocol=protocol))
    where = task_.document.where(("demonstrations",))
    names = list(dict.fromkeys(splits or [task_.split, task_.pool_split]))
    for name in names:
        if name not in task_.spec.data.splits:
            raise UnknownName("split", name, task_.spec.data.splits, where=where, of=task_.name)
    sourced, notes = choose(task_.task, names)
    require(sourced, names)
    for note in notes:
        told.note(note)
    task_ = replace(task_, task=sourced)
    data = Splits(told)
    own = backend = None
    at = at or Where()
    if model is not None:
        known = open_model(model, changed, at.device, at.machine())
        backend = at.backend(known.spec, known.adapter, told)
        own = OwnEncoder(known.spec, known.adapter, backend.encode)
        own.batch = backend.at_once
    made = False
    with ExitStack() as until:
        if backend is not None:
            until.enter_context(closing(backend))
        encoders = until.enter_context(closing(Encoders(at, told)))
        for name in names:
            chooser = task_.chooser(data.split(task_, name), 0)
            chooser.route = None if at.here else encoders
            bring([NamedPart("chooser", task_.spec.demonstrations.chooser, chooser)], told)
            with of_part("chooser", task_.spec.demonstrations.chooser):
                found = chooser.features(model=own, progress=told.working)
            for features in found:
                made = True
                yield name, features
    if not made:
        raise ConfigError(
            f"{task_.name}'s chooser {task_.spec.demonstrations.chooser!r} does not use features",
            where=where,
            hint="use a protocol that does (--protocol NAME), or --set task.demonstrations.chooser=rices",
        )
