"""``dermfuse web build``: the browser app and the networks of a release as one static folder.

index.html, assets/    the page, its worker, and ONNX Runtime in WebAssembly
sw.js                  the service worker: keeps all of it for use without a connection
release/               release.json, the networks and their cards, the gate as dermoscopy.json
build.json             every file with its size and SHA-256

Arrays are JSON values: base64 that a few lines of any language read.
"""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import zlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dermfuse.errors import DependencyError, RunError
from dermfuse.records.folders import atomic_write, whole_folder, write_json, write_text
from dermfuse.release.cards import digest_file
from dermfuse.release.folder import (
    RELEASE_NAME,
    choose_release,
    pack_release,
    parse_release,
    read_release,
)
from dermfuse.release.gate import Dermoscopy, parse_dermoscopy

BUILD_NAME = "build.json"
GATE_NAME = "dermoscopy.json"

SOURCE = Path(__file__).parents[3] / "web"
"""The app's source, in a source checkout."""

_SERVICE_WORKER = "sw.js"
_PAGE = "index.html"
_LOADED = re.compile(
    r'<(?:script\b[^>]*\bsrc|link rel="stylesheet"[^>]*\bhref)="\./(?P<path>[^"]+)"'
)
_PLACEHOLDER = "__BUILD__"


@dataclass(frozen=True, slots=True)
class WebBuild:
    """What was built.

    Args:
        out: The folder.
        release: Name of the release in it.
        build: Its name in hexadecimal, which follows from its files.
        files: How many files a browser loads.
        bytes: The size of them all, not compressed.
        heavy_bytes: The share of networks and WebAssembly.
    """

    out: Path
    release: str
    build: str
    files: int
    bytes: int
    heavy_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Returns the build as JSON values."""
        return asdict(self) | {"out": str(self.out)}


def build_web(out: Path, *, release: Path | None = None, compiled: Path | None = None) -> WebBuild:
    """Builds the app into a new folder; all or nothing.

    Args:
        out: The folder; new or empty.
        release: A release folder; the networks of the package if left out.
        compiled: What ``compile_app``, or ``npm run build`` in ``web/``, wrote; it is compiled here
            if left out.

    Raises:
        DependencyError: Node.js or the app's source is missing, or its tools fail.
        ReleaseError: The release cannot be used.
        RunError: ``out`` exists and is not empty, or ``compiled`` is no compiled app.
        StorageError: It cannot be written.
    """
    folder = choose_release(release)
    read_release(folder)
    with whole_folder(out, what="app") as staging:
        if compiled is None:
            compile_app(staging)
        else:
            _copy_compiled(compiled, staging)
        built = add_release(staging, folder)
    return replace(built, out=out.resolve())


def compile_app(out: Path, *, source: Path = SOURCE) -> None:
    """Writes page, worker and WebAssembly into an empty folder; the networks are not among them.

    Args:
        out: The folder.
        source: Where the app's source lies: ``web/`` of a source checkout.

    Raises:
        DependencyError: Node.js or the source is missing, or the tools fail.
    """
    if not (source / "package.json").is_file():
        raise DependencyError(
            f"{source} does not hold the source of the browser app",
            expected="a source checkout of dermfuse",
            action="Build the app from one; an installed package does not hold it",
        )
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    if missing:
        raise DependencyError(
            f"dermfuse web build needs {' and '.join(missing)}, not installed here",
            expected="Node.js 20.19 or newer",
            action="Install it from your system's packages",
        )
    if not _is_installed(source):
        _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], source)
    vite = source / "node_modules" / "vite" / "bin" / "vite.js"
    _run(["node", str(vite), "build", "--outDir", str(out.resolve()), "--emptyOutDir"], source)


def add_release(app: Path, release: Path) -> WebBuild:
    """Lays the networks of a release beside a compiled app and seals the build.

    Raises:
        ReleaseError: The release cannot be used.
    """
    files = dict(pack_release(release).files)
    record = parse_release(files[RELEASE_NAME], str(release / RELEASE_NAME))
    if record.gate:
        arrays = files.pop(record.gate.file)
        packed = pack_dermoscopy(parse_dermoscopy(arrays, str(release / record.gate.file)))
        files[GATE_NAME] = json.dumps(packed, separators=(",", ":")).encode()
    target = app / "release"
    target.mkdir()
    for name, content in files.items():
        with atomic_write(target / name) as file:
            file.write(content)
    return _seal(app, record.name)


def pack_floats(values: NDArray[np.floating[Any]]) -> dict[str, Any]:
    """Returns an array as its shape and little-endian single precision in base64.

    Example:
        >>> pack_floats(np.array([1.0, 2.0]))
        {'shape': [2], 'float32': 'AACAPwAAAEA='}
    """
    content = np.ascontiguousarray(values, dtype="<f4").tobytes()
    return {"shape": list(values.shape), "float32": base64.b64encode(content).decode()}


def pack_bytes(values: NDArray[np.uint8]) -> dict[str, Any]:
    """Returns an array of bytes as its shape and a zlib stream in base64."""
    stream = zlib.compress(np.ascontiguousarray(values).tobytes(), 9)
    return {"shape": list(values.shape), "zlib": base64.b64encode(stream).decode()}


def pack_dermoscopy(found: Dermoscopy) -> dict[str, Any]:
    """Returns the arrays of a release's gate, by cloud and name."""
    return {
        cloud: {name: pack_floats(values) for name, values in arrays.items()}
        for cloud, arrays in asdict(found).items()
    }


def _copy_compiled(compiled: Path, out: Path) -> None:
    worker = compiled / _SERVICE_WORKER
    if not worker.is_file() or _PLACEHOLDER not in worker.read_text(encoding="utf-8"):
        raise RunError(
            f"{compiled} is no compiled app without networks",
            expected="what npm run build in web/ writes",
            action="Compile it, or leave --compiled out",
        )
    shutil.copytree(compiled, out, dirs_exist_ok=True)


def _seal(app: Path, release: str) -> WebBuild:
    """Writes what the app consists of, and names the build in its service worker.

    The build's name follows from its files; ``web/src/worker/digests.ts`` makes it again.
    """
    _seal_page(app)
    parts: dict[str, list[dict[str, Any]]] = {"shell": [], "heavy": []}
    for path in sorted(app.rglob("*")):
        if path.is_file() and path.name != _SERVICE_WORKER:
            name, size = path.relative_to(app).as_posix(), path.stat().st_size
            part = parts["heavy" if name.endswith((".onnx", ".wasm", GATE_NAME)) else "shell"]
            part.append({"path": name, "bytes": size, "sha256": digest_file(path)})
    files = [*parts["shell"], *parts["heavy"]]
    lines = "".join(f"{file['sha256']} {file['bytes']} {file['path']}\n" for file in files)
    build = hashlib.sha256(lines.encode()).hexdigest()[:16]
    write_json(app / BUILD_NAME, {"build": build, **parts})
    worker = app / _SERVICE_WORKER
    write_text(worker, worker.read_text(encoding="utf-8").replace(_PLACEHOLDER, build))
    return WebBuild(
        out=app,
        release=release,
        build=build,
        files=len(files),
        bytes=sum(file["bytes"] for file in files),
        heavy_bytes=sum(file["bytes"] for file in parts["heavy"]),
    )


def _seal_page(app: Path) -> None:
    """Writes the digests of scripts and style sheets into the page: browsers refuse others."""
    page = app / _PAGE

    def sealed(tag: re.Match[str]) -> str:
        content = (app / tag["path"]).read_bytes()
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        return f'{tag[0]} integrity="sha256-{digest}"'

    write_text(page, _LOADED.sub(sealed, page.read_text(encoding="utf-8")))


def _is_installed(source: Path) -> bool:
    """Returns whether the app's tools are those of its lock file."""
    done, lock = source / "node_modules" / ".package-lock.json", source / "package-lock.json"
    return done.is_file() and done.stat().st_mtime >= lock.stat().st_mtime


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(  # noqa: S603 — our own tools
        command, cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise DependencyError(
            f"{' '.join(command[:3])} failed in {folder} ({' '.join(said[-3:]) or 'no message'})",
            action="Check the connection to the npm registry and the version of Node.js",
        )
