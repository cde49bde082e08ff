"""Secrets in text: masked before the text is printed or written, whole or in part."""

import os
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus, unquote

MASK = "***"
PIECE = 4
"""A shorter part of a secret is in any text by chance."""
SECRET_OPTIONS = frozenset(
    {
        "password",
        "passwd",
        "sslpassword",
        "ssl_key_password",
        "scram_client_key",
        "scram_server_key",
        "oauth_client_secret",
    }
)
"""Options of a database's URL that hold a secret, of libpq and of PyMySQL."""
_SECRET_VARIABLES = re.compile(r"(?!.*DISABLE).*(PASSWORD|PASSWD|TOKEN|API_KEY|SECRET|SECRET_KEY)", re.IGNORECASE)
_URL_VARIABLES = re.compile(r"https?_proxy|all_proxy|MLFLOW_TRACKING_URI", re.IGNORECASE)
_USER_IN_URL = re.compile(r"(?P<before>\b[a-z][a-z0-9+.-]*:/{1,2}[^\s/:@\"']*:)[^\s\"']+(?=@)", re.IGNORECASE)


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """Mask every run of at least `PIECE` characters that the text shares with a secret, however it is written."""
    hidden = [False] * len(text)
    for secret in secrets:
        pieces = {form[at : at + PIECE] for form in _forms(secret) for at in range(len(form) - PIECE + 1)}
        for at in range(len(text) - PIECE + 1):
            if text[at : at + PIECE] in pieces:
                hidden[at : at + PIECE] = [True] * PIECE
    shown = "".join("\0" if hide else letter for letter, hide in zip(text, hidden, strict=True))
    return re.sub("\0+", MASK, shown)


def without_passwords(text: str) -> str:
    """Mask what stands for a password in the text's URLs, up to the last @ of each."""
    return _USER_IN_URL.sub(rf"\g<before>{MASK}", text)


def secrets_of_environment() -> list[str]:
    """List the values of variables that sound secret, and the passwords in the URLs of proxies and trackers."""
    secret = [value for name, value in os.environ.items() if _SECRET_VARIABLES.fullmatch(name)]
    return secret + [_password_in(value) for name, value in os.environ.items() if _URL_VARIABLES.fullmatch(name)]


def _password_in(url: str) -> str:
    """Return the password of a URL as it is written; empty without one."""
    user, found, _ = url.rpartition("://")[2].rpartition("@")
    return user.partition(":")[2] if found else ""


def _forms(secret: str) -> set[str]:
    plain = {secret, unquote(secret)}
    written = {quote(one, safe=safe) for one in plain for safe in ("", "/", " +")} | {quote_plus(one) for one in plain}
    return plain | written | {repr(one)[1:-1] for one in plain}
