"""The verbs on a study's outcome: `export`, `distill`, `table`, `handover`, `cost`, `report`, `dashboard`."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

import typer

from studies.command_line.options import (
    DryRunOption,
    JsonOption,
    StudyArgument,
    TruthsOption,
    pool_bench,
    print_answer,
    print_study_costs,
    private_pool_bench,
    read_study,
    tell_next,
    writable_folder,
)
from studies.command_line.verbs import Verbs
from studies.terminal import console, print_json, print_next, quiet_libraries, since_start


def _new_folder(folder: Path) -> Path:
    """Check the place of a new folder before the work that it is to hold. Raises `StudyError`, `OutputError`."""
    from studies.outcome.handover.export import refuse_folder

    refuse_folder(folder)
    writable_folder(folder)
    return folder


FolderArgument = Annotated[
    Path, typer.Argument(metavar="DIR", help="A folder that does not exist yet.", callback=_new_folder)
]

Quantise = Literal["int8", "int4"]
Prune = Literal["wanda", "magnitude"]
Teacher = Literal["merged", "trained"]
Start = Literal["layers", "scratch"]
FILE = "the study file's"

outcome_verbs = Verbs()


@outcome_verbs.command(
    epilog="Examples: `mixscout export study.toml merged`, `... --quantise int8`, `... --push-to-hub OWNER/NAME` with "
    "HF_HUB_OFFLINE=0"
)
def export(
    study_file: StudyArgument,
    folder: FolderArgument,
    push_to_hub: Annotated[
        str | None,
        typer.Option(
            metavar="OWNER/NAME",
            show_default="off",
            help="Also commit the files to this model on the Hugging Face hub, private if new; the token is HF_TOKEN.",
        ),
    ] = None,
    quantise: Annotated[
        Quantise | None,
        typer.Option(show_default="off", help="Store weights as packed integers, embeddings too (mixscout[quantise])."),
    ] = None,
    prune: Annotated[
        float | None,
        typer.Option(metavar="SHARE", show_default="off", help="Set this share of the linear layers' weights to zero."),
    ] = None,
    pruning: Annotated[
        Prune, typer.Option(help="Which weights: by size and the layer's inputs (Wanda), or by size alone.")
    ] = "wanda",
) -> None:
    """Write the merge of the best mixture as a Hugging Face checkpoint, with a model card and mixture.json.

    Quantised or pruned, the model is read back and compared with the merge on every held-out domain, in a table and in
    compression.json.
    """
    quiet_libraries()
    from pool.files.hub import check_pushing, push
    from studies.answers.best import find_best
    from studies.outcome.handover.export import run_export
    from studies.outcome.smaller.compress import Compression, run_compressed, show_compressed

    wanted = Compression(quantise, prune, pruning)
    if push_to_hub is not None:
        check_pushing(push_to_hub)
    with pool_bench(study_file) as bench:
        found = find_best(bench, bench.known_study())
        if wanted.asked:
            show_compressed(console(), run_compressed(bench, found, folder, wanted))
        else:
            run_export(bench, found, folder)
    console().print(f"wrote {folder}", soft_wrap=True)
    if push_to_hub is not None:
        commit = push(folder, push_to_hub, f"{found.study}: merge of the best mixture")
        console().print(f"pushed to {push_to_hub} at {commit}", soft_wrap=True)
    tell_next("handover", study_file, "the best mixture as files for training stacks", more="DIR")


@outcome_verbs.command(
    epilog="Examples: `mixscout distill study.toml --dry-run`, `mixscout distill study.toml --layers 2 --output small`"
)
def distill(
    study_file: StudyArgument,
    layers: Annotated[
        int | None, typer.Option(min=1, show_default="half of the teacher's", help="Decoder layers of the student.")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(metavar="CONFIG", exists=True, show_default="none", help="The student's config.json."),
    ] = None,
    teacher: Annotated[Teacher | None, typer.Option(show_default=FILE, help="Whose probabilities to learn.")] = None,
    temperature: Annotated[
        float | None, typer.Option(show_default=FILE, help="Divides the logits of teacher and student.")
    ] = None,
    hard_share: Annotated[
        float | None, typer.Option(show_default=FILE, help="Share of the usual loss, on the text's tokens.")
    ] = None,
    start: Annotated[
        Start | None, typer.Option(show_default=FILE, help="Begin with layers of the teacher, or at random.")
    ] = None,
    orders: Annotated[int | None, typer.Option(show_default=FILE, help="Orders of the data.")] = None,
    tokens: Annotated[int | None, typer.Option(show_default=FILE, help="Training tokens of each student.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", show_default="none", help="A new folder for the best student, with a card."),
    ] = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train smaller students of the best mixture, each with a teacher and without, and compare them on every domain.

    The teacher is the merge, or the model really trained. Students are kept in the pool's folder: a second call trains
    nothing, and a killed one goes on.
    """
    if output is not None:
        _new_folder(output)
    config = read_study(study_file)
    quiet_libraries()
    from studies.opened.opened_study import best_mixture
    from studies.outcome.smaller.distill import Asked, distill_costs, run_distill, settings_of, show_distilled

    given = {"teacher": teacher, "temperature": temperature, "hard_share": hard_share, "start": start}
    asked = Asked(settings_of(config.distill, {**given, "orders": orders, "tokens": tokens}), layers, model)
    with private_pool_bench(study_file) if dry_run else pool_bench(study_file) as bench:
        best = best_mixture(bench, bench.known_study())
        if dry_run:
            opening = since_start()
            print_study_costs(distill_costs(bench, best, asked), opening, as_json=as_json)
            return
        found = run_distill(bench, best, asked, output)
    print_answer(found, show_distilled, as_json=as_json)
    if output is None and not as_json:
        tell_next("distill", study_file, "writes the best student with a card; nothing is trained", more="--output DIR")


@outcome_verbs.command(
    epilog='Example: `mixscout table study.toml evaluated`, then `table = "evaluated"` in a study file'
)
def table(study_file: StudyArgument, folder: FolderArgument, as_json: JsonOption = False) -> None:
    """Write a study's evaluations as a swarm: ratios.csv and metrics.csv. Another target then needs no new merge."""
    quiet_libraries()
    from studies.outcome.handover.export import run_table

    with pool_bench(study_file) as bench:
        bench.known_study()
        written = run_table(bench, folder)
    if as_json:
        parts = {"partitions": written.names, "metrics": tuple(written.metrics)}
        print_json({"folder": str(folder), "runs": len(written.runs), **parts})
        return
    console().print(
        f"wrote {len(written.runs)} evaluated mixtures of {len(written.names)} partitions with "
        f"{len(written.metrics)} metrics ({', '.join(written.metrics)}) to {folder}",
        soft_wrap=True,
    )
    print_next("mixscout search OTHER.toml", f'with table = "{folder}" in it, and another target')


@outcome_verbs.command(epilog="Examples: `mixscout handover study.toml run-1`, `... --tokens 5000000000 --text`")
def handover(
    study_file: StudyArgument,
    folder: FolderArgument,
    tokens: Annotated[
        int | None, typer.Option(min=1, show_default="the study's training budget", help="Tokens of the training run.")
    ] = None,
    text: Annotated[
        bool, typer.Option("--text", help="Also the training documents of the partitions, as JSONL.")
    ] = False,
    token_files: Annotated[
        str, typer.Option(metavar="PATTERN", help="Where OLMo-core finds a partition's files of tokens.")
    ] = "tokens/{partition}/*.npy",
    as_json: JsonOption = False,
) -> None:
    """Write the best mixture for training stacks: JSON and YAML, a datasets script, OLMo-core, Olmix, mergekit."""
    quiet_libraries()
    from studies.opened.opened_study import best_mixture
    from studies.opened.space import training_budget
    from studies.outcome.handover.export import run_handover
    from studies.outcome.handover.plan import show_plan

    with pool_bench(study_file) as bench:
        best = best_mixture(bench, bench.known_study())
        total = tokens or training_budget(bench.config.space, bench.basis)
        plan = run_handover(bench, best, folder, tokens=total, token_files=token_files, with_text=text)
    if as_json:
        print_json(plan.as_json())
        return
    show_plan(console(), plan)
    console().print(f"wrote {folder}", soft_wrap=True)
    tell_next("report", study_file, "everything on one page")


@outcome_verbs.command(epilog="Examples: `mixscout cost study.toml`, `mixscout cost study.toml --price-per-hour 2.5`")
def cost(
    study_file: StudyArgument,
    price_per_hour: Annotated[
        float | None,
        typer.Option(min=0, show_default="none", help="Price of an hour of a GPU or, without GPUs, of a processor."),
    ] = None,
    swarm: Annotated[int, typer.Option(min=1, help="Models of the swarm to compare with; RegMix trained 512.")] = 512,
    as_json: JsonOption = False,
) -> None:
    """Show what a study has cost, part by part, beside a swarm, an ablation of every subset, and published swarms.

    Nothing is merged, trained or written.
    """
    config = read_study(study_file)
    quiet_libraries()
    from studies.outcome.cost.find import run_cost
    from studies.outcome.report.sections.reproduction import show_bill

    bill = run_cost(config, swarm=swarm, price_per_hour=price_per_hour)
    print_answer(bill, show_bill, as_json=as_json, then=("report", study_file, "everything on one page"))


@outcome_verbs.command(epilog="Examples: `mixscout report study.toml`, `mixscout report study.toml --json`")
def report(
    study_file: StudyArgument,
    truths: TruthsOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", show_default="ROOT/reports/STUDY", help="Folder of the report.", callback=writable_folder
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a study's report: one page that needs no network, with its figures as PNG, CSV and JSON.

    The report merges and trains nothing. A section without data names the command that makes them.
    """
    config = read_study(study_file)
    quiet_libraries()
    from studies.outcome.report.report import run_report

    written = run_report(config, study_file, truths, output)
    if as_json:
        print_json(written.as_json())
        return
    missing = [section.title for section in written.report.sections if section.missing]
    console().print(f"report: {written.page}", soft_wrap=True)
    if missing:
        console().print(f"not there yet, the page says how to get it: {'; '.join(missing)}", soft_wrap=True)
    tell_next("handover", study_file, "the best mixture as files for training stacks", more="DIR")


@outcome_verbs.command(epilog="Examples: `mixscout dashboard study.toml`, `mixscout dashboard study.toml --port 0`")
def dashboard(
    study_file: StudyArgument,
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any free one.")] = 8080,
    host: Annotated[str, typer.Option(help="Loopback address to listen on; there is no password.")] = "127.0.0.1",
    as_json: JsonOption = False,
) -> None:
    """Open optuna-dashboard on a study, with a note and the report's figures, for this machine only. Ctrl-C ends it.

    Needs `mixscout[dashboard]`. The study may run meanwhile: its samplers notice nothing.
    """
    from studies.outcome.dashboard.loopback import check_installed, check_loopback, check_port

    check_loopback(host)
    check_port(port)
    check_installed()
    config = read_study(study_file)
    quiet_libraries()
    from studies.outcome.dashboard.run import open_dashboard

    with open_dashboard(config, study_file, host=host, port=port) as opened:
        if as_json:
            print_json({"url": opened.server.url, "study_url": opened.study_url})
        else:
            console().print(f"dashboard: {opened.study_url}\nCtrl-C ends it.", soft_wrap=True)
        sys.stdout.flush()
        with suppress(KeyboardInterrupt):
            opened.server.serve_forever()
