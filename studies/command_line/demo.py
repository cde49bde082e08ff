"""The verb `demo`: the main job end to end on the demo corpus, in a few minutes on two CPU cores."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from rich.console import Console

from pool.building.build import build_pool
from pool.config.pool_file import PoolFile, read_pool_file
from pool.engines.choice import chosen
from pool.errors import StudyError
from pool.files.whole import write_text
from pool.parts.commands import Meter
from pool.progress import say
from studies.answers.best import find_best
from studies.answers.confirm import run_confirm
from studies.answers.picture import draw_study
from studies.answers.tables import show_best
from studies.opened.ledger import charge
from studies.opened.on_pool import workbench
from studies.running.run import run_search
from studies.study_file.study_file import StudyFile, read_study_file


def run_demo(root: Path, console: Console) -> None:
    """Write pool.toml and study.toml under `root` (kept as they are if there), then build, search and confirm."""
    started, meter = time.monotonic(), Meter("demo", of_process=True)
    pool_file = _write_example("demo_pool.toml", root / "pool.toml")
    study_file = _write_example("demo_study.toml", root / "study.toml")
    say(f"building the pool of {pool_file}")
    pool_config, config = read_pool_file(pool_file), read_study_file(study_file)
    with _charged(meter, config):
        with chosen(demand=pool_config.demand) as engine:
            with _charged(meter, pool_config):
                pool = build_pool(pool_config, engine=engine)
            say(f"pool ready after {time.monotonic() - started:.0f} s; searching for the best mixture of {study_file}")
            with workbench(config, writes=True) as bench:
                run_search(bench, config.search.merges)
                study = bench.known_study()
                best = find_best(bench, study)
                say(
                    f"searched after {time.monotonic() - started:.0f} s; training the winner and the baselines for real"
                )
                confirmation = run_confirm(bench, best.mixture, engine)
                picture = draw_study(best, study, root / "reports" / f"{config.name}.png")
        show_best(console, best, confirmation)
        took = time.monotonic() - started
        console.print(f"picture: {picture}", soft_wrap=True)
        console.print(f"all of it on one page: mixscout report {study_file}", soft_wrap=True)
        console.print(f"pool of {len(pool.names)} members and study are in {root}; took {took:.0f} s")


@contextmanager
def _charged(meter: Meter, config: PoolFile | StudyFile) -> Iterator[None]:
    """Charge a pool or a study with what this process spent since the last block, or since its start."""
    try:
        yield
    finally:
        charge(config, meter.read())


def _write_example(name: str, path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            text = (files("studies") / "examples" / name).read_text(encoding="utf-8")
            write_text(path, text.replace("demo_pool.toml", "pool.toml").replace("demo_study.toml", "study.toml"))
    except OSError as error:
        raise StudyError(f"{path} cannot be written: {error.strerror}; give another --root") from None
    return path
