"""What applies to every run of one evaluation, checked once, whoever says it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from math import ceil, nan
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from emu2eval import registry
from emu2eval.engine.backends.choose import Where
from emu2eval.errors import ConfigError, UnknownName, shown
from emu2eval.fewshot.ablate import ABLATIONS
from emu2eval.runs.parts import RunPart
from emu2eval.runs.record import MOST_TRIALS, Extent
from emu2eval.spec import catalog
from emu2eval.spec.changes import Changes
from emu2eval.spec.settings import Limit

AnyScorer = str | Callable[..., Any]
"""A scorer by name, `module:attr` or `FILE.py:NAME`; a metric's function; a subclass of Scorer."""

Positive = Annotated[int, Meta(ge=1, le=10**6)]
AUTO: Literal["auto"] = "auto"
"""As many requests at a time as fit."""


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """shots: numbers, or "0*" for demonstrations without their images; none = what a suite says, else
    0. limit: so many queries, or, below 1, that part of them, rounded up. ablate: what is taken away from
    demonstrations, each as runs of their own; "none" = nothing. fit: the farthest demonstrations are dropped
    from prompts that are too long. skip_missing: samples whose image or video file is not there are left out
    and counted. label: what tables call the model; "" = its own name again. source: where samples come from;
    None = see `data.sources.choose`. batch: requests at a time; None = the model's, "auto" = as many as fit.
    device: of models on this machine, such as cuda:1. engine: a serving engine that is started for the
    model. replicas: copies of each model that answer side by side, each in a process of its own; "auto" = as
    many as fit; None = one in this process. cluster: where they are, the address of Ray's head, or "auto" on
    one of its nodes; None = this machine. part: only that share of each run is answered, which `merge`
    puts together with the others.
    """

    shots: tuple[str | int, ...] = ()
    ablate: tuple[str, ...] = ("none",)
    seed: Annotated[int, Meta(ge=0, le=2**53)] = 0
    limit: Limit | None = None
    trials: Annotated[int, Meta(ge=1, le=MOST_TRIALS)] = 1
    split: str | None = None
    protocol: str | None = None
    source: str | None = None
    changes: Changes = Changes()
    fit: bool = False
    skip_missing: bool = False
    out: Path | None = None
    batch: Positive | Literal["auto"] | None = None
    device: str | None = None
    engine: str | None = None
    replicas: Positive | Literal["auto"] | None = None
    cluster: str | None = None
    part: RunPart | None = None
    judge: str | None = None
    label: str | None = None

    @classmethod
    def of(
        cls,
        *,
        shots: int | str | Sequence[int | str] = (),
        ablate: str | Sequence[str] = "none",
        changes: Changes | Mapping[str, Any] | Sequence[str] = (),
        out: str | Path | None = None,
        scorer: AnyScorer | None = None,
        **plain: Any,
    ) -> RunOptions:
        """The options as people give them. scorer: in place of the task's own. Raises ConfigError or
        UnknownName."""
        given = {
            "shots": _several("shots", shots),
            "ablate": _several("ablate", ablate),
            "changes": with_scorer(Changes.of(changes), scorer),
            "out": _folder(out),
            **plain,
        }
        if isinstance(given.get("limit"), str):
            given["limit"] = parsed_limit(given["limit"])
        for name in ("batch", "replicas"):
            if isinstance(value := given.get(name), str) and value.isdecimal():
                given[name] = int(value)  # as the command line has it
        if isinstance(given.get("part"), str):
            given["part"] = RunPart.parse(given["part"])
        for name in given["ablate"]:
            if name not in ABLATIONS:
                raise UnknownName("ablation", name, ABLATIONS, where="--ablate")
        for field in msgspec.structs.fields(cls):
            if field.name in given and field.name not in ("changes", "out"):
                try:
                    msgspec.convert(given[field.name], field.type)
                except msgspec.ValidationError:
                    raise ConfigError(
                        f"--{field.name} cannot be {shown(given[field.name])}; expected {_takes(field)}",
                        where=f"--{field.name}",
                    ) from None
        return cls(**given)

    @property
    def where(self) -> Where:
        """Where models run."""
        return Where(self.replicas, self.cluster, self.device)

    @property
    def folder(self) -> Path:
        """The folder of runs."""
        return self.out or catalog.results_root()

    def extent(self, queries: int) -> Extent:
        """How much is asked of a split of so many queries.

        >>> RunOptions(limit=0.1).extent(1205).limit
        121
        """
        limit = self.limit
        if isinstance(limit, float):
            # The nearest fraction of small terms: a tenth of 10 is 1, and 0.1 is a hair more than a tenth.
            part = Fraction(limit).limit_denominator(10**9)
            limit = max(1, ceil(part * queries))
        return Extent(limit=limit and min(limit, 10**9), trials=self.trials)


def with_scorer(changes: Changes, scorer: AnyScorer | None) -> Changes:
    """The changes, with another scorer for the task. Raises ConfigError."""
    if scorer is None:
        return changes
    if isinstance(scorer, str):
        script, _, name = scorer.rpartition(":")
        # A file that is named here is one of this folder, wherever the task's own file is.
        whole = (
            f"{Path(script).expanduser().resolve()}:{name}" if script.endswith(".py") else scorer
        )
    elif callable(scorer):
        whole = registry.offer("scorer", scorer)
    else:
        raise ConfigError(
            f"a scorer must be a function, a class or a name, not {type(scorer).__name__}",
            hint="use (prediction, references) -> float, or a subclass of emu2eval.Scorer",
        )
    return Changes(task={"score.scorer": whole}).merged(changes)


def _folder(out: Any) -> Path | None:
    if out is not None and not isinstance(out, (str, Path)):
        raise ConfigError(f"out must be a folder, not {shown(out)}", where="out")
    return Path(out) if out is not None else None


def parsed_limit(text: str) -> int | float:
    """A limit as it is typed: `500`, or `0.1` for a tenth. Raises ConfigError.

    >>> parsed_limit("500"), parsed_limit("0.1"), parsed_limit("200.0")
    (500, 0.1, 200)
    """
    try:
        number = float(text)
    except ValueError:
        number = nan
    if 0 < number < 1:
        return number
    if (number > 1 and number.is_integer()) or text.strip() == "1":
        return int(number)
    says = "for one query: --limit 1; for all, omit --limit" if number == 1 else _LIMIT
    if number in (0, -1):
        says = "for all queries, omit --limit"
    raise ConfigError(f"--limit cannot be {text}", where="--limit", hint=says)


_LIMIT = "--limit 500 for 500 queries, --limit 0.1 for a tenth of them (rounded up)"


def _several(name: str, given: Any) -> tuple[Any, ...]:
    """One value or several, each once; a text may be a list with commas."""
    if isinstance(given, (str, int)) and not isinstance(given, bool):
        given = (given,)
    if not isinstance(given, Iterable) or isinstance(given, (bytes, Mapping)):
        raise ConfigError(f"{name} must be one value or a list of values, not {shown(given)}")
    found: dict[Any, None] = {}
    for each in given:
        parts = each.split(",") if isinstance(each, str) else [each]
        found.update(
            dict.fromkeys(p.strip() if isinstance(p, str) else p for p in parts if p != "")
        )
    return tuple(found)


def _takes(field: msgspec.structs.FieldInfo) -> str:
    known = {
        "seed": "an integer from 0 to 2**53",
        "limit": "an integer of at least 1, or a fraction below 1",
        "trials": f"an integer from 1 to {MOST_TRIALS:,}",
        "batch": "an integer from 1 to 1,000,000, or auto",
        "replicas": "an integer from 1 to 1,000,000, or auto",
        "cluster": "auto, or the address of a Ray cluster, such as node1:6379",
        "part": "a number and how many there are, such as 3/16",
        "shots": "integers, or 0*",
        "device": "cpu, cuda, cuda:1 or mps",
        "engine": "vllm, sglang, llama.cpp or transformers",
        "fit": "true or false",
        "skip_missing": "true or false",
        "out": "a folder",
    }
    return known.get(field.name, "a string")
