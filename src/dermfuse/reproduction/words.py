"""A table in plain words: does what the paper says hold here? Made from the numbers alone."""

from collections.abc import Sequence
from itertools import groupby

from dermfuse.reproduction.outcome import ContrastResult, Leakage, RowResult, TableResult
from dermfuse.reproduction.paper import METRIC_NAMES, TESTED, Metric

_VERDICTS = {
    "holds": "The paper's claim holds here",
    "in part": "The paper's claim holds here in part",
    "not shown": "The paper's claim is not shown here",
    "the other way round": "Here it is the other way round",
}


def say_table(table: TableResult) -> tuple[str, ...]:
    """Returns the paragraphs of one table."""
    said = [_say_noise(table), _say_best(table), *_say_tests(table.tests), _say_missing(table)]
    return tuple(paragraph for paragraph in said if paragraph)


def say_leakage(found: Sequence[Leakage]) -> tuple[str, ...]:
    """Returns what the paper's split does to the validation score, a paragraph per network."""
    paragraphs = []
    for each in found:
        name, gap = METRIC_NAMES[each.metric], each.paper_split - each.source_split
        above = each.paper_split > each.high
        paragraphs.append(
            f"{each.preset}, {name}: {each.paper_split:.3f} on {each.paper_split_images} augmented "
            f"copies whose lesions were trained on as well, {each.source_split:.3f} "
            f"({each.low:.3f} to {each.high:.3f}) on {each.source_split_images} images that were "
            f"not: a difference of {gap:+.3f}. "
            + (
                "The paper's split inflates the validation score beyond noise."
                if above
                else "Noise can explain that difference; inflation is not shown here."
            )
        )
    return tuple(paragraphs)


def _say_noise(table: TableResult) -> str:
    cells = [cell for row in table.rows for cell in row.cells if cell.within_noise is not None]
    if not cells:
        return ""
    outside = [c for c in cells if not c.within_noise and c.difference is not None]
    below = sum(c.difference < 0 for c in outside if c.difference is not None)
    said = (
        f"Within noise of ours: {len(cells) - len(outside)} of the {len(cells)} published values "
        "that were measured here, too"
    )
    if outside:
        said += f"; of the others ours is lower in {below} and higher in {len(outside) - below}"
    return said + "."


def _say_best(table: TableResult) -> str:
    """Says which row is best, in the paper and here, where two or more of its rows were run."""
    metric = TESTED[table.task][0]
    ours = [(row, row.cell(metric)) for row in table.rows if row.cell(metric).ours]
    theirs = [(row, row.cell(metric)) for row in table.rows if row.cell(metric).paper is not None]
    if len(ours) < 2:
        return ""
    best, cell = max(ours, key=lambda pair: pair[1].ours.value if pair[1].ours else 0.0)
    value = cell.ours.value if cell.ours else 0.0
    here = f"By {METRIC_NAMES[metric]}, {best.label} is highest here ({value:.3f})"
    if not theirs:
        return f"{here}."
    first, published = max(theirs, key=lambda pair: pair[1].paper or 0.0)
    if first is best:
        return f"{here}, as in the paper ({published.paper:.3f})."
    run = {row.label for row, _ in ours}
    where = "" if first.label in run else ", which has no number here"
    return f"{here}; in the paper it is {first.label} ({published.paper:.3f}){where}."


def _say_tests(tests: Sequence[ContrastResult]) -> list[str]:
    paragraphs = []
    for what, group in groupby(tests, key=lambda test: test.what):
        found = list(group)
        paragraphs.append(" ".join([_say_claim(what, found), *map(_say_test, found)]))
    return paragraphs


def _say_test(test: ContrastResult) -> str:
    published = test.paper_difference
    paper = f"; in the paper {published:+.3f}" if published is not None else ""
    return (
        f"{METRIC_NAMES[test.metric]}, {test.treated} against {test.control}: "
        f"{test.difference:+.3f} ({test.low:+.3f} to {test.high:+.3f}), "
        f"corrected p {say_p_value(test.corrected)}{paper}."
    )


def _say_claim(what: str, tests: Sequence[ContrastResult]) -> str:
    """Says how many of the paper's differences are found here, beyond noise."""
    subject = what[0].upper() + what[1:]
    gains = sum(test.is_shown and test.difference > 0 for test in tests)
    losses = sum(test.is_shown and test.difference < 0 for test in tests)
    open_ = len(tests) - gains - losses
    claimed = _claimed(tests)
    found = (
        f"{subject} helps beyond noise in {gains} of {len(tests)} comparisons, harms in {losses}, "
        f"and makes no difference that can be told from noise in {open_}."
    )
    if not claimed:
        return found
    held = sum(test.is_shown and test.difference > 0 for test in claimed)
    verdict = _VERDICTS[name_verdict(tests)]
    return f"{found} {verdict}: of its {len(claimed)} gains {held} are found beyond noise."


def name_verdict(tests: Sequence[ContrastResult]) -> str:
    """Returns what became of a claim: a key of ``_VERDICTS``.

    It is about those of its tests in which the paper has a gain; of no claim it is ``not shown``.
    """
    claimed = _claimed(tests)
    held = sum(test.is_shown and test.difference > 0 for test in claimed)
    against = sum(test.is_shown and test.difference < 0 for test in claimed)
    if not held:
        return "the other way round" if claimed and against == len(claimed) else "not shown"
    return "holds" if held == len(claimed) else "in part"


def _claimed(tests: Sequence[ContrastResult]) -> list[ContrastResult]:
    return [test for test in tests if (test.paper_difference or 0) > 0]


def _say_missing(table: TableResult) -> str:
    missing = [row.label for row in table.rows if _is_missing(row)]
    return f"Without a number of ours: {', '.join(missing)}." if missing else ""


def _is_missing(row: RowResult) -> bool:
    return bool(row.source) and row.provenance is None


def say_p_value(value: float) -> str:
    """Returns a p-value in words.

    Example:
        >>> say_p_value(0.0399), say_p_value(0.0)
        ('0.040', 'below 0.001')
    """
    return f"{value:.3f}" if value >= 0.001 else "below 0.001"


def metric_names(metrics: Sequence[Metric]) -> tuple[str, ...]:
    """Returns the heads of columns."""
    return tuple(METRIC_NAMES[metric] for metric in metrics)
