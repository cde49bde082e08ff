"""The dashboard: for this machine only, our note and figures in it, and the study as it was."""

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from itertools import takewhile
from pathlib import Path
from subprocess import PIPE
from threading import Thread

import optuna
import pytest
from browser import Browser
from optuna.artifacts import get_all_artifact_meta
from optuna_dashboard import get_note, save_note
from small_table import write_small_study

from studies.database.address import VARIABLE, parse
from studies.database.database import open_database
from studies.outcome.dashboard.loopback import LoopbackServer
from studies.outcome.dashboard.run import BEGIN, END, merged_with, open_dashboard
from studies.study_file.study_file import read_study_file


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A searched study on a small table: its surface and figures are there in a second."""
    path = write_small_study(tmp_path_factory.mktemp("dashboard"))
    _search(path)
    return path


def _search(study: Path) -> None:
    from studies.opened.opening import open_study
    from studies.running.run import run_search

    with open_study(read_study_file(study)) as bench:
        run_search(bench, 12)


def _loaded(study: Path) -> optuna.Study:
    return optuna.load_study(storage=f"sqlite:///{study.parent / 'mixscout.db'}", study_name="small")


def _seen_by_samplers(loaded: optuna.Study) -> tuple:
    trials = [
        (one.number, one.state, one.params, one.values, one.user_attrs, one.system_attrs) for one in loaded.trials
    ]
    return trials, loaded.user_attrs, loaded.directions


def _get(url: str, **headers: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
        return bytes(answer.read())


def test_a_browser_sees_the_study_its_note_and_its_figures_until_ctrl_c(
    study: Path, browser: Browser, tmp_path: Path
) -> None:
    before = _seen_by_samplers(_loaded(study))
    command = [sys.executable, "-m", "studies.command_line.app", "dashboard", str(study), "--port", "0", "--json"]
    said = tmp_path / "stderr"
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs are started ignoring it
    with (
        said.open("w") as stream,
        subprocess.Popen(command, stdout=PIPE, stderr=stream, text=True, preexec_fn=heed) as process,
    ):
        try:
            _look_around(process, browser)
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()  # else a failure would wait for it for ever
    assert "Traceback" not in said.read_text()
    assert _seen_by_samplers(_loaded(study)) == before


def _look_around(process: subprocess.Popen[str], browser: Browser) -> None:
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    printed = "".join(takewhile(lambda line: line != "}\n", lines)) + "}"
    opened = json.loads(printed)
    assert opened["url"].startswith("http://127.0.0.1:")
    browser.open(opened["url"])
    browser.wait_for("document.body.innerText.includes('small')")
    browser.open(opened["study_url"])
    browser.wait_for("document.body.innerText.includes('mixscout-progress.png')")
    browser.open(opened["study_url"] + "/note")
    browser.wait_for("document.body.innerText.includes('Mixscout study small')")
    browser.wait_for("document.querySelectorAll('img[src*=artifacts]').length > 6")
    browser.wait_for("[...document.querySelectorAll('img[src*=artifacts]')].every(one => one.naturalWidth > 300)")
    assert BEGIN not in browser.text() and "objective" in browser.text()
    assert browser.complaints() == []


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_dashboard_opened_again_draws_over_its_pictures_and_keeps_what_others_wrote(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_address: Callable[[str], str]
) -> None:
    study, address = write_small_study(tmp_path), new_address(kind)
    monkeypatch.setenv(VARIABLE, address)
    _search(study)
    for _ in range(2):
        with open_dashboard(read_study_file(study), study, host="127.0.0.1", port=0) as opened:
            serving = Thread(target=opened.server.serve_forever)
            serving.start()
            listed = json.loads(_get(f"{opened.server.url}/api/studies"))
            opened.server.shutdown()
            serving.join()
        assert [one["study_name"] for one in listed["study_summaries"]] == ["small"]
        with open_database(parse(address, VARIABLE), timeout_seconds=60) as database:
            loaded = optuna.load_study(storage=database.optuna, study_name="small")
            names = [meta.filename for meta in get_all_artifact_meta(loaded)]
            note = get_note(loaded)
            save_note(loaded, "Mine, above.\n\n" + note if "Mine" not in note else note)
        assert len(names) == len(set(names)) > 6
    assert note.startswith("Mine, above.") and note.count(BEGIN) == note.count(END) == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "example.org", "::", ""])
def test_a_host_that_others_could_reach_is_refused(study: Path, mixscout, host: str) -> None:
    answer = mixscout("dashboard", study, "--host", host, "--port", 0)
    assert answer.code == 1 and answer.err.count("\n") == 1
    assert f"{host!r} is no loopback address" in answer.err and "ssh -L" in answer.err


def test_a_port_that_is_taken_or_none_is_refused(study: Path, mixscout) -> None:
    server = LoopbackServer.on("127.0.0.1", 0, lambda environ, start: [])
    taken = server.server_address[1]
    answer = mixscout("dashboard", study, "--port", taken)
    server.server_close()
    assert answer.code == 1 and answer.err.count("\n") == 1
    assert f"cannot listen on 127.0.0.1 port {taken}" in answer.err and "give another --port" in answer.err
    assert "expected 0 (any free port) to 65535" in mixscout("dashboard", study, "--port", 70_000).err


def test_a_page_of_another_site_is_refused() -> None:
    def hello(environ, start):
        start("200 OK", [("Content-Type", "text/plain")])
        return [b"hello"]

    server = LoopbackServer.on("127.0.0.1", 0, hello)
    serving = Thread(target=server.serve_forever)
    serving.start()
    try:
        port = server.server_address[1]
        for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}"):
            assert _get(server.url, Host=host) == b"hello"
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "0.0.0.0"):
            with pytest.raises(urllib.error.HTTPError, match="403"):
                _get(server.url, Host=host)
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


def test_only_our_part_of_a_note_is_replaced() -> None:
    ours = merged_with("", "one")
    assert ours.startswith(BEGIN) and ours.endswith(END)
    around = merged_with(f"above\n\n{ours}\n\nbelow", r"two \1")
    assert around.startswith("above\n") and around.endswith("\nbelow")
    assert "one" not in around and r"two \1" in around
    assert merged_with("mine", "one") == f"mine\n\n{ours}"
