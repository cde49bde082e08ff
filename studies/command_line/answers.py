"""The verbs on the best mixture of a study: `best`, `robustness`, `ages`, `confirm`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pool.errors import OutputError
from studies.command_line.options import (
    DryRunOption,
    FilesOption,
    JsonOption,
    NoiseOption,
    StudyArgument,
    folder_of_files,
    pool_bench,
    print_answer,
    print_study_costs,
    private_pool_bench,
    read_study,
    tell_next,
)
from studies.command_line.verbs import Verbs
from studies.terminal import console, print_json, quiet_libraries, since_start

if TYPE_CHECKING:
    from studies.study_file.study_file import StudyFile

EncoderOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", show_default="none", help="A sentence encoder on disk: cosine of each text with its prompt."
    ),
]
BertScoreOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", show_default="none", help="An encoder on disk: BERTScore of each text with the real one."
    ),
]

answer_verbs = Verbs()


@answer_verbs.command(epilog="Examples: `mixscout best study.toml`, `mixscout best study.toml --diversity --json`")
def best(
    study_file: StudyArgument,
    diversity: Annotated[bool, typer.Option("--diversity", help="Also self-BLEU of sampled texts.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the best mixture beside uniform, token-proportional, the best single member and the seed.

    A study on a swarm shows the predicted best mixture, beside uniform and the best trained model.
    """
    config = read_study(study_file)
    quiet_libraries()
    from studies.answers.best import find_best, run_diversity
    from studies.answers.tables import show_best, show_diversity
    from studies.opened.on_pool import workbench

    if config.table is not None and not diversity:
        _best_on_table(config, study_file, as_json=as_json)
        return
    with workbench(config, must_exist=True) as bench:
        found = find_best(bench, bench.known_study())
        texts = run_diversity(bench, found) if diversity else None
    if as_json:
        print_json({**found.as_json(), **({"diversity": texts} if texts else {})})
        return
    show_best(console(), found)
    if texts:
        show_diversity(console(), texts)
    tell_next(
        "confirm", study_file, "trains the best mixture and the baselines for real; --dry-run says what that costs"
    )


def _best_on_table(config: "StudyFile", study_file: Path, *, as_json: bool) -> None:
    from studies.answers.swarm_best import find_swarm_best, show_swarm_best
    from studies.opened.on_table import swarm_bench

    with swarm_bench(config, must_exist=True) as bench:
        found = find_swarm_best(bench, bench.known_study())
    print_answer(found, show_swarm_best, as_json=as_json, then=("report", study_file, "everything on one page"))


@answer_verbs.command(
    epilog="Examples: `mixscout robustness study.toml`, `mixscout robustness study.toml --noise 0.1 --json`"
)
def robustness(
    study_file: StudyArgument,
    noise: NoiseOption = 0.05,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the noise.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Show whether the best mixture stays ahead on noisy text, on text in other case, and out of domain."""
    quiet_libraries()
    with pool_bench(study_file) as bench:
        study = bench.known_study()
        from studies.answers.robustness import run_robustness, show_robustness  # loads torch: after all is checked

        answer = run_robustness(bench, study, noise=noise, seed=seed)
    then = "confirm", study_file, "trains the best mixture and the baselines for real"
    print_answer(answer, show_robustness, as_json=as_json, then=then)


@answer_verbs.command(epilog="Examples: `mixscout ages study.toml`, `mixscout ages study.toml --merges 20 --json`")
def ages(
    study_file: StudyArgument,
    merges: Annotated[int, typer.Option(min=1, help="Most merges of the search at each age.")] = 12,
    output: FilesOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show whether the best mixture has settled, or still moves with training, by members kept on the way.

    The pool keeps them where its file sets keep_every_steps. A short search at each age starts from the study's best
    mixture. Writes a picture into the root's reports folder. A second run merges nothing.
    """
    quiet_libraries()
    from pool.files.names import file_name
    from studies.answers.ages import ages_costs, run_ages
    from studies.answers.tables import show_ages

    with private_pool_bench(study_file) if dry_run else pool_bench(study_file) as bench:
        reports, study = folder_of_files(output, bench.root / "reports"), bench.known_study()
        if dry_run:
            opening = since_start()
            print_study_costs(ages_costs(bench, study, merges), opening, as_json=as_json)
            return
        found = run_ages(bench, study, merges)
    if reports:
        from studies.answers.picture import draw_ages  # loads matplotlib

        picture = draw_ages(found, reports / f"{file_name(found.study)}.ages.png")
    print_answer(found, show_ages, as_json=as_json)
    if reports and not as_json:
        console().print(f"picture: {picture}", soft_wrap=True)
    if not as_json:
        tell_next("confirm", study_file, "trains the best mixture and the baselines for real")


@answer_verbs.command(epilog="Examples: `mixscout confirm study.toml`, `mixscout confirm study.toml --dry-run`")
def confirm(study_file: StudyArgument, dry_run: DryRunOption = False, as_json: JsonOption = False) -> None:
    """Really train the best mixture and the baselines at equal tokens, and compare with their merges."""
    quiet_libraries()
    from pool.engines.choice import chosen
    from studies.answers.confirm import confirm_costs, run_confirm
    from studies.answers.tables import show_confirmation
    from studies.opened.opened_study import best_mixture

    with (
        private_pool_bench(study_file) if dry_run else pool_bench(study_file) as bench,
        chosen(demand=bench.proxy.pool.config.demand) as trains,
    ):
        if dry_run:
            opening, best = since_start(), best_mixture(bench, bench.known_study())
            print_study_costs(confirm_costs(bench, best, trains), opening, as_json=as_json)
            return
        confirmation = run_confirm(bench, best_mixture(bench, bench.known_study()), trains)
    then = "report", study_file, "everything on one page"
    print_answer(confirmation, show_confirmation, as_json=as_json, then=then)


@answer_verbs.command(epilog="Examples: `mixscout samples study.toml`, `... --prompts 5 --encoder MODEL_FOLDER`")
def samples(
    study_file: StudyArgument,
    prompts: Annotated[int, typer.Option(min=1, help="Beginnings of documents of each held-out domain.")] = 3,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the choice of prompts, of the texts, and of their order.")
    ] = 0,
    encoder: EncoderOption = None,
    bertscore: BertScoreOption = None,
    output: FilesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let the best mixture and its baselines continue held-out text, blinded, in a CSV file for raters.

    Contenders are the seed, uniform, the best single member, the best mixture and, where there is one, the model really
    trained on it.
    """
    quiet_libraries()
    from studies.opened.opened_study import best_mixture
    from studies.outcome.samples import SamplesRequest, run_samples, samples_files, show_samples

    with pool_bench(study_file) as bench:
        reports = folder_of_files(output, bench.root / "reports")
        if reports is None:
            raise OutputError(f"{bench.root / 'reports'} may not be written by this user; name a folder with --output")
        asked = SamplesRequest(prompts, seed, encoder, bertscore)
        found = run_samples(bench, best_mixture(bench, bench.known_study()), asked, reports)
    csv, _ = samples_files(reports, found.study)
    print_answer(found, show_samples, as_json=as_json)
    if not as_json:
        console().print(f"for raters, a number under `score` for every text, higher for better: {csv}", soft_wrap=True)
        tell_next("rate", study_file, "whose texts raters prefer, once the scores are written")


@answer_verbs.command(epilog="Examples: `mixscout rate study.toml`, `mixscout rate study.toml ann.csv bob.csv`")
def rate(
    study_file: StudyArgument,
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="CSV", help="Raters' files, by default the file that `samples` wrote."),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(metavar="JSON", show_default="that of `samples`", help="The key: who wrote which text."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show whose texts raters prefer, with intervals, from the scores in the files of `samples`."""
    quiet_libraries()
    from studies.outcome.rating import find_ratings, show_ratings
    from studies.outcome.samples import read_samples, samples_files

    with pool_bench(study_file) as bench:
        csv, own = samples_files(bench.root / "reports", bench.config.name)
    found = find_ratings(read_samples(key or own), files or [csv])
    print_answer(found, show_ratings, as_json=as_json, then=("report", study_file, "everything on one page"))
