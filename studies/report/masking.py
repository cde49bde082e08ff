"""Passwords taken out of text that is about to be shown to whoever gets the page."""

import re

MASK = "***"
_IN_URL = re.compile(r"(?P<before>[a-z][a-z0-9+.-]*://[^\s/:@\"']*:)[^\s@\"']+(?=@)", re.IGNORECASE)
_IN_QUERY = re.compile(r"(?P<before>[?&](?:password|passwd|sslpassword|token|secret)=)[^\s&\"']+", re.IGNORECASE)
_ASSIGNED = re.compile(
    r"(?P<before>[\w.-]*(?:password|passwd|secret|token|api_?key)[\"']?\s*[=:]\s*)(?P<quote>[\"']).*?(?P=quote)",
    re.IGNORECASE,
)


def masked(text: str) -> str:
    """Replace passwords in URLs, and quoted values of keys that sound secret, by asterisks."""
    text = _IN_URL.sub(rf"\g<before>{MASK}", text)
    text = _IN_QUERY.sub(rf"\g<before>{MASK}", text)
    return _ASSIGNED.sub(rf"\g<before>\g<quote>{MASK}\g<quote>", text)
