"""A stored run on a hidden test split -> the file for its evaluation server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from emu2eval import registry
from emu2eval.data.load import load_split
from emu2eval.data.sources import choose
from emu2eval.engine.reopen import reopen
from emu2eval.engine.scoring import answers_of
from emu2eval.errors import ConfigError, StoreError
from emu2eval.exports.server_formats import Format, write


@dataclass(frozen=True)
class Submission:
    """What was written. unanswered: questions of the run's own split left empty; filled: the others."""

    file: Path
    entries: int
    unanswered: int
    filled: int
    questions: str
    server: str

    def summary(self) -> str:
        """A few lines for people."""
        answered = self.entries - self.unanswered - self.filled
        lines = [f"wrote {self.file}: {self.entries:,} entries, {answered:,} with an answer"]
        if self.filled:
            lines.append(
                f"{self.filled:,} other questions in {self.questions} have an empty answer"
            )
        if self.unanswered:
            lines.append(
                f"{self.unanswered:,} questions in the run's split have no answer and were left "
                "empty, which the "
                "server counts as wrong; run the same `run` command to answer them"
            )
        if self.server:
            lines.append(f"submit it at {self.server}")
        return "\n".join(lines)


def submit(folder: Path, out: Path | None = None) -> Submission:
    """Writes the file of a stored run, complete and checked against the official list of questions.

    out: absent = submission.json in the run's folder. Raises ConfigError for a task or a split without
    a server, MissingData without the list, StoreError where the server would refuse the file.
    """
    run = reopen(folder)
    task, spec = run.questions.task, run.questions.task.spec.submission
    if spec is None:
        raise ConfigError(
            f"{task.name} has no test server: its file has no `submission`",
            where=folder,
            hint="its answers are public, so the scores are in the table: emu2eval table",
        )
    able = spec.able
    if not task.submitted:
        raise ConfigError(
            f"this run is on {task.name}'s split {task.split}, but the server accepts {' or '.join(able)}",
            where=folder,
            hint=f"emu2eval run --task {task.name} --split {able[0]} …, and submit that run",
        )
    where = task.document.where(("submission", "format"))
    with task.document.naming():
        form: Format = registry.find("submission", spec.format, where=where)
    with run.index() as store:
        answers = answers_of(run.questions, store, spec.answer)
    asked = questions = run.questions.samples
    if spec.questions != task.split:
        whole, _ = choose(task.task, [spec.questions], None)
        questions = load_split(whole, spec.questions)
        strange = [name for name in answers if questions.position(name) is None]
        if strange:
            raise StoreError(
                f"{len(strange):,} answered questions are not in the official list (split "
                f"{spec.questions}), the first is {strange[0]}",
                where=folder,
                hint="the files of the two splits must have the same version",
            )
    file = out or folder / "submission.json"
    write(file, form.build(questions, answers), form, questions)
    return Submission(
        file=file,
        entries=len(questions),
        unanswered=len(asked) - len(answers),
        filled=len(questions) - len(asked),
        questions=spec.questions,
        server=spec.server,
    )
