from pathlib import Path

from benchmarks import house

REPOSITORY = Path(__file__).parents[2]


def test_a_package_is_counted(tmp_path: Path) -> None:
    """Two rooms that import each other, a file beside them, a test."""
    files = {
        "src/dermfuse/__init__.py": "from dermfuse.errors import Fault\n",
        "src/dermfuse/errors.py": '"""Faults.\n\nA."""\nclass Fault(Exception):\n    """One."""\n',
        "src/dermfuse/a/one.py": "from dermfuse.b import two\ndef f():\n    # y\n    return two\n",
        "src/dermfuse/b/two.py": "def g():\n    from dermfuse.a.one import f\n\n    return f\n",
        "tests/test_a.py": "A = 1\n\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = house.measure(tmp_path)
    assert found["modules"] == 4
    assert found["code_lines"] == 1 + 1 + 3 + 3
    assert (found["rooms"], found["arrows"]) == (4, 3)
    assert found["circles"] == [["a", "b"]]
    assert found["function_lines_median"] == 3.5
    assert found["test_lines"] == 2


def test_the_house_has_no_circle_and_no_more_rooms_than_it_may() -> None:
    found = house.measure(REPOSITORY)
    assert found["circles"] == []
    assert found["rooms"] <= house.BARS["rooms"]
