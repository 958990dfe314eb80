"""Asking a model, and showing what it would be asked: run, show, features."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from emu2eval.cli import completion, parts
from emu2eval.cli.experiment import given, run_experiment
from emu2eval.cli.get import with_data
from emu2eval.cli.logs import logged
from emu2eval.cli.options import (
    Ablate,
    Batch,
    ClusterAddress,
    Device,
    Engine,
    Form,
    JudgeName,
    Limit,
    Log,
    Models,
    Out,
    PartNumber,
    Protocol,
    ReplicaCount,
    ScorerName,
    Seed,
    Sets,
    ShotCounts,
    Source,
    Split,
    Task,
    Tasks,
)
from emu2eval.cli.say import (
    console,
    print_results,
    put,
    report_failures,
    say,
    say_damage,
    stoppable,
)
from emu2eval.errors import UserError

app = typer.Typer(rich_markup_mode=None)


@app.command(
    epilog="""\b
Examples:
  emu2eval run --task easy-vqa --shots 0 4 8
  emu2eval run --task easy-vqa --model most-common nearest --shots 4 \\
      --limit 500
  emu2eval run --task ./my_task.yaml --model ./my_model.yaml --shots 4 \\
      --trials 3
  emu2eval run --task vqav2 \\
      --model ./my-finetuned-checkpoint Qwen/Qwen2.5-VL-7B-Instruct --shots 4
  emu2eval run --task vqav2 --shots 4 --protocol openflamingo \\
      --set task.output.beams=3
  emu2eval run --task mm_vet --model emu2-chat --protocol emu2-chat \\
      --judge gpt-4-0613
  emu2eval run --task easy-vqa-binding --shots 0 8 \\
      --ablate none labels images blank order
  emu2eval run --task vqav2 --shots 4 --model Qwen/Qwen2.5-VL-7B-Instruct \\
      --engine vllm --set model.settings.options.max_model_len=32768
  emu2eval run --task easy-vqa --shots 4 --log tensorboard=logs
  emu2eval run --task vqav2 --shots 4 --model emu2 --replicas auto
  emu2eval run --task vqav2 --shots 4 --model emu2 --part 3/16
  emu2eval run experiment.yaml

An experiment file lists models, tasks, shots, seeds, protocols and settings. An option given with it
overrides the file for every run; --task and --model select among the file's, and --set is applied last.

Run the same command again to continue an interrupted run; stored answers are reused. Exit code 3: some
requests failed, or some of a judge's replies could not be parsed."""
)
def run(
    context: typer.Context,
    experiment: Annotated[
        str | None, typer.Argument(help="An experiment's .yaml file, instead of --task.")
    ] = None,
    task: Tasks = [],  # noqa: B006
    shots: ShotCounts = [],  # noqa: B006
    model: Models = None,
    limit: Limit = None,
    ablate: Ablate = ["none"],  # noqa: B006
    seed: Seed = 0,
    trials: Annotated[
        int,
        typer.Option(
            help="Repeat with N draws of demonstrations, and of answers if the model samples "
            "(--set model.settings.temperature=0.7). Trials of one question form one cluster."
        ),
    ] = 1,
    split: Split = None,
    protocol: Protocol = None,
    source: Source = None,
    set_: Sets = [],  # noqa: B006
    out: Out = None,
    batch: Batch = None,
    device: Device = None,
    replicas: ReplicaCount = None,
    cluster: ClusterAddress = None,
    part: PartNumber = None,
    engine: Engine = None,
    fit: Annotated[
        bool,
        typer.Option(
            "--fit",
            help="If a prompt is too long, drop the demonstrations farthest from the query.",
        ),
    ] = False,
    skip_missing: Annotated[
        bool,
        typer.Option(
            "--skip-missing",
            help="Skip samples whose image or video file is missing; the table counts them.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Plan and check, but send no requests.")
    ] = False,
    judge: JudgeName = None,
    label: Annotated[
        str | None,
        typer.Option(
            help="Display name of the model in tables, stored with the runs; '' restores the model's name."
        ),
    ] = None,
    scorer: ScorerName = None,
    log: Log = [],  # noqa: B006
    groups: Annotated[bool, typer.Option("--groups", help="Show sub-scores too.")] = False,
    form: Form = "rich",
) -> None:
    """Evaluate models on tasks: prompt, score the answers, print the table."""
    if experiment is not None and label is not None:
        raise UserError(
            "--label names a single model; in an experiment, set names in the file",
            hint="models: [{name: NAME, adapter: …}] in the file",
        )
    if experiment is not None:
        options_given = given(context)
        if part is not None:
            options_given["part"] = parts.asked(part)
        run_experiment(
            experiment, options_given, dry_run=dry_run, log=log, groups=groups, form=form
        )
        return
    if not task:
        raise UserError(
            "no task and no experiment file given",
            hint="emu2eval run --task easy-vqa --shots 0 4, or emu2eval run experiment.yaml",
        )
    from emu2eval.engine.models import models_for
    from emu2eval.engine.options import RunOptions
    from emu2eval.report.progress import Bars

    options = RunOptions.of(
        shots=shots,
        ablate=ablate,
        seed=seed,
        limit=limit,
        trials=trials,
        split=split,
        protocol=protocol,
        source=source,
        changes=set_,
        fit=fit,
        skip_missing=skip_missing,
        out=out,
        batch=batch,
        device=device,
        replicas=replicas,
        cluster=cluster,
        part=parts.asked(part),
        engine=engine,
        judge=judge,
        label=label,
        scorer=scorer,
    )
    models = models_for(task, model)
    from emu2eval.engine.evaluation import jobs_of, planned, run_all

    if dry_run:
        from emu2eval.report.preview import preview

        def table() -> Any:
            with Bars() as bars:
                return preview(planned(jobs_of(task, models, options), bars), bars)

        console().print(with_data(table))
        return

    def asked() -> list[Any]:
        with Bars() as bars, logged(log, bars) as told:
            return run_all(task, models, options, told)

    with stoppable():
        results = with_data(asked)
    if part is not None:
        parts.report(results, options.part)
        return
    from emu2eval.runs.apart import read_table_run, told_apart

    stored = told_apart([read_table_run(result.folder) for result in results])
    print_results([row for run in stored for row in run.rows], form, groups)
    report_failures(results)


@app.command(
    epilog="""\b
Examples:
  emu2eval show --task easy-vqa --shots 4 --index 0
  emu2eval show --run easy-vqa_4-shot_nearest_1a2b3c4d --index 0
  emu2eval show --task easy-vqa --shots 2 --protocol emu2 \\
      --id test-0007-what-shape-is-in-the-image"""
)
def show(
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            "-t",
            help="Task name or path of a .yaml file.",
            autocompletion=completion.tasks,
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--run", "-r", help="Show a stored run instead: its prompts, answers and scores."
        ),
    ] = None,
    shots: Annotated[
        str, typer.Option("--shots", "-k", help="Number of demonstrations, or '0*'.")
    ] = "0",
    index: Annotated[
        int, typer.Option("--index", "-i", help="Position of the query in id order, from 0.")
    ] = 0,
    id: Annotated[
        str | None, typer.Option("--id", help="The query's id, instead of --index.")
    ] = None,
    seed: Seed = 0,
    trial: Annotated[
        int, typer.Option(help="Which trial (draw of demonstrations and answer), from 0.")
    ] = 0,
    ablate: Annotated[str, typer.Option(help="none, labels, images, blank or order.")] = "none",
    split: Split = None,
    protocol: Protocol = None,
    source: Source = None,
    set_: Sets = [],  # noqa: B006
    out: Out = None,
) -> None:
    """Print the exact prompt of one query: parts, images, demonstrations and why they were chosen.

    For a stored run, also print the model's answer, reasoning, raw text, errors and score."""
    if run is not None:
        from emu2eval.report.answer import show_answer
        from emu2eval.runs import locate

        if task is not None:
            raise UserError("--run already determines the task: remove --task")
        folder = locate.one(run, out)
        say_damage([folder])
        console().print(show_answer(folder, index, id, trial), soft_wrap=True)
        return
    if task is None:
        raise UserError("no task or run given", hint="emu2eval show --task easy-vqa --shots 4")
    from emu2eval.engine.options import RunOptions
    from emu2eval.report.prompt import show_prompt

    options = RunOptions.of(
        shots=shots,
        seed=seed,
        ablate=ablate,
        split=split,
        protocol=protocol,
        source=source,
        changes=set_,
        trials=trial + 1,
    )
    shown = with_data(lambda: show_prompt(task, index, id, trial, options))
    console().print(shown, soft_wrap=True)


@app.command(
    epilog="""\b
Examples:
  emu2eval features --task vqav2
  emu2eval features --task vqav2 --split train \\
      --encoder ./clip-vit-large-patch14
  emu2eval features --task easy-vqa --encoder thumbnail
  emu2eval features --task vqav2 --encoder model --model emu2 \\
      --set model.settings.checkpoint=Emu2

`run` computes missing features itself. They are stored in $EMU2EVAL_CACHE [default: ~/.cache/emu2eval]. If
interrupted, run the same command again to continue."""
)
def features(
    task: Task,
    split: Annotated[
        list[str] | None,
        typer.Option(
            help="Splits to encode [default: those of the queries and the demonstrations]."
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="A CLIP, SigLIP or DINO checkpoint (path or hub id), thumbnail (no weights), or "
            "model [default: the chooser's].",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="The model whose image encoder `--encoder model` uses.",
            autocompletion=completion.models,
        ),
    ] = None,
    protocol: Protocol = None,
    device: Device = None,
    replicas: ReplicaCount = None,
    cluster: ClusterAddress = None,
    set_: Sets = [],  # noqa: B006
) -> None:
    """Compute the features that the chooser `rices` uses to find similar demonstrations."""
    from emu2eval.engine.options import RunOptions
    from emu2eval.engine.precompute import compute_features
    from emu2eval.report.progress import Bars
    from emu2eval.spec.changes import Changes

    def computed() -> list[str]:
        with Bars() as bars:
            found = compute_features(
                task,
                split,
                encoder,
                model=model,
                protocol=protocol,
                changes=Changes.of(set_),
                at=RunOptions.of(device=device, replicas=replicas, cluster=cluster).where,
                watcher=bars,
            )
            return [
                f"{name}: {made.total:,} {made.kind}, {made.computed:,} newly computed\n"
                f"  digest {made.digest}\n  in {made.folder}"
                for name, made in found
            ]

    try:
        lines = with_data(computed)
    except KeyboardInterrupt:
        say("\nstopped; features so far are saved, run the same command again to continue")
        raise typer.Exit(130) from None
    put("\n".join(lines) + "\n")
