"""The verbs `report` and `dashboard`. Heavy imports stand inside them, as in the command line itself."""

import sys
from contextlib import suppress
from typing import Annotated

import typer

from studies.terminal import JsonOption, StudyArgument, TruthsOption, console, print_json, quiet_libraries


def add_report_verbs(app: typer.Typer) -> None:
    """Add both verbs to the command line."""
    app.command(epilog="Examples: `mixscout report study.toml`, `mixscout report study.toml --json`")(report)
    app.command(epilog="Examples: `mixscout dashboard study.toml`, `mixscout dashboard study.toml --port 0`")(dashboard)


def report(study_file: StudyArgument, truths: TruthsOption = None, as_json: JsonOption = False) -> None:
    """Write all that is known of a study on one page that needs no network, with its figures as PNG, CSV and JSON.

    Nothing is merged or trained for it; what is missing says which command makes it.
    """
    quiet_libraries()
    from studies.outcome.report.run import run_report
    from studies.study_file.study_file import read_study_file

    written = run_report(read_study_file(study_file), study_file, truths)
    if as_json:
        print_json(written.as_json())
        return
    missing = [section.title for section in written.report.sections if section.missing]
    console().print(f"report: {written.page}", soft_wrap=True)
    if missing:
        console().print(f"not there yet, the page says how to get it: {'; '.join(missing)}", soft_wrap=True)


def dashboard(
    study_file: StudyArgument,
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any free one.")] = 8080,
    host: Annotated[str, typer.Option(help="Loopback address to listen on; there is no password.")] = "127.0.0.1",
    as_json: JsonOption = False,
) -> None:
    """Open optuna-dashboard on a study, with a note and our figures in it, for this machine only. Ctrl-C ends it.

    Needs `mixscout[dashboard]`. The study may go on meanwhile, and its samplers see nothing of it.
    """
    quiet_libraries()
    from studies.outcome.dashboard.run import open_dashboard
    from studies.study_file.study_file import read_study_file

    with open_dashboard(read_study_file(study_file), study_file, host=host, port=port) as opened:
        if as_json:
            print_json({"url": opened.server.url, "study_url": opened.study_url})
        else:
            console().print(f"dashboard: {opened.study_url}\nCtrl-C ends it.", soft_wrap=True)
        sys.stdout.flush()
        with suppress(KeyboardInterrupt):
            opened.server.serve_forever()
