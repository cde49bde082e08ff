"""Secrets in text are masked, whole or in part, however they are written; other text stays."""

import pytest

from pool.files.hub import refusal
from pool.files.secrets import secrets_of_environment, without_passwords, without_secrets

SECRET = "Gehe!m/Tür%41 x"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"no user {SECRET} here", "no user *** here"),
        ("failed to resolve host 'ehe!m'", "failed to resolve host '***'"),
        ("port Gehe%21m%2FT%C3%BCr%2541%20x", "port ***"),
        ("port Gehe%21m%2FT%C3%BCr%2541+x", "port ***"),
        ("nothing of that", "nothing of that"),
        ("Geh", "Geh"),
    ],
)
def test_every_run_shared_with_a_secret_is_masked(text: str, expected: str) -> None:
    assert without_secrets(text, [SECRET]) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("at http://me:p@ss/w@host:80/x", "at http://me:***@host:80/x"),
        ("postgresql:/me:pw@h/db: no such file", "postgresql:/me:***@h/db: no such file"),
        ("https://example.org/a:b@c", "https://example.org/a:b@c"),
        ("http://host:80/x", "http://host:80/x"),
    ],
)
def test_passwords_in_urls_are_masked(text: str, expected: str) -> None:
    assert without_passwords(text) == expected


def test_a_proxy_s_password_and_a_token_are_not_in_what_the_hub_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:gehe!m/tuer@proxy:3128")
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefgh")
    monkeypatch.setenv("NO_PROXY", "localhost,header")
    assert {"gehe!m/tuer", "hf_abcdefgh"} <= set(secrets_of_environment())
    said = refusal(ValueError("Invalid port: 'gehe!m', header hf_abcdefgh"), offline=False)
    assert "cannot be had: Invalid port: '***', header ***; see to the network" in said
