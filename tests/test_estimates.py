from dermfuse.estimates import Estimate, estimate_cells

FOUND = Estimate(0.8123, -0.0049, 0.8423)


def test_a_number_is_said_with_its_interval_in_the_format_asked_for() -> None:
    assert f"{FOUND:.3f}" == "0.812 (-0.005 to 0.842)"
    assert f"{FOUND:+.1f}" == "+0.8 (-0.0 to +0.8)"
    assert FOUND.interval(".2f") == "-0.00 to 0.84"


def test_a_number_and_its_interval_are_two_cells_of_a_table() -> None:
    assert estimate_cells(FOUND, "+.3f") == ("+0.812", "-0.005 to +0.842")
    assert estimate_cells(None) == ("undefined", "")
