"""A number with its 95 % interval, and a test of two numbers of the same images."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its 95 % interval; a number that is not defined is None, not an estimate.

    Args:
        value: As measured.
        low: The interval's lower end.
        high: The interval's upper end.

    Example:
        >>> found = Estimate(0.8123, 0.7723, 0.8423)
        >>> f"{found:.3f}", found.interval(".2f")
        ('0.812 (0.772 to 0.842)', '0.77 to 0.84')
    """

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        return f"{self.value:{spec}} ({self.interval(spec)})"

    def interval(self, spec: str) -> str:
        """Returns the interval in words, each end in the format ``spec``."""
        return f"{self.low:{spec}} to {self.high:{spec}}"


@dataclass(frozen=True, slots=True)
class PairedTest:
    """A number of A and of B, on the same images.

    Args:
        a: The number of A.
        b: The number of B.
        difference: A less B.
        p_value: Two-sided, of "no difference"; None where the test has no answer.
    """

    a: float
    b: float
    difference: Estimate
    p_value: float | None


def estimate_cells(estimate: Estimate | None, spec: str = ".3f") -> tuple[str, str]:
    """Returns a number and its interval as two cells of a table.

    Args:
        estimate: None where it is not defined.
        spec: The format of each number; ``+.3f`` writes the sign always.
    """
    if estimate is None:
        return "undefined", ""
    return f"{estimate.value:{spec}}", estimate.interval(spec)
