"""What a server is started with: limits, addresses, and the token."""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from ipaddress import ip_network
from pathlib import Path

from dermfuse.errors import ConfigError
from dermfuse.imaging.limits import MAX_PIXELS, check_max_pixels
from dermfuse.imaging.symmetries import check_looks

TOKEN_VARIABLE = "DERMFUSE_TOKEN"  # noqa: S105 — the variable's name
SHORTEST_TOKEN = 16

_ROOT_PATH = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")
_LOWEST = {"waiting": 0, "upload_seconds": 0.001, "analysis_seconds": 0.001}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What each process of the server takes on before it says no.

    Args:
        upload_bytes: Of one request's body.
        pixels: Of one image; more are refused before any is decoded.
        held_bytes: Of all bodies that are in memory at one time, those that still arrive included.
        upload_seconds: A body must be there after so long.
        analysis_seconds: An answer must be there after so long, the waiting included.
        waiting: Uploads that may wait for a thread.
        connections: That may be open at one time.

    Raises:
        ConfigError: A limit is below 1 (``waiting`` below 0), ``pixels`` are more than are decoded,
            or one upload is more than may be held.
    """

    upload_bytes: int = 25_000_000
    pixels: int = MAX_PIXELS
    held_bytes: int = 250_000_000
    upload_seconds: float = 30.0
    analysis_seconds: float = 30.0
    waiting: int = 32
    connections: int = 1_000

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            low = _LOWEST.get(name, 1)
            if not low <= value < math.inf:
                raise ConfigError(f"{name} is {value}", expected=f"a number of {low} or more")
        check_max_pixels(self.pixels)
        if self.upload_bytes > self.held_bytes:
            raise ConfigError(
                f"uploads of {self.upload_bytes:,} bytes, and {self.held_bytes:,} held in all",
                expected="room for one upload at least",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """What one process of the server needs.

    Args:
        release: The release folder; the package's own networks if None.
        looks: At how many orientations of an image each network looks; as many as the release was
            measured with if None.
        threads: Images that are analysed side by side.
        limits: What it takes on.
        token: That ``/v1/analyze`` and ``/v1/model`` ask for; None for no question.
        app: The folder of the browser app; a plain page if None.
        root_path: Under which a proxy shows the server, like ``/lesions``; empty for its root.
        trusted_proxies: Addresses or networks whose ``X-Forwarded-For`` and ``-Proto`` are
            believed; of nobody if empty.

    Raises:
        ConfigError: A value cannot be used.
    """

    release: Path | None = None
    looks: int | None = None
    threads: int = 1
    limits: Limits = field(default_factory=Limits)
    token: str | None = field(default=None, repr=False)
    app: Path | None = None
    root_path: str = ""
    trusted_proxies: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ConfigError(f"threads is {self.threads}", expected="1 or more")
        if self.looks is not None:
            check_looks(self.looks)
        if self.root_path and not _ROOT_PATH.fullmatch(self.root_path):
            raise ConfigError(
                f'the root path is "{self.root_path}"',
                expected="parts of letters, digits and -._~ that each begin with a slash",
                action="Write it like /lesions",
            )
        for address in self.trusted_proxies:
            _check_network(address)


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


def _check_network(address: str) -> None:
    try:
        ip_network(address)
    except ValueError as error:
        raise ConfigError(
            f'the trusted proxy "{address}" is no address',
            expected="addresses or networks, like 127.0.0.1 or 10.0.0.0/8",
        ) from error


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{file} cannot be read ({getattr(error, 'strerror', None) or error})",
            expected="a file with a token",
        ) from error
