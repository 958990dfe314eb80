"""Features ahead of time: what `run` would compute by itself, for whole splits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from functools import partial

from emu2eval import registry
from emu2eval.data.sources import choose, require
from emu2eval.engine.evaluation import SplitCache, build_adapter
from emu2eval.engine.plan import OwnEncoder
from emu2eval.engine.runner import Once
from emu2eval.errors import UnknownName
from emu2eval.fewshot.rices import Made, Rices
from emu2eval.spec.config import load_model, load_task, parse_settings
from emu2eval.watch import Watcher


def compute_features(
    task: str,
    splits: Sequence[str] | None = None,
    encoder: str | None = None,
    *,
    model: str | None = None,
    protocol: str | None = None,
    changes: Sequence[str] = (),
    watcher: Watcher | None = None,
) -> Iterator[tuple[str, Made]]:
    """(split, what was made) for every image of the splits, and its texts where the chooser weighs them.

    splits, encoder: the task's own where left out. Continues where it was stopped. Raises UserError.
    """
    told = watcher or Watcher()
    parsed = parse_settings(changes)
    loaded = load_task(task, protocol=protocol, overrides=parsed["task"])
    spec = loaded.spec.demonstrations
    where = loaded.document.where(("demonstrations",))
    options = dict(spec.options) if spec.chooser == "rices" else {}
    if encoder is not None:
        options["encoder"] = encoder
    at = loaded.document.below(("demonstrations", "options"))
    registry.check_options("chooser rices", Rices, options, where=at, given=2)
    names = list(dict.fromkeys(splits or [loaded.split, spec.split or loaded.split]))
    for name in names:
        if name not in loaded.spec.data.splits:
            raise UnknownName(f"split of {loaded.name}", name, loaded.spec.data.splits, where=where)
    loaded, notes = choose(loaded, names)
    require(loaded, names)
    for note in notes:
        told.note(note)
    data = SplitCache(told)
    own = loader = None
    if model is not None:
        described = load_model(model, overrides=parsed["model"])
        adapter = build_adapter(described)
        loader = Once(adapter, partial(told.loading, described.name))
        own = OwnEncoder(described, adapter, loader)
    with closing(loader) if loader is not None else nullcontext():
        for name in names:
            pool = data.split(loaded, name)
            chooser: Rices = registry.build("chooser", "rices", options, given=(pool, 0), at=at)
            for made in chooser.features(model=own, progress=told.working):
                yield name, made
