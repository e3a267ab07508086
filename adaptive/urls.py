"""Texts for people: database URLs without their passwords, names without what steers a terminal."""

from __future__ import annotations

import re
from urllib.parse import unquote, unquote_plus

SECRET = re.compile(r"pass|pwd|secret|token", re.IGNORECASE)  # in the name of a parameter


def without_password(url: str) -> str:
    """Return a URL as it may be shown: scheme, user, host, port and path.

    Not by `urlsplit`, which takes what follows a bare "/", "?" or "#" in a password for the path,
    and refuses "[" with an error that quotes it.
    """
    scheme, mark, rest = url.partition("://")
    if not mark:  # no URL, perhaps by a slip of the pen
        return f"…@{url.rpartition('@')[2]}" if "@" in url else url
    head, _, query = rest.partition("?")
    if "@" in query:  # a password holds "?", or a parameter "@": nobody knows where the host begins
        return f"{scheme}://{re.split('[:/?#@]', rest)[0]}@…"
    credentials, _, place = head.rpartition("@")
    user = credentials.partition(":")[0]
    return f"{scheme}://{user}{'@' if user else ''}{place.partition('#')[0]}"


def shown(text: str, keep: str = "") -> str:
    r"""Return a text with every character that does not print, but those to keep, as its escape (ESC: \x1b).

    Names of files and columns, and values, come from strangers: escape sequences in them would rewrite the
    screen, line ends would forge lines of a log, and marks of direction would show a name reversed.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else repr(char)[1:-1] for char in text)


def redact(text: str, url: str) -> str:
    """Return a text with the URL's secrets (as written and decoded) replaced by ***."""
    for secret in sorted(_secrets(url), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _secrets(url: str) -> set[str]:
    rest = url.partition("://")[2]
    head, _, query = rest.partition("?")
    written = {part.rpartition("@")[0].partition(":")[2] for part in (rest, head)}
    for parameter in re.split("[&;]", query):
        name, _, value = parameter.partition("=")
        if SECRET.search(unquote(name)):
            written.add(value)
    return {form for secret in written for form in (secret, unquote(secret), unquote_plus(secret)) if form}
