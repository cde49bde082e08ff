"""The verbs `report` and `dashboard`. Heavy imports stand inside them, as in the command line itself."""

import typer

from studies.terminal import JsonOption, StudyArgument, console, print_json, quiet_libraries


def add_report_verbs(app: typer.Typer) -> None:
    """Add both verbs to the command line."""
    app.command(epilog="Examples: `mixscout report study.toml`, `mixscout report study.toml --json`")(report)


def report(study_file: StudyArgument, as_json: JsonOption = False) -> None:
    """Write all that is known of a study on one page that needs no network, with its figures as PNG, CSV and JSON.

    Nothing is merged or trained for it; what is missing says which command makes it.
    """
    quiet_libraries()
    from studies.config import read_study_file
    from studies.report.run import run_report

    written = run_report(read_study_file(study_file), study_file)
    if as_json:
        print_json(written.as_json())
        return
    missing = [section.title for section in written.report.sections if section.missing]
    console().print(f"report: {written.page}", soft_wrap=True)
    if missing:
        console().print(f"not there yet, the page says how to get it: {'; '.join(missing)}", soft_wrap=True)
