"""A judge's replies to what a run's model answered: asked through the same engine, kept in the run's folder.

judge/NAME_DIGEST/judge.json        who judges, in which words; wordings by their names
judge/NAME_DIGEST/responses.jsonl   every reply, one a line, those that cannot be read too
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from emu2eval.adapters.base import Adapter
from emu2eval.engine.plan import Plan, Planned, check_request, model_identity
from emu2eval.engine.runner import Tally, execute
from emu2eval.engine.scoring import UNJUDGED, build_cleaner, build_scorer, response_of
from emu2eval.errors import ConfigError
from emu2eval.identity import request_key, value_key
from emu2eval.media.images import from_pil
from emu2eval.runs.store import RunStore
from emu2eval.scorers.judged import JudgedScorer
from emu2eval.spec.config import ModelSpec, Task
from emu2eval.types import Image, Request, Response, Sample, Score

RECORD = "judge.json"


@dataclass(frozen=True)
class Judge:
    """The model that judges. identity: what decides its replies, as for any model."""

    model: ModelSpec
    adapter: Adapter
    identity: Mapping[str, Any]

    @classmethod
    def of(cls, model: ModelSpec, adapter: Adapter) -> Judge:
        return cls(model, adapter, model_identity(model, adapter))

    @property
    def folder(self) -> str:
        """Below the run's folder."""
        return f"judge/{self.model.name}_{value_key(self.identity)[:8]}"


def is_judged(task: Task) -> bool:
    """Its scorer asks a judge, if one is named."""
    return isinstance(build_scorer(task), JudgedScorer)


def needs_judge(task: Task) -> bool:
    """Its scorer gives no number without a judge."""
    scorer = build_scorer(task)
    return isinstance(scorer, JudgedScorer) and not scorer.optional


def stored(folder: Path, absent: Adapter) -> list[Judge]:
    """The judges that a run's folder holds replies of; `absent` stands in for each."""
    found = []
    for path in sorted(folder.glob(f"judge/*/{RECORD}")):
        record = RunStore(path.parent).read_json(RECORD)
        model = ModelSpec.model_validate(record["model"])
        found.append(Judge(model, absent, record["identity"]))
    return found


class Hearing:
    """What a judge is asked about a run, and what was read in its replies.

    Iterating gives the requests of one attempt: at first one for each response and name of the scorer, then
    again those whose reply could not be read.
    """

    def __init__(self, plan: Plan, answers: RunStore, judge: Judge):
        scorer = build_scorer(plan.task)
        if not isinstance(scorer, JudgedScorer):
            raise ConfigError(f"{plan.task.name} is scored without a judge", where="--judge")
        self.plan = plan
        self.answers = answers
        self.judge = judge
        self.scorer = scorer
        self.replies = RunStore(answers.folder / judge.folder)
        self.attempt = 0
        self._clean = build_cleaner(plan.task)
        self._assumed: Response | None = None

    # -- as work for the engine -------------------------------------------------------------------

    @property
    def adapter(self) -> Adapter:
        return self.judge.adapter

    @property
    def model(self) -> ModelSpec:
        return self.judge.model

    def __len__(self) -> int:
        return len(self.plan) * len(self.scorer.names)

    def __iter__(self) -> Iterator[Planned]:
        plan = self.plan
        for trial in range(plan.draws):
            for position in plan.positions:
                slot = trial * len(plan.samples) + position
                response = response_of(self.answers.stored(slot), self._clean, self.answers)
                response = response or self._assumed
                if response is None:
                    continue
                sample = plan.query(position)
                for place in range(len(self.scorer.names)):
                    if self._unread(slot, sample, response, place):
                        yield self._case(slot, sample, response, place, self.attempt)

    def check(self, planned: Planned) -> None:
        """Raises PlanError where the judge cannot take the request."""
        where = f"{self.plan.task.name}, judging query {planned.sample.id}"
        asks = f"judging {self.plan.task.name}"
        check_request(self.adapter, self.model.name, planned.request, asks, where)

    def hear(self, load: Callable[[], None], progress: Callable[[int], None]) -> Tally:
        """Asks for all that is not yet said, and again for what cannot be read. Raises UserError."""
        total = Tally()
        for attempt in range(self.scorer.attempts):
            self.attempt = attempt
            tell = None if attempt else progress
            total += execute(self, self.replies, load=load, progress=tell)
        return total

    def open(self, *, writing: bool) -> RunStore:
        """The store of the replies, read as far as they fit this run."""
        if writing:
            self.replies.open_for_writing()
            self.replies.write_json(RECORD, self._record())
        plan, cases = self.plan, self.plan.draws * self._cases
        self.replies.index(self._slot_of, cases * len(plan.samples))
        return self.replies

    def assume_longest(self) -> None:
        """What is not answered yet counts as answered at the greatest length: for an estimate."""
        output = self.plan.task.spec.output
        longest = Response(text="word " * output.max_new_tokens)
        self._assumed = Response(image=_blank()) if output.kind == "image" else longest

    # -- as verdicts for the scorer ---------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.judge.model.name

    def score(self, slot: int, sample: Sample, response: Response) -> Score:
        """The scorer's score; where a reply is still missing unscored, or, of a scorer that needs no judge,
        what it says without one, marked as unjudged."""
        said: dict[str, Any] = {}
        for place, name in enumerate(self.scorer.names):
            for attempt in range(self.scorer.attempts):
                case = self._case(slot, sample, response, place, attempt)
                text, error = self._said(case)
                if text is None:
                    why = error or "not judged yet"
                    if not self.scorer.optional:
                        return Score(None, details={"why": why})
                    alone = self.scorer.score(sample, response)
                    return replace(alone, details={**alone.details, UNJUDGED: why})
                said[name] = self.scorer.read(text)
                if said[name] is not None:
                    break
        return self.scorer.judged(sample, response, said)

    # -- inside -----------------------------------------------------------------------------------

    @property
    def _cases(self) -> int:
        return len(self.scorer.names) * self.scorer.attempts

    @cached_property
    def _digest(self) -> str:
        return value_key(self.judge.identity)

    def _unread(self, slot: int, sample: Sample, response: Response, place: int) -> bool:
        """All replies before this attempt are there, and none can be read."""
        for attempt in range(self.attempt):
            text, _ = self._said(self._case(slot, sample, response, place, attempt))
            if text is None or self.scorer.read(text) is not None:
                return False
        return True

    def _said(self, case: Planned) -> tuple[str | None, str | None]:
        """(reply, None) of a case, or (None, why there is none)."""
        key = case.request.key
        row = (
            self.replies.stored(case.slot)
            if self.replies.has(case.slot, key)
            else self.replies.twin(key)
        )
        if row is not None:
            return row["text"], None
        failed = self.replies.stored(case.slot)
        why = failed.get("error") if failed is not None and failed["key"] == key else None
        return None, f"the judge did not answer: {why}" if why else None

    def _case(
        self, slot: int, sample: Sample, response: Response, place: int, attempt: int
    ) -> Planned:
        """The request for one name and attempt. Its key is its own, though its words may be another's."""
        scorer, count = self.scorer, len(self.plan.samples)
        name = scorer.names[place]
        trial, position = divmod(slot, count)
        case = (trial * len(scorer.names) + place) * scorer.attempts + attempt
        fields = scorer.question(sample, response, name)
        wording = scorer.words(sample, name)
        prompt = wording.prompt(fields, again=attempt > 0)
        key = request_key(prompt, scorer.reply, value_key([self._digest, name, attempt]))
        return Planned(
            case * count + position,
            sample,
            case,
            (),
            Request(key, prompt, scorer.reply),
            {
                "answer_trial": trial,
                "asked": name,
                "attempt": attempt,
                "wording": wording.name,
            },
        )

    def _slot_of(self, sample_id: str, case: int) -> int | None:
        position = self.plan.samples.position(sample_id)
        if position is None or not 0 <= case < self.plan.draws * self._cases:
            return None
        return case * len(self.plan.samples) + position

    def _record(self) -> dict[str, Any]:
        """judge.json; it keeps the words of earlier hearings, whose replies are kept too."""
        known = self.replies.read_json(RECORD) or {}
        used = self.scorer.every_wording()
        names = [f"{w.name} {w.digest[:8]}" if len(used) > 1 else w.name for w in used]
        words = {
            name: {key: getattr(wording, key) for key in ("system", "user", "again", "digest")}
            for name, wording in zip(names, used, strict=True)
        }
        return {
            "format": 1,
            "model": self.judge.model.model_dump(mode="json"),
            "identity": dict(self.judge.identity),
            "scorer": self.scorer.metric,
            "asked": list(self.scorer.names),
            "attempts": self.scorer.attempts,
            "wordings": {**known.get("wordings", {}), **words},
        }


def _blank() -> Image:
    from PIL import Image as PILImage

    return from_pil(PILImage.new("RGB", (8, 8)))
