"""Settings from `adaptive.toml` and `.env`; flags and the environment go before them."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from adaptive.errors import UsageError

PREFIX = "ADAPTIVE_"


def read_settings(path: str | None, known: Collection[str]) -> dict[str, Any]:
    """Return settings by name: those of `.env` over those of the TOML file (`path` or adaptive.toml).

    Raises UsageError for a file that is missing (if it was named) or wrong, or an unknown setting.
    """
    return _toml(path, known) | _env_file(known)


def _toml(path: str | None, known: Collection[str]) -> dict[str, Any]:
    file = Path(path or "adaptive.toml")
    if path is None and not file.is_file():
        return {}
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: {error}") from error
    settings = {name.replace("-", "_"): _as_flag(value) for name, value in found.items()}
    return _known(settings, known, str(file))


def _env_file(known: Collection[str]) -> dict[str, Any]:
    if not Path(".env").is_file():
        return {}
    from dotenv import dotenv_values

    try:
        read = dotenv_values(".env")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f".env: {error}") from error
    found = {name: value for name, value in read.items() if name.startswith(PREFIX) and value is not None}
    return _known({name.removeprefix(PREFIX).lower(): value for name, value in found.items()}, known, ".env")


def _known(settings: Mapping[str, Any], known: Collection[str], file: str) -> dict[str, Any]:
    if unknown := sorted(settings.keys() - set(known)):
        raise UsageError(f"{file}: there is no setting {', '.join(unknown)}")
    return dict(settings)


def _as_flag(value: Any) -> Any:
    """Return lists and tables the way their flags are written: `a,b` and `a=x,b=y`."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, dict):
        return ",".join(f"{name}={word}" for name, word in value.items())
    return value
