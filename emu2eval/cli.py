"""The command line: thin verbs, each of which calls what a notebook would call."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emu2eval.cli_compare import app as compare_app
from emu2eval.cli_data import Source
from emu2eval.cli_data import app as data_app
from emu2eval.cli_import import app as import_app
from emu2eval.cli_papers import app as papers_app
from emu2eval.cli_papers import show_paper
from emu2eval.errors import UserError

if TYPE_CHECKING:
    from emu2eval.evaluation import Settings

app = typer.Typer(
    help="Few-shot multimodal evaluation: how well does a model learn from demonstrations with pictures?",
    no_args_is_help=True,
    add_completion=False,
    # Plain help: rich's help costs a quarter of a second, and `--help` should answer at once.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

app.add_typer(data_app, name="data")
app.add_typer(compare_app)
app.add_typer(papers_app)
app.add_typer(import_app)

MANY = frozenset({"--task", "--model", "--shots", "--ablate", "--set"})
"""Options that take several values in one go, as in `--shots 0 4 8`."""

Tasks = Annotated[
    list[str], typer.Option("--task", "-t", help="Task names or paths of .yaml files.")
]
Models = Annotated[
    list[str], typer.Option("--model", "-m", help="Model names, .yaml files or folders.")
]
ShotCounts = Annotated[
    list[str],
    typer.Option("--shots", "-k", help="Numbers of demonstrations; '0*' = text-only ones."),
]
Sets = Annotated[
    list[str],
    typer.Option("--set", help="task., model. or judge.KEY=VALUE, as in the YAML files."),
]
JudgeName = Annotated[
    str | None,
    typer.Option("--judge", help="Who judges: a model, a .yaml file, or a model of OpenAI."),
]
Ablate = Annotated[
    list[str],
    typer.Option(
        help="Demonstrations without their: labels, pictures, order (dealt anew), or blank."
    ),
]
Out = Annotated[
    Path | None, typer.Option(help="Folder of runs [default: $EMU2EVAL_RUNS or results/runs].")
]
Seed = Annotated[int, typer.Option(help="Draws the demonstrations.")]
Protocol = Annotated[str | None, typer.Option(help="How the task asks [default: the task's own].")]
Split = Annotated[str | None, typer.Option(help="Which queries [default: the task's own].")]
Form = Annotated[str, typer.Option("--format", "-f", help="rich, markdown, csv, json or latex.")]
Runs = Annotated[list[str] | None, typer.Argument(help="Paths, names or beginnings of names.")]


@app.command(
    epilog="""\b
Examples:
  emu2eval run --task easy-vqa --shots 0 4 8
  emu2eval run --task easy-vqa --model most-common nearest --shots 4 --limit 500
  emu2eval run --task ./my_task.yaml --model ./my_model.yaml --shots 4 --trials 3
  emu2eval run --task vqav2 --shots 4 --protocol openflamingo --set task.output.beams=3
  emu2eval run --task mm_vet --model emu2-chat --protocol emu2-chat --judge gpt-4-0613
  emu2eval run --task easy-vqa-binding --shots 0 8 --ablate none labels pictures blank order

Running the same command again continues it, or does nothing. Exit code 3: some requests failed."""
)
def run(
    task: Tasks,
    shots: ShotCounts = ["0"],  # noqa: B006
    model: Models = ["emu2-nano"],  # noqa: B006
    limit: Annotated[
        int | None, typer.Option(help="Only so many queries, a fixed random subset.")
    ] = None,
    ablate: Ablate = ["none"],  # noqa: B006
    seed: Seed = 0,
    trials: Annotated[int, typer.Option(help="Repeated draws of demonstrations.")] = 1,
    split: Split = None,
    protocol: Protocol = None,
    source: Source = None,
    set_: Sets = [],  # noqa: B006
    out: Out = None,
    batch: Annotated[
        int | None, typer.Option(help="Requests at a time [default: the model's].")
    ] = None,
    fit: Annotated[
        bool, typer.Option("--fit", help="Drop the farthest demonstrations of prompts too long.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Plan and check, ask nothing.")
    ] = False,
    judge: JudgeName = None,
    groups: Annotated[bool, typer.Option("--groups", help="Show sub-scores too.")] = False,
    form: Form = "rich",
) -> None:
    """Ask a model every question of a task, score the answers, print the table."""
    settings = _settings(
        shots=shots,
        ablate=ablate,
        seed=seed,
        limit=limit,
        trials=trials,
        split=split,
        protocol=protocol,
        source=source,
        changes=[*set_, "model.settings.fit=true"] if fit else set_,
        out=out,
        batch=batch,
        judge=judge,
    )
    if dry_run:
        _dry_run(task, model, settings)
        return
    from emu2eval.evaluation import evaluate
    from emu2eval.report.progress import Bars

    with _stoppable(), Bars() as bars:
        results = evaluate(task, model, settings=settings, watcher=bars)
    _print_rows([row for result in results for row in result.rows], form, groups)
    _report_failures(results)


@app.command(
    epilog="""\b
Examples:
  emu2eval show --task easy-vqa --shots 4 --index 0
  emu2eval show --task easy-vqa --shots 2 --protocol emu2 --id test-0007-what-shape-is-in-the-image"""
)
def show(
    task: Annotated[str, typer.Option("--task", "-t", help="Task name or path of a .yaml file.")],
    shots: Annotated[str, typer.Option("--shots", "-k", help="Demonstrations, or '0*'.")] = "0",
    index: Annotated[int, typer.Option("--index", "-i", help="Place in the order of ids.")] = 0,
    id: Annotated[
        str | None, typer.Option("--id", help="The query's id, instead of its place.")
    ] = None,
    seed: Seed = 0,
    trial: Annotated[int, typer.Option(help="Which draw of demonstrations.")] = 0,
    ablate: Annotated[str, typer.Option(help="none, labels, pictures, blank or order.")] = "none",
    split: Split = None,
    protocol: Protocol = None,
    source: Source = None,
    set_: Sets = [],  # noqa: B006
) -> None:
    """Print the exact prompt of one query: parts, pictures, demonstrations and why they were chosen."""
    from emu2eval.report.prompt import show_prompt

    settings = _settings(
        seed=seed,
        ablate=[ablate],
        split=split,
        protocol=protocol,
        source=source,
        changes=set_,
        trials=trial + 1,
    )
    _console().print(show_prompt(task, shots, index, id, trial, settings), soft_wrap=True)


@app.command(
    epilog="""\b
Examples:
  emu2eval features --task vqav2
  emu2eval features --task vqav2 --split train --encoder ./clip-vit-large-patch14
  emu2eval features --task easy-vqa --encoder thumbnail
  emu2eval features --task vqav2 --encoder model --model emu2 --set model.settings.checkpoint=Emu2

`run` computes what is missing by itself. Kept in $EMU2EVAL_CACHE [default: ~/.cache/emu2eval];
stopped at any time, the same command continues."""
)
def features(
    task: Annotated[str, typer.Option("--task", "-t", help="Task name or path of a .yaml file.")],
    split: Annotated[
        list[str] | None,
        typer.Option(help="Of which pictures [default: the queries' and the demonstrations']."),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="A CLIP, SigLIP or DINO checkpoint by path or hub id, thumbnail (no weights), or "
            "model [default: the chooser's].",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Whose eyes `--encoder model` looks through."),
    ] = None,
    protocol: Protocol = None,
    set_: Sets = [],  # noqa: B006
) -> None:
    """Compute the features by which the chooser `rices` finds similar examples."""
    from emu2eval.precompute import compute_features
    from emu2eval.report.progress import Bars

    try:
        with Bars() as bars:
            found = compute_features(
                task, split, encoder, model=model, protocol=protocol, changes=set_, watcher=bars
            )
            lines = [
                f"{name}: {made.total:,} {made.kind}, {made.computed:,} of them computed now\n"
                f"  digest {made.digest}\n  in {made.folder}"
                for name, made in found
            ]
    except KeyboardInterrupt:
        _say("\nstopped; the features so far are kept, the same command continues")
        raise typer.Exit(130) from None
    typer.echo("\n".join(lines))


@app.command(
    epilog="""\b
Examples:
  emu2eval check
  emu2eval check --task vqav2
  emu2eval check --model nearest
  emu2eval check --adapter my_package.my_module:MyAdapter"""
)
def check(
    task: Annotated[
        str | None, typer.Option("--task", "-t", help="Read this task's data too.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Test this model's adapter.")
    ] = None,
    adapter: Annotated[str | None, typer.Option(help="Test an adapter, by module:attr.")] = None,
    source: Source = None,
    out: Out = None,
) -> None:
    """Check the installation, every task and model file, one task's data, or an adapter's conduct."""
    from emu2eval.report.checks import check_adapter, check_all, check_model, check_task, findings

    if adapter is not None:
        listed = check_adapter(adapter)
    elif model is not None:
        listed = check_model(model)
    elif task is not None:
        listed = check_task(task, source)
    else:
        listed = check_all(out)
    table, good = findings(listed)
    _console().print(table)
    if not good:
        raise typer.Exit(2)


@app.command(
    epilog="""\b
Examples:
  emu2eval ls tasks
  emu2eval ls runs"""
)
def ls(
    what: Annotated[str, typer.Argument(help="tasks, models, scorers, adapters or runs.")],
    out: Out = None,
) -> None:
    """List what there is."""
    from emu2eval.report.listing import listing

    typer.echo(listing(what, out), nl=False)


@app.command(
    epilog="""\b
Examples:
  emu2eval score easy-vqa_4-shot_nearest_1a2b3c4d
  emu2eval score results/runs/vqav2_4-shot_emu2_5e6f7a8b --set task.score.options.variant=always
  emu2eval score mm_vet_0-shot_emu2-chat --judge gpt-4-0613"""
)
def score(
    run: Annotated[list[str], typer.Argument(help="Runs: paths, names or beginnings of names.")],
    judge: JudgeName = None,
    set_: Sets = [],  # noqa: B006
    out: Out = None,
    groups: Annotated[bool, typer.Option("--groups", help="Show sub-scores too.")] = False,
    form: Form = "rich",
) -> None:
    """Score stored runs anew, without their model; with a judge, ask for what it has not said yet."""
    from emu2eval.evaluation import score_again
    from emu2eval.report import runs
    from emu2eval.report.progress import Bars

    with _stoppable(), Bars() as bars:
        results = [
            score_again(folder, set_, judge=judge, watcher=bars) for folder in runs.find(run, out)
        ]
    _print_rows([row for result in results for row in result.rows], form, groups)
    _report_failures(results)


@app.command(
    epilog="""\b
Examples:
  emu2eval submit vqav2_4-shot_emu2_5e6f7a8b
  emu2eval submit results/runs/vqav2_4-shot_emu2_5e6f7a8b --out test-dev.json

Exit code 3: questions of the run's own split have no answer and were left empty."""
)
def submit(
    run: Annotated[str, typer.Argument(help="A run: its path, name or beginning of its name.")],
    file: Annotated[
        Path | None, typer.Option("--out", help="[default: submission.json in the run's folder]")
    ] = None,
    runs: Annotated[
        Path | None, typer.Option(help="Folder of runs [default: $EMU2EVAL_RUNS or results/runs].")
    ] = None,
) -> None:
    """Write the file that a hidden test split's server wants, complete, and check it."""
    from emu2eval.report import runs as stored
    from emu2eval.submit import submit as write

    written = write(stored.one(run, runs), file)
    _say(written.summary())
    if written.unanswered:
        raise typer.Exit(3)


@app.command(
    epilog="""\b
Examples:
  emu2eval table
  emu2eval table easy-vqa --format markdown
  emu2eval table results/runs --groups --format csv
  emu2eval table --pivot --sort easy-vqa
  emu2eval table --by model --sort value
  emu2eval table --paper emu2 --table 1 --format latex"""
)
def table(
    runs: Runs = None,
    pivot: Annotated[
        bool,
        typer.Option("--pivot", help="A leaderboard: a line a model, a column a task and shots."),
    ] = False,
    by: Annotated[
        str | None, typer.Option(help="Group by task, model, shots, protocol or split.")
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            help="A column (value: best first; -NAME: falling); with --pivot model, rank or a task."
        ),
    ] = None,
    paper: Annotated[
        str | None, typer.Option(help="Beside the numbers of a paper: emu2eval ls papers.")
    ] = None,
    number: Annotated[
        str | None, typer.Option("--table", help="With --paper: this table alone.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="With --paper: the published model all runs stand against.")
    ] = None,
    out: Out = None,
    groups: Annotated[bool, typer.Option("--groups", help="Show sub-scores too.")] = False,
    form: Form = "rich",
) -> None:
    """Print the table of stored runs [default: all], as a leaderboard, or beside a paper's numbers."""
    if paper is not None:
        show_paper(paper, number, against, runs or [], out, form)
        return
    if number is not None or against is not None:
        raise UserError("--table and --against are for --paper", hint="emu2eval table --paper emu2")
    from emu2eval.report import leaderboard
    from emu2eval.report import runs as stored

    rows = [row for folder in stored.find(runs or [], out) for row in stored.rows(folder)]
    if not rows:
        _say("there are no runs yet; for example: emu2eval run --task easy-vqa --shots 4")
        return
    if pivot and form == "rich":
        _console().print(leaderboard.rich_board(rows, sort))
    elif pivot:
        typer.echo(leaderboard.render_board(rows, form, sort), nl=False)
    else:
        shown = [row for row in rows if groups or row.group is None]
        _print(leaderboard.arranged(shown, by, sort), form, by)


@app.command(
    epilog="""\b
Examples:
  emu2eval curves
  emu2eval curves easy-vqa --file easy-vqa.png"""
)
def curves(
    runs: Runs = None,
    file: Annotated[Path, typer.Option(help="A .png, .svg or .pdf file.")] = Path("curves.svg"),
    out: Out = None,
) -> None:
    """Draw the few-shot curves of stored runs [default: all] to a file."""
    from emu2eval.report import curves as drawing
    from emu2eval.report import runs as stored

    rows = [row for folder in stored.find(runs or [], out) for row in stored.rows(folder)[:1]]
    drawing.draw(rows, file)
    _say(f"wrote {file}")


@app.command(
    epilog="""\b
Examples:
  emu2eval report
  emu2eval report easy-vqa --out easy-vqa.html
  emu2eval report results/runs/before results/runs/after --out both.html --inline

Pictures are small copies in a folder beside the page, which belongs to it; with --inline the page is one
file. It needs no network. j and k go through the samples, ? shows every key."""
)
def report(
    runs: Runs = None,
    file: Annotated[Path, typer.Option("--out", help="The .html file.")] = Path("report.html"),
    inline: Annotated[
        bool, typer.Option("--inline", help="Pictures inside the page: one file, but a large one.")
    ] = False,
    folder: Annotated[
        Path | None,
        typer.Option("--runs", help="Folder of runs [default: $EMU2EVAL_RUNS or results/runs]."),
    ] = None,
) -> None:
    """Write an HTML page of stored runs [default: all]: curves, differences, every sample."""
    from emu2eval.report import page
    from emu2eval.report import runs as stored

    written = page.write(stored.find(runs or [], folder), file, inline=inline)
    for reason in written.promptless:
        _say(f"shown without prompts: {reason}")
    _say(f"wrote {file}: {written.runs:,} runs, {written.samples:,} answers")


@app.command(
    epilog="""\b
Examples:
  emu2eval sheet easy-vqa-draw_0-shot_emu2-nano_1a2b3c4d
  emu2eval sheet easy-vqa-draw-names --file names.png --most 12"""
)
def sheet(
    run: Annotated[str, typer.Argument(help="A run with pictures: path, name or its beginning.")],
    file: Annotated[Path, typer.Option(help="A .png, .jpg, .webp or .pdf file.")] = Path(
        "sheet.png"
    ),
    most: Annotated[int, typer.Option(min=1, help="Queries, spread evenly over the run.")] = 48,
    out: Out = None,
) -> None:
    """Draw a contact sheet of a run: prompts, references and the pictures that were made."""
    from emu2eval.report import runs
    from emu2eval.report import sheet as drawing

    found = runs.find([run], out)
    if len(found) > 1:
        names = ", ".join(folder.name for folder in found[:3])
        _fail(f"{run!r} is the beginning of {len(found)} runs ({names}, …); a sheet shows one")
    shown = drawing.draw(found[0], file, most)
    _say(f"wrote {file}: {shown} queries")


@app.command(
    epilog="""\b
Examples:
  emu2eval keep easy-vqa_4-shot_emu2-nano
  emu2eval keep easy-vqa-binding --into my-references"""
)
def keep(
    run: Annotated[list[str], typer.Argument(help="Runs: paths, names or beginnings of names.")],
    into: Annotated[Path, typer.Option(help="Folder of references.")] = Path("results/reference"),
    out: Out = None,
) -> None:
    """Keep small records of finished runs, to be repeated later with `emu2eval repeat`."""
    from emu2eval import reference
    from emu2eval.report import runs

    for folder in runs.find(run, out):
        _say(f"kept {reference.keep(folder, into)}")


@app.command(
    epilog="""\b
Examples:
  emu2eval repeat
  emu2eval repeat results/reference/easy-vqa-binding* --limit 100

Exit code 1: more answers differ than another processor explains."""
)
def repeat(
    references: Annotated[
        list[str] | None, typer.Argument(help="Folders of references [default: results/reference].")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only so many queries of each, a fixed subset.")
    ] = None,
    out: Out = None,
) -> None:
    """Repeat reference runs with today's code and weights, and say which answers differ."""
    import tempfile

    from emu2eval import reference
    from emu2eval.report import runs
    from emu2eval.report.progress import Bars
    from emu2eval.report.repeated import repeated_table

    folders = runs.find(references or ["results/reference"], out)
    with tempfile.TemporaryDirectory() as scratch, Bars() as bars:
        results = [reference.repeat(f, out or Path(scratch), limit, bars) for f in folders]
    _console().print(repeated_table(results))
    if not all(result.agrees for result in results):
        raise typer.Exit(1)


@app.command(
    epilog="""\b
Examples:
  emu2eval plan --model emu2-chat --memory 24GiB,24GiB,24GiB,24GiB --shots 4 --batch 2
  emu2eval plan --model emu2-gen --memory 5x24GiB
  emu2eval plan --model emu2 --memory 24GiB,cpu:64GiB --quantize 8"""
)
def plan(
    model: Annotated[str, typer.Option("--model", "-m", help="An Emu2 model or .yaml file.")],
    memory: Annotated[
        str, typer.Option(help="One size for each GPU; then, if wanted, cpu:SIZE and disk.")
    ],
    shots: Annotated[int, typer.Option("--shots", "-k", min=0, help="Demonstrations.")] = 0,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Requests at a time [default: the model's].")
    ] = None,
    beams: Annotated[
        int | None, typer.Option(min=1, help="Beams of the search [default: the model's].")
    ] = None,
    quantize: Annotated[
        int | None, typer.Option(help="8 or 4 bits [default: the model's].")
    ] = None,
    pictures: Annotated[int, typer.Option(min=0, help="Pictures of one demonstration.")] = 1,
    text: Annotated[int, typer.Option(min=0, help="Text tokens of one demonstration.")] = 32,
    new_tokens: Annotated[int, typer.Option(min=1, help="Tokens of the answer.")] = 10,
) -> None:
    """Show which part of a model goes to which device, without weights and without a GPU."""
    from emu2eval.report.placement import show_plan

    _console().print(
        show_plan(
            model,
            memory,
            shots,
            batch,
            beams=beams,
            quantize=quantize,
            pictures=pictures,
            text_tokens=text,
            new_tokens=new_tokens,
        )
    )


def main() -> None:
    """The `emu2eval` program. Exit codes: 2 for what the user can mend, 3 for failed requests."""
    sys.argv[1:] = spread(sys.argv[1:])
    try:
        app()
    except UserError as error:
        _fail(str(error))
    except BrokenPipeError:
        # The reader of a pipe, such as `head`, has seen enough.
        sys.stderr.close()
        raise SystemExit(0) from None


def spread(arguments: list[str]) -> list[str]:
    """`--shots 0 4 8` -> `--shots 0 --shots 4 --shots 8`, for options of many values.

    >>> spread(["run", "--shots", "0", "4", "--limit", "5"])
    ['run', '--shots', '0', '--shots', '4', '--limit', '5']
    """
    short = {"-t": "--task", "-m": "--model", "-k": "--shots"}
    if arguments[:1] not in (["run"], ["reproduce"]):
        return arguments
    out: list[str] = []
    option = None
    taken = 0
    for argument in arguments:
        if argument.startswith("-") and argument != "-":
            option = short.get(argument, argument)
            option = option if option in MANY else None
            taken = 0
        elif option is not None:
            if taken:
                out.append(option)
            taken += 1
        out.append(argument)
    return out


def _settings(**values: Any) -> Settings:
    from emu2eval.evaluation import Settings

    return Settings(**values)


def _dry_run(tasks: list[str], models: list[str], settings: Settings) -> None:
    from emu2eval.report.preview import preview
    from emu2eval.report.progress import Bars

    with Bars() as bars:
        table = preview(tasks, models, settings, bars)
    _console().print(table)


def _print_rows(rows: list[Any], form: str, groups: bool) -> None:
    from emu2eval.report.table import order

    _print(order([row for row in rows if groups or row.group is None]), form)


def _print(rows: list[Any], form: str, by: str | None = None) -> None:
    from emu2eval.report.table import render, rich_table

    if form == "rich":
        _console().print(rich_table(rows, by=by))
    else:
        typer.echo(render(rows, form), nl=False)


@contextmanager
def _stoppable() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        _say("\nstopped; every answer so far is kept, the same command continues")
        raise typer.Exit(130) from None


def _report_failures(results: list[Any]) -> None:
    unscored = sum(result.failed for result in results)
    if unscored:
        _say(
            f"{unscored:,} requests failed and are unscored; the same command asks them again. "
            "Why: the `error` in responses.jsonl of the run's folder"
        )
        raise typer.Exit(3)


def _console() -> Any:
    from emu2eval.report.console import console

    return console()


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _fail(text: str) -> None:
    _say(f"error: {text}")
    raise SystemExit(2)


if __name__ == "__main__":
    main()
