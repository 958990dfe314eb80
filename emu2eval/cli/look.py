"""What is installed and shipped, and whether it works: check, ls."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from emu2eval.cli import completion
from emu2eval.cli.options import Device, Engine, Out, Protocol, Sets, Source, Split
from emu2eval.cli.say import console, put, say_parts

if TYPE_CHECKING:
    from emu2eval.adapters.conformance import Finding

app = typer.Typer(rich_markup_mode=None)


@app.command(
    epilog="""\b
Examples:
  emu2eval check
  emu2eval check --task vqav2
  emu2eval check --task ./my_task.yaml --shots 8
  emu2eval check --model nearest
  emu2eval check --model ./my-checkpoint --engine vllm
  emu2eval check --task vqav2 --set task.data.root=/data/vqav2
  emu2eval check --adapter my_package.my_module:MyAdapter
  emu2eval check --report --task vqav2 --model ./my-checkpoint"""
)
def check(
    task: Annotated[
        str | None,
        typer.Option(
            "--task", "-t", help="Also read this task's data.", autocompletion=completion.tasks
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="Test this model's adapter.", autocompletion=completion.models
        ),
    ] = None,
    adapter: Annotated[
        str | None, typer.Option(help="Test an adapter, given as module:attr.")
    ] = None,
    shots: Annotated[
        list[str] | None,
        typer.Option(
            "--shots", "-k", help="With --task: numbers of demonstrations [default: 0, 4]."
        ),
    ] = None,
    protocol: Protocol = None,
    split: Split = None,
    source: Source = None,
    device: Device = None,
    engine: Engine = None,
    set_: Sets = [],  # noqa: B006
    out: Out = None,
    report: Annotated[
        bool,
        typer.Option(
            "--report",
            help="Print one block for a bug report: versions, platform, devices and extras, and what is "
            "checked; without keys or home folders.",
        ),
    ] = False,
) -> None:
    """Check the installation and every task and model file; or one task's data and prompts, as a run would
    without its model; or an adapter's behaviour."""
    from emu2eval.doctor.checks import check_adapter, check_all, check_model, check_task, findings
    from emu2eval.spec.changes import Changes

    changes = Changes.of(set_)
    asked: dict[str, Callable[[], Iterable[Finding]]] = {}
    if task is not None:
        given = {"shots": shots or (), "protocol": protocol, "split": split, "changes": changes}
        asked[f"task {task}"] = partial(check_task, task, source, **given)
    if model is not None:
        asked[f"model {model}"] = partial(check_model, model, device, changes, engine)
    if adapter is not None:
        asked[f"adapter {adapter}"] = partial(check_adapter, adapter)
    if report:
        from emu2eval.doctor.bug_report import bug_report

        put(bug_report(asked))
        return
    checks = asked.values() or [partial(check_all, out)]
    table, good = findings(finding for each in checks for finding in each())
    console().print(table)
    if not good:
        raise typer.Exit(2)


@app.command(
    epilog="""\b
Examples:
  emu2eval ls
  emu2eval ls tasks
  emu2eval ls scorers
  emu2eval ls scorers vqa_accuracy
  emu2eval ls runs --json"""
)
def ls(
    what: Annotated[
        str | None,
        typer.Argument(
            help="tasks, suites, models, families, papers or runs; readers, choosers, encoders, outputs, "
            "cleaners, scorers, judges, adapters, protocols, submissions or exports [default: all]."
        ),
    ] = None,
    names: Annotated[
        list[str] | None, typer.Argument(help="Show these in full, with an example.")
    ] = None,
    out: Out = None,
    json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print JSON: kind, name and title, or everything about one item."
        ),
    ] = False,
) -> None:
    """List shipped and stored items, and every component that a YAML file can name, with its options."""
    from emu2eval.report.listing import listing, listing_json

    put((listing_json if json else listing)(what, out, names or ()))
    if what in (None, "runs"):
        say_parts(out)
