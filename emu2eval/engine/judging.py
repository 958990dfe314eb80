"""A judge's replies to what a run's model answered: asked through the same engine, kept in the run's folder.

judge/NAME_DIGEST/judge.json        who judges, in which words (`runs.record.JudgeRecord`)
judge/NAME_DIGEST/responses.jsonl   every reply, one a line, those that cannot be read too
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from emu2eval.adapters.base import Adapter
from emu2eval.engine.plan import Planned, check_request, model_identity
from emu2eval.engine.questions import Place, Questions
from emu2eval.engine.scoring import response_of
from emu2eval.engine.spending import Spending
from emu2eval.errors import ConfigError, StoreError
from emu2eval.identity import request_key, value_key
from emu2eval.media.images import from_pil
from emu2eval.runs.answers import Answer, JudgeCase
from emu2eval.runs.names import path_part
from emu2eval.runs.record import (
    JUDGE,
    JudgeRecord,
    ModelIdentity,
    ModelRecord,
    WordingRecord,
    known_judge,
    read_judge,
    write_judge,
)
from emu2eval.runs.store import RunStore
from emu2eval.spec.model import ModelSpec
from emu2eval.types import Image, Request, Response, Sample, Score, TextOutput, Used


@dataclass(frozen=True)
class Judge:
    """The model that judges. identity: what decides its replies, as for any model.

    adapter, spec: None for one whose replies are stored, and who is asked nothing more.
    """

    model: ModelRecord
    identity: ModelIdentity
    adapter: Adapter | None = None
    spec: ModelSpec | None = None

    @classmethod
    def of(cls, model: ModelSpec, adapter: Adapter) -> Judge:
        known = ModelRecord(name=model.name, adapter=model.adapter, settings=dict(model.settings))
        return cls(known, model_identity(model, adapter), adapter, model)

    @property
    def name(self) -> str:
        return self.model.name

    @cached_property
    def digest(self) -> str:
        return value_key(msgspec.to_builtins(self.identity))

    @property
    def folder(self) -> str:
        """Below the run's folder."""
        return f"judge/{path_part(self.model.name)}_{self.digest[:8]}"


def stored_judges(folder: Path) -> list[Judge]:
    """The judges that a run's folder holds replies of."""
    records = (read_judge(path.parent) for path in sorted(folder.glob(f"judge/*/{JUDGE}")))
    return [Judge(record.model, record.identity) for record in records]


class Judging:
    """What a judge is asked about a run, and what was read in the replies.

    Iterating gives the requests of the current attempt: at first one for each answer and name of the
    scorer, then again those whose reply could not be read.
    """

    def __init__(self, questions: Questions, answers: RunStore, judge: Judge):
        scorer = questions.task.judged
        if scorer is None:
            raise ConfigError(f"{questions.task.name} is scored without a judge", where="--judge")
        self.questions = questions
        self.answers = answers
        self.judge = judge
        self.scorer = scorer
        self.replies = RunStore(answers.folder / judge.folder)
        self.attempt = 0
        self.unread: Counter[str] = Counter()
        """Why answers have no score, or lack a part of it, though the judge replied; with how many."""
        self._assumed: Response | None = None

    # -- as work for the engine -------------------------------------------------------------------

    @property
    def adapter(self) -> Adapter:
        if self.judge.adapter is None:
            raise StoreError(
                f"no further requests are sent to {self.name} here",
                where=self.replies.folder,
                hint=f"name the judge: --judge {self.judge.name}",
            )
        return self.judge.adapter

    @property
    def name(self) -> str:
        return self.judge.name

    def __len__(self) -> int:
        return sum(1 for _ in self._due())

    def __iter__(self) -> Iterator[Planned]:
        for place, sample, response, number in self._due():
            case = self._case(place, sample, response, number, self.attempt)
            # What is assumed alike will be told apart by the real answers.
            yield case if response is not self._assumed else _of_its_own(case)

    def to_ask(self, store: RunStore) -> Iterator[Planned]:
        """Every request of the attempt: what it says depends on the answers, so all are compared."""
        return iter(self)

    def _due(self) -> Iterator[tuple[Place, Sample, Response, int]]:
        """What the requests of the current attempt are about: an answer, and the number of a name."""
        for place in self.questions:
            stored = self.answers.stored(self.questions.slot(place))
            response = response_of(stored, self.questions.task.clean, self.answers)
            response = response or self._assumed
            if response is None:
                continue
            sample = self.questions.query(place.position)
            for number in range(len(self.scorer.names)):
                if self._unread(place, sample, response, number):
                    yield place, sample, response, number

    def check(self, planned: Planned) -> None:
        """Raises PlanError where the judge cannot take the request."""
        task = self.questions.task.name
        where = f"{task}, judging query {planned.id}"
        check_request(self.adapter, self.name, planned.request, f"judging {task}", where)

    def attempts(self) -> Iterator[int]:
        """Makes each attempt the current one and gives how many requests it has; ends where none is left."""
        for attempt in range(self.scorer.attempts):
            self.attempt = attempt
            if not (count := len(self)):
                return
            yield count

    def open(self, *, writing: bool) -> RunStore:
        """The store of the replies, read as far as they fit this run."""
        if writing:
            self.replies.open_for_writing()
            write_judge(self.replies.folder, self._record())
        self.replies.index(self._slot_of, self.questions.slots * self._cases)
        return self.replies

    def spending(self) -> Spending:
        """Of what is asked from here on; kept in judge.json."""
        folder, record = self.replies.folder, self._record()

        def keep(used: Used) -> None:
            write_judge(folder, msgspec.structs.replace(record, spent=used))

        return Spending(self.adapter, record.spent, keep)

    def assume_longest(self) -> None:
        """What is not answered yet counts as answered at the greatest length: for an estimate."""
        output = self.questions.task.spec.output.build(("",), 0)
        tokens = output.max_new_tokens if isinstance(output, TextOutput) else 0
        self._assumed = Response(text="word " * tokens, images=(_blank(),))

    # -- as verdicts for the scorer ---------------------------------------------------------------

    def score(self, place: Place, sample: Sample, response: Response) -> Score:
        """The scorer's score; where a reply is still missing unscored, or, of a scorer that needs no judge,
        what it says without one, marked as unjudged."""
        said: dict[str, Any] = {}
        for number, name in enumerate(self.scorer.names):
            for attempt in range(self.scorer.attempts):
                case = self._case(place, sample, response, number, attempt)
                text, error = self._said(case)
                if text is None:
                    why = error or "not judged yet"
                    if not self.scorer.optional:
                        return Score(None, why=why)
                    return replace(self.scorer.score(sample, response), unjudged=why)
                said[name] = self.scorer.read(text)
                if said[name] is not None:
                    break
        score = self.scorer.judged(sample, response, said)
        missing = score.unjudged if score.value is not None else None if score.hidden else score.why
        if missing is not None and None in said.values():
            self.unread[missing] += 1
        return score

    # -- inside -----------------------------------------------------------------------------------

    @property
    def _cases(self) -> int:
        """Requests about one answer, at most."""
        return len(self.scorer.names) * self.scorer.attempts

    def _unread(self, place: Place, sample: Sample, response: Response, number: int) -> bool:
        """All replies before this attempt are there, and none can be read."""
        for attempt in range(self.attempt):
            text, _ = self._said(self._case(place, sample, response, number, attempt))
            if text is None or self.scorer.read(text) is not None:
                return False
        return True

    def _said(self, case: Planned) -> tuple[str | None, str | None]:
        """(reply, None) of a case, or (None, why there is none)."""
        key = case.request.key
        found = (
            self.replies.stored(case.slot)
            if self.replies.has(case.slot, key)
            else self.replies.twin(key)
        )
        if found is not None:
            return found.text or "", None
        failed = self.replies.stored(case.slot)
        why = failed.error if failed is not None and failed.key == key else None
        return None, f"the judge did not answer: {why}" if why else None

    def _case(
        self, place: Place, sample: Sample, response: Response, number: int, attempt: int
    ) -> Planned:
        """The request for one name and attempt. Its key is its own, though its words may be another's."""
        scorer = self.scorer
        name = scorer.names[number]
        wording = scorer.words(sample, name)
        prompt = wording.prompt(scorer.question(sample, response, name), again=attempt > 0)
        key = request_key(prompt, scorer.reply, value_key([self.judge.digest, name, attempt]))
        return Planned(
            self._slot(place, number, attempt),
            sample.id,
            place.trial,
            place.take,
            Request(key, prompt, scorer.reply),
            case=JudgeCase(name, wording.name, attempt),
        )

    def _slot(self, place: Place, number: int, attempt: int) -> int:
        case = number * self.scorer.attempts + attempt
        return case * self.questions.slots + self.questions.slot(place)

    def _slot_of(self, reply: Answer) -> int | None:
        slot, case = self.questions.slot_of(reply), reply.case
        if slot is None or case is None or case.name not in self.scorer.names:
            return None
        if not 0 <= case.attempt < self.scorer.attempts:
            return None
        number = self.scorer.names.index(case.name) * self.scorer.attempts + case.attempt
        return number * self.questions.slots + slot

    def _record(self) -> JudgeRecord:
        """judge.json; it keeps the words of earlier times, whose replies are kept too."""
        known = known_judge(self.replies.folder)
        used = self.scorer.every_wording()
        names = [f"{w.name} {w.digest[:8]}" if len(used) > 1 else w.name for w in used]
        words = {
            name: WordingRecord(
                system=wording.system, user=wording.user, again=wording.again, digest=wording.digest
            )
            for name, wording in zip(names, used, strict=True)
        }
        return JudgeRecord(
            model=self.judge.model,
            identity=self.judge.identity,
            scorer=self.scorer.metric,
            asked=tuple(self.scorer.names),
            attempts=self.scorer.attempts,
            wordings={**(known.wordings if known else {}), **words},
            spent=known.spent if known else None,
        )


def _of_its_own(case: Planned) -> Planned:
    """The case with a key that no other place's has."""
    key = value_key([case.request.key, case.slot])
    return replace(case, request=replace(case.request, key=key))


def _blank() -> Image:
    from PIL import Image as PILImage

    return from_pil(PILImage.new("RGB", (8, 8)))
