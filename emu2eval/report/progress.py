"""Progress bars on standard error, so that a table on standard output stays clean."""

from __future__ import annotations

from types import TracebackType

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from emu2eval.errors import printable
from emu2eval.report.console import console
from emu2eval.report.notes import counted
from emu2eval.watch import ReplicasState, RunEnd, RunStart, Watcher


class _Rate(ProgressColumn):
    """Samples a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f}/s", style="progress.data.speed")


class _Name(ProgressColumn):
    """What the bar is of. In a narrow terminal it is cut; figures never are."""

    def render(self, task: Task) -> Text:
        return Text(task.description, no_wrap=True, overflow="ellipsis")


def _whole() -> Column:
    """A column that keeps its width."""
    return Column(no_wrap=True)


class Bars(Watcher):
    """One bar a run, with rate and time left. Without a terminal, one line a run when it is done."""

    def __init__(self) -> None:
        self.console = console(err=True)
        self.progress = Progress(
            _Name(),
            TextColumn("{task.fields[told]}", markup=False),
            BarColumn(28 if self.console.width >= 120 else 8, table_column=_whole()),
            MofNCompleteColumn(table_column=_whole()),
            _Rate(table_column=_whole()),
            TimeElapsedColumn(table_column=_whole()),
            TimeRemainingColumn(table_column=_whole()),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.bar: TaskID | None = None
        self.shots = ""
        self.state: ReplicasState | None = None
        self.work: tuple[str, TaskID] | None = None

    def __enter__(self) -> Bars:
        self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.progress.stop()

    def reading(self, what: str) -> None:
        self.note(f"reading {what}")

    def working(self, what: str, done: int, total: int) -> None:
        if self.work is None or self.work[0] != what:
            if self.progress.disable and done < total:
                self.note(f"{what}: {total:,}")
            self.work = (what, self.progress.add_task(what, total=total, told=""))
        self.progress.update(self.work[1], completed=done, total=total)
        if done == total:
            self.progress.remove_task(self.work[1])
            self.work = None

    def loading(self, model: str) -> None:
        self.note(f"loading {model}")

    def replicas(self, state: ReplicasState) -> None:
        before, self.state = self.state, state
        if self.bar is not None:
            self.progress.update(self.bar, told=self._told())
        if self.progress.disable and state.up == state.wanted and before != state:
            self.note(f"{counted(state.up, 'replica', 'replicas')} at work")

    def starting(self, run: RunStart) -> None:
        self.shots = f"· {run.shots} shots"
        self.bar = self.progress.add_task(
            f"{run.task} · {run.model}", total=run.requests, told=self._told()
        )

    def _told(self) -> str:
        """How many shots, and how many replicas where that is not one."""
        state = self.state
        if state is None or state.wanted == 1:
            return self.shots
        up = f"{state.up}" if state.up == state.wanted else f"{state.up} of {state.wanted}"
        return f"{self.shots} · {up} replicas"

    def judging(self, judge: str, requests: int) -> None:
        self.bar = self.progress.add_task(f"judging with {judge}", total=requests, told="")

    def settled(self, count: int) -> None:
        if self.bar is not None:
            self.progress.advance(self.bar, count)

    def stopping(self, seconds: float) -> None:
        self.note(
            f"stopping: waiting up to {seconds:.0f} seconds for what is under way; to stop at once, press "
            "Ctrl-C again"
        )

    def finished(self, run: RunEnd) -> None:
        if self.progress.disable:
            reused = f", {run.kept + run.copied:,} reused" if run.kept + run.copied else ""
            judged = f", {run.judged:,} judged" if run.judged else ""
            failed = f", {run.failed:,} failed" if run.failed else ""
            self.note(f"{run.folder.name}: {run.asked:,} run{reused}{judged}{failed}")
        for each in run.again:
            self.note(
                f"{run.folder.name}: {counted(each.batches, 'batch', 'batches')} failed and "
                f"{'was' if each.batches == 1 else 'were'} retried in smaller batches, which is slower: "
                f"{' '.join(each.why.split())[:200]}"
            )

    def note(self, text: str) -> None:
        self.console.print(Text(printable(text), style="dim"), soft_wrap=True)
