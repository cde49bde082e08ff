"""Mixscout as a stranger gets it: a wheel that works alone, and files that agree with each other on versions."""

import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
import yaml
from small_table import write_small_study

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
PINNED = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines())


def test_every_package_of_the_wheel_is_marked_as_typed() -> None:
    assert sorted(PACKAGES) == sorted(PROJECT["tool"]["mypy"]["packages"])
    assert [name for name in PACKAGES if not (ROOT / name / "py.typed").is_file()] == []


def test_every_requirement_is_pinned_for_our_own_setup_and_a_range_for_others() -> None:
    optional = PROJECT["project"]["optional-dependencies"]
    for text in [*PROJECT["project"]["dependencies"], *(one for some in optional.values() for one in some)]:
        name, comparison = re.fullmatch(r"([\w.-]+)(?:\[\w+\])?([<>=]=?).*", text).groups()
        assert comparison == ">=", text
        assert name.lower() in {pinned.lower().replace("lm_eval", "lm-eval") for pinned in PINNED}, text


def test_an_extra_needs_nothing_that_the_tests_do_not_have() -> None:
    optional = PROJECT["project"]["optional-dependencies"]
    assert {one for some in optional.values() for one in some} == set(optional["dev"])


def test_make_demo_installs_no_extra() -> None:
    plan = subprocess.run(
        ["make", "--dry-run", "demo", "VENV=nowhere"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert "--editable .\n" in plan and "[dev]" not in plan
    plan = subprocess.run(
        ["make", "--dry-run", "test", "VENV=nowhere"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert "--editable '.[dev]'" in plan


def test_tools_before_a_commit_have_the_versions_of_make_check() -> None:
    ruff, mypy = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert ruff["rev"] == f"v{PINNED['ruff']}"
    (hook,) = mypy["hooks"]
    assert hook["entry"] == ".venv/bin/mypy" and f"mypy {PINNED['mypy']}," in hook["name"]


def test_the_workflow_runs_both_commands_on_every_python_that_is_promised() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "checks.yml").read_text())
    suite = workflow["jobs"]["suite"]
    pythons = suite["strategy"]["matrix"]["python"]
    assert f">={pythons[0]}" == PROJECT["project"]["requires-python"]
    classified = [one.rpartition(" ")[2] for one in PROJECT["project"]["classifiers"] if "Python :: 3." in one]
    assert pythons == classified == ["3.11", "3.12", "3.13"]
    commands = [step["run"] for step in suite["steps"] if "run" in step]
    assert commands == ["make check PYTHON=python", "make test PYTHON=python"]


def test_a_citation_names_the_version_and_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["project"]["version"] and citation["license"] == PROJECT["project"]["license"]
    assert citation["references"][0]["identifiers"][0]["value"] == "arXiv:2410.15661"
    assert f"## {citation['version']}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem
)
def test_a_template_of_an_issue_asks_at_least_one_thing(path: Path) -> None:
    form = yaml.safe_load(path.read_text())
    if path.stem != "config":
        assert {"name", "description", "body"} <= set(form)
        assert any(part.get("validations", {}).get("required") for part in form["body"])
        assert len({part["id"] for part in form["body"]}) == len(form["body"])


def _instructions() -> list[tuple[str, str]]:
    """Each instruction of the Dockerfile with its argument, continued lines joined."""
    text = "\n".join(line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#"))
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines if line.strip()]


def test_the_image_starts_from_cuda_and_runs_mixscout_as_a_user_without_rights() -> None:
    instructions = _instructions()
    assert instructions[0][1].startswith("nvidia/cuda:")
    assert [user for name, user in instructions if name == "USER"] == ["1000"]
    made = [name for name, _ in instructions].index("USER")
    assert all("pip" not in argument for _, argument in instructions[:made]), "packages belong to the user"
    assert ("ENTRYPOINT", '["mixscout"]') in instructions


def test_the_image_holds_all_that_a_wheel_is_made_of(tmp_path: Path) -> None:
    copied = [argument.split()[1:] for name, argument in _instructions() if name == "COPY"]
    sources = [source for *some, _ in copied for source in some]
    assert all((ROOT / source).exists() for source in sources)
    files = {PROJECT["project"]["readme"], *PROJECT["project"]["license-files"], "pyproject.toml", "constraints.txt"}
    assert {*PACKAGES, *files} == set(sources)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with the built wheel, our requirements, and no sight of the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in [*PACKAGES, "pyproject.toml", "README.md", "LICENSE"]:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--no-cache-dir"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, source], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    (wheel,) = folder.glob("mixscout-*.whl")
    subprocess.run([*pip, "--python", python, "install", "--no-deps", "--no-index", wheel], check=True)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (site / "requirements.pth").write_text(sysconfig.get_path("purelib"))
    shutil.rmtree(source)
    return python.parent


@pytest.mark.long
def test_a_wheel_works_without_the_repository(stranger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)

    def run(*command: object) -> str:
        done = subprocess.run([*map(str, command)], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    home = Path(run(stranger / "python", "-c", "import mixscout; print(mixscout.__file__)").strip())
    assert home.is_relative_to(stranger.parent)
    assert run(stranger / "python", "-c", "import studies; print(studies.__file__)").startswith(str(stranger.parent))
    assert "--root" in run(stranger / "mixscout", "demo", "--help")
    study = write_small_study(tmp_path)
    run(stranger / "mixscout", "search", study)
    best = json.loads(run(stranger / "mixscout", "best", study, "--json"))
    assert best["mixture"]["docs"] == pytest.approx(0, abs=0.1)
