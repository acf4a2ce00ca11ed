"""How large the house is: modules, code lines, rooms, arrows between them, circles, functions."""

import ast
import io
import statistics
import tokenize
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_QUIET = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

BARS: Mapping[str, int] = {"modules": 150, "code_lines": 17_500, "rooms": 22, "arrows": 110}
"""What the package aims to stay within; ``test_lines`` 14,000, ``circles`` 0."""


def measure(repository: Path) -> dict[str, Any]:
    """Returns what there is to count of a checkout, as JSON values.

    A room is a folder or a file directly in the package; an arrow leads from a room to another that
    it imports, wherever the import stands; a circle is a set of rooms that import one another.
    """
    package = repository / "src" / "dermfuse"
    paths = sorted(package.rglob("*.py"))
    modules = {name_module(package, path): path.read_text("utf-8") for path in paths}
    trees = {name: ast.parse(source) for name, source in modules.items()}
    rooms = {room(name) for name in modules}
    arrows = {
        (room(name), room(target))
        for name, tree in trees.items()
        for target in imports(tree)
        if room(name) != room(target) and room(target) in rooms
    }
    lengths = sorted(length for tree in trees.values() for length in function_lengths(tree))
    tests = sorted((repository / "tests").rglob("*.py"))
    return {
        "modules": len(modules),
        "code_lines": sum(map(count_code_lines, modules.values())),
        "rooms": len(rooms),
        "arrows": len(arrows),
        "circles": find_circles(arrows),
        "function_lines_median": statistics.median(lengths),
        "function_lines_90_percent": lengths[9 * len(lengths) // 10],
        "test_lines": sum(len(path.read_text("utf-8").splitlines()) for path in tests),
        "bars": dict(BARS),
    }


def count_code_lines(source: str) -> int:
    """Returns the lines of a module without blank ones, comments and docstrings.

    Example:
        >>> count_code_lines(" # why" + chr(10) + "a = 1")
        1
    """
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    spans = [range(t.start[0], t.end[0] + 1) for t in tokens if t.type not in _QUIET]
    documents = [
        range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None
    ]
    return len({n for span in spans for n in span} - {n for span in documents for n in span})


def name_module(package: Path, path: Path) -> str:
    """Returns the dotted name of a module, that of a package for its ``__init__``."""
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def room(module: str) -> str:
    """Returns the room of a module; the package's own is called by the package.

    Example:
        >>> room("dermfuse.imaging.dicom"), room("dermfuse.errors"), room("dermfuse")
        ('imaging', 'errors', 'dermfuse')
    """
    package, _, rest = module.partition(".")
    return rest.partition(".")[0] or package


def imports(tree: ast.Module) -> Iterator[str]:
    """Yields the modules of the package that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
            if node.module == "dermfuse":  # a room, or what the package itself offers
                names = [f"dermfuse.{each.name}" for each in node.names if each.name.islower()]
        elif isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == "dermfuse")


def function_lengths(tree: ast.Module) -> Iterator[int]:
    """Yields the lines of every function, its signature included and its docstring not."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            document = ast.get_docstring(node, clean=False)
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            yield lines - (document.count("\n") + 1 if document is not None else 0)


def find_circles(arrows: set[tuple[str, str]]) -> list[list[str]]:
    """Returns the sets of rooms each of which reaches the others.

    Example:
        >>> find_circles({("a", "b"), ("b", "a"), ("b", "c")})
        [['a', 'b']]
    """
    targets: dict[str, set[str]] = defaultdict(set)
    for start, end in arrows:
        targets[start].add(end)
    reached = {start: _reach(start, targets) for start in targets}
    circles = {
        tuple(sorted(other for other in found if start in reached.get(other, ())))
        for start, found in reached.items()
        if start in found
    }
    return [list(each) for each in sorted(circles)]


def _reach(start: str, targets: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = targets.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found
