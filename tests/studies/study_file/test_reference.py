"""The documents keep their word."""

from pathlib import Path

from studies.study_file.reference import reference

ROOT = Path(__file__).parents[3]


def test_the_configuration_reference_is_what_the_models_say() -> None:
    assert (ROOT / "docs" / "configuration.md").read_text() == reference()


def test_every_field_of_the_reference_says_what_it_means() -> None:
    rows = [line for line in reference().splitlines() if line.startswith("| `")]
    assert len(rows) > 30
    assert all(line.split("|")[4].strip() for line in rows)
