"""Database URLs for people: without their passwords."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote, urlsplit


def without_password(url: str) -> str:
    """Return a URL as it may be shown: scheme, user, host, port and path."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")
    user = place[0].partition(":")[0]
    return f"{parts.scheme}://{user}{place[1] if user else ''}{place[2]}{parts.path}"


def redact(text: str, url: str) -> str:
    """Return a text with the URL's secrets (as written and decoded) replaced by ***."""
    for secret in sorted(_secrets(url), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _secrets(url: str) -> set[str]:
    parts = urlsplit(url)
    written = parts.netloc.rpartition("@")[0].partition(":")[2]
    found = {written, unquote(written)}
    found |= {value for name, value in parse_qsl(parts.query) if "pass" in name.lower()}
    return {secret for secret in found if secret}
