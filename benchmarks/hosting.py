"""A static server for the built app: to measure and to test it, not to deploy it."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import BinaryIO


class Host(ThreadingHTTPServer):
    """Serves a folder on a free port of this machine alone.

    Args:
        folder: What is served.
        isolated: Whether the headers are sent that let the app use threads from the first visit.

    Attributes:
        sent_bytes: Bytes of the files that were sent whole, without headers.
    """

    daemon_threads = True

    def __init__(self, folder: Path, *, isolated: bool) -> None:
        """Opens the port."""
        self.isolated = isolated
        self.sent_bytes = 0
        self._counting = Lock()
        super().__init__(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))

    def count_sent(self, size: int) -> None:
        """Adds to ``sent_bytes``; files are sent by many threads."""
        with self._counting:
            self.sent_bytes += size

    @property
    def url(self) -> str:
        """The address of the folder."""
        return f"http://127.0.0.1:{self.server_port}/"


class _Handler(SimpleHTTPRequestHandler):
    server: Host

    def end_headers(self) -> None:
        if self.server.isolated:
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def copyfile(self, source: BinaryIO, outputfile: BinaryIO) -> None:  # type: ignore[override]
        super().copyfile(source, outputfile)
        self.server.count_sent(source.tell())

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def host_folder(folder: Path, *, isolated: bool = True) -> Iterator[Host]:
    """Yields a server of a folder, and ends it.

    Args:
        folder: See ``Host``.
        isolated: See ``Host``.
    """
    with Host(folder, isolated=isolated) as host:
        thread = Thread(target=host.serve_forever, daemon=True)
        thread.start()
        try:
            yield host
        finally:
            host.shutdown()
            thread.join()
