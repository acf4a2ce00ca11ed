"""Whether two shares differ by more than chance: Fisher's exact test."""

from math import comb


def fisher_p_value(hits_a: int, count_a: int, hits_b: int, count_b: int) -> float:
    """Returns the two-sided p-value of "both groups are hit alike".

    Of all ways in which as many hits could fall on the two groups, it is the share of those that
    are no likelier than what was seen.

    Args:
        hits_a: Of the first group, 0 to ``count_a``.
        count_a: Size of the first group.
        hits_b: Of the second group, 0 to ``count_b``.
        count_b: Size of the second group.

    Example:
        >>> round(fisher_p_value(3, 4, 1, 4), 4)  # the lady tasting tea, two-sided
        0.4857
    """
    hits = hits_a + hits_b
    fewest, most = max(0, hits - count_b), min(hits, count_a)
    ways = [comb(count_a, k) * comb(count_b, hits - k) for k in range(fewest, most + 1)]
    seen = ways[hits_a - fewest]
    as_odd = sum(way for way in ways if way <= seen)
    return as_odd / sum(ways)
