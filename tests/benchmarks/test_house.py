from pathlib import Path

from benchmarks import house


def test_the_house_has_no_circle_and_no_more_rooms_than_it_may() -> None:
    found = house.measure(Path(__file__).parents[2])
    assert found["circles"] == []
    assert 5 < found["rooms"] <= house.BARS["rooms"] < found["arrows"] < found["modules"]
    assert found["modules"] < found["code_lines"] < 10 * found["test_lines"]
