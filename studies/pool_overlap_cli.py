"""The verb `pool overlap`. Heavy imports stand inside it, as in the command line itself."""

import typer

from studies.terminal import JsonOption, PoolArgument, TextRootOption, console, print_json, quiet_libraries


def add_pool_overlap_verb(pool_app: typer.Typer) -> None:
    """Add the verb to those of `pool`."""
    example = "Examples: `mixscout pool overlap pool.toml`, `mixscout pool overlap pool.toml --json`"
    pool_app.command("overlap", epilog=example)(overlap)


def overlap(pool_file: PoolArgument, text_root: TextRootOption = None, as_json: JsonOption = False) -> None:
    """Tell which held-out documents share a passage of 13 words with training text. Reads the text, builds nothing."""
    quiet_libraries()
    from pool.config.pool_file import read_pool_file
    from pool.corpus.overlap import find_overlap
    from pool.tokens.reading import read_corpus
    from studies.assessment.pool_check.overlap_table import show_overlap

    config = read_pool_file(pool_file, text_root)
    found = find_overlap(read_corpus(config), config.corpus.scored)
    if as_json:
        print_json({"pool": config.name, **found.as_json()})
    else:
        show_overlap(console(), found)
