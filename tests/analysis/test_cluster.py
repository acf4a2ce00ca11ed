"""An address where no Ray is, and a Ray that is not installed, are one line at once."""

import socket
import threading
from collections.abc import Iterator

import pytest

from dermfuse.analysis import ray as cluster
from dermfuse.analysis.ray import connect
from dermfuse.errors import ConfigError, DependencyError


def _accept_and_close(server: socket.socket) -> None:
    server.accept()[0].close()


@pytest.fixture
def port() -> Iterator[int]:
    """A port where something listens that is no Ray: it closes what it accepts."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_accept_and_close, args=(server,), daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(5)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda _: None)
    with pytest.raises(DependencyError, match=r"ray, pyarrow, pandas.*\.\[ray\]"):
        connect("local").__enter__()


def test_a_port_where_nothing_listens_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    with pytest.raises(ConfigError, match=f"no Ray cluster answers at 127.0.0.1:{free}"):
        cluster._knock(f"127.0.0.1:{free}")


def test_rays_client_is_refused_since_ray_data_does_not_run_over_it() -> None:
    with pytest.raises(ConfigError, match=r"ray://a:10001 is for Ray's client.*HOST:PORT"):
        cluster._knock("ray://a:10001")


def test_a_port_where_something_else_listens_is_refused(port: int) -> None:
    with pytest.raises(ConfigError, match="no Ray cluster answers"):
        cluster._knock(f"127.0.0.1:{port}")


@pytest.mark.parametrize("address", ["nonsense", "host:port", "1.2.3.4:99999999"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=r"is no address.*HOST:PORT"):
        cluster._knock(address)
