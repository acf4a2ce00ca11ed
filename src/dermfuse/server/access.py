"""The optional bearer token: where it comes from, and how a request shows it."""

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from dermfuse.errors import ConfigError
from dermfuse.server.refusals import RefusedError

TOKEN_VARIABLE = "DERMFUSE_TOKEN"  # noqa: S105 — the variable's name
SHORTEST_TOKEN = 16


_SCHEME = HTTPBearer(auto_error=False, description="The token that the server was given.")
_Shown = Annotated[HTTPAuthorizationCredentials | None, Depends(_SCHEME)]


def require_token(token: str) -> Callable[[_Shown], Awaitable[None]]:
    """Returns a dependency for routes that ask for the token: it refuses with 401.

    Args:
        token: As ``load_token`` returns it.
    """
    known = _digest(token)

    async def check(shown: _Shown) -> None:
        if shown is None or not hmac.compare_digest(_digest(shown.credentials), known):
            raise RefusedError(
                401,
                "no token" if shown is None else "a token that is not this server's",
                expected="the header Authorization: Bearer TOKEN",
                headers={"WWW-Authenticate": "Bearer"},
            )

    return check


def load_token(file: Path | None, environment: Mapping[str, str]) -> str | None:
    """Returns the token of a file or of the variable ``DERMFUSE_TOKEN``; None if there is neither.

    Args:
        file: Holds the token; white space around it is not part of it.
        environment: The process's.

    Raises:
        ConfigError: Both are given, the file cannot be read, or the token is too short or has
            other characters than visible ASCII.

    Example:
        >>> load_token(None, {"DERMFUSE_TOKEN": "0123456789abcdef"})
        '0123456789abcdef'
    """
    if file is None:
        if TOKEN_VARIABLE not in environment:
            return None
        token, where = environment[TOKEN_VARIABLE], TOKEN_VARIABLE
    elif TOKEN_VARIABLE in environment:
        raise ConfigError(f"a token in {file} and one in {TOKEN_VARIABLE}", expected="one of them")
    else:
        token, where = _read(file), str(file)
    if len(token) < SHORTEST_TOKEN or not all("!" <= character <= "~" for character in token):
        raise ConfigError(
            f"the token in {where} is too short, or not of visible ASCII alone",
            expected=f"{SHORTEST_TOKEN} characters or more without white space",
            action="Make one with: openssl rand -hex 32",
        )
    return token


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{file} cannot be read ({getattr(error, 'strerror', None) or error})",
            expected="a file with a token",
        ) from error


def _digest(token: str) -> bytes:
    """Returns a digest: those of two tokens are as long, so comparing tells nothing."""
    return hashlib.sha256(token.encode()).digest()
