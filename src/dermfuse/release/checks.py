"""What the numbers and names of a release's record must be before anything follows them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from dermfuse.errors import ConfigError, ReleaseError
from dermfuse.looks import check_looks
from dermfuse.parsing import JsonSource, build_record
from dermfuse.records import show_value
from dermfuse.release.files import require_digest, require_file_name
from dermfuse.release.operating import OperatingPoint, Rate

if TYPE_CHECKING:
    from dermfuse.release.folder import ClassRelease, Gate, Member, Release

MOST_MEMBERS = 64
"""Networks of one fusion."""
MOST_POINTS = 64
"""Operating points of a release."""

_MOST_LOGITS = 1e6  # of temperature and bias: beyond, a probability is 0 or 1 whatever the image
_MOST_DISTANCE = 1e12
_RESERVED = frozenset(("release", "dermoscopy", "build"))  # names of other records beside the cards

_Range = tuple[str, float, float, float]  # key, value, lowest, highest


def check_release(release: "Release", source: str) -> None:
    """Refuses a release that does not add up.

    Args:
        release: As its record says.
        source: The record, for messages.

    Raises:
        ReleaseError: A number is out of range, a name is a path or is there twice, looks are none
            of the three, or there is no network, no point, or no default point.
    """
    _check_text(release.name, f"{source}: name")
    try:
        check_looks(release.looks)
    except ConfigError as error:
        raise ReleaseError(f"{source}: {error.found}", expected=error.expected) from error
    _check_members(release.classes.members, f"{source}: classes")
    _check_members(release.masks.members, f"{source}: masks")
    for key, value, lowest, highest in _ranges(release):
        if not lowest <= value <= highest:  # NaN is refused, too
            raise ReleaseError(
                f"{source}: {key} is {value:g}", expected=f"a number from {lowest:g} to {highest:g}"
            )
    _check_points(release.classes, source)
    if release.gate is not None:
        _check_gate(release.gate, source)


def _ranges(release: "Release") -> Iterator[_Range]:
    """Yields each number of a release with what it may be."""
    calibration = release.classes.calibration
    least = 1.0 / _MOST_LOGITS
    yield "classes.calibration.temperature", calibration.temperature, least, _MOST_LOGITS
    yield "classes.calibration.bias", calibration.bias, -_MOST_LOGITS, _MOST_LOGITS
    yield "masks.threshold", release.masks.threshold, 0.0, 1.0
    if release.gate is not None:
        yield "gate.threshold", release.gate.threshold, 0.0, _MOST_DISTANCE
    for number, point in enumerate(release.classes.operating_points):
        yield from _point_ranges(f"classes.operating_points.{number}", point)


def _point_ranges(key: str, point: OperatingPoint) -> Iterator[_Range]:
    yield f"{key}.threshold", point.threshold, 0.0, 1.0
    for name, rate in (("sensitivity", point.sensitivity), ("specificity", point.specificity)):
        yield from _rate_ranges(f"{key}.{name}", rate)


def _rate_ranges(key: str, rate: Rate) -> Iterator[_Range]:
    for each in fields(Rate):
        yield f"{key}.{each.name}", getattr(rate, each.name), 0.0, 1.0


def _check_members(members: Sequence["Member"], source: str) -> None:
    for number, member in enumerate(members):
        key = f"{source}.members.{number}"
        require_file_name(member.name, source=f"{key}.name")
        if member.name.lower() in _RESERVED:
            raise ReleaseError(
                f"{key}.name is {show_value(member.name)}",
                expected=f"a name other than {', '.join(sorted(_RESERVED))}",
            )
        if not 0.0 <= member.weight <= 1.0:
            raise ReleaseError(
                f"{key}.weight is {member.weight:g}", expected="a number from 0 to 1"
            )
    names = [member.name for member in members]
    if len(set(names)) < len(names) or len(names) > MOST_MEMBERS:
        raise ReleaseError(
            f"{source}.members names {len(names)} networks, {len(set(names))} of them different",
            expected=f"different ones, {MOST_MEMBERS} or fewer",
        )
    total = sum(member.weight for member in members)
    if not members or abs(total - 1.0) > 1e-6:
        record, part = source.rsplit(": ", 1)
        raise ReleaseError(
            f"{record}: the weights of {part} add up to {total:g}",
            expected="networks that share 1",
        )


def _check_points(classes: "ClassRelease", source: str) -> None:
    names = [point.name for point in classes.operating_points]
    for number, name in enumerate(names):
        _check_text(name, f"{source}: classes.operating_points.{number}.name")
    if len(set(names)) < len(names) or len(names) > MOST_POINTS:
        raise ReleaseError(
            f"{source}: classes.operating_points holds {len(names)}, "
            f"{len(set(names))} of different names",
            expected=f"different ones, {MOST_POINTS} or fewer",
        )
    classes.point()
    withheld = _mapping(classes.measured, "withheld", f"{source}: classes.measured")
    key = f"{source}: classes.measured.withheld"
    measured = _mapping(withheld, "operating_points", key)
    for name in names:
        if found := _mapping(measured, name, f"{key}.operating_points"):
            where = f"{key}.operating_points.{name}"
            rate = _mapping(found, "sensitivity", where)
            build_record(Rate, rate, JsonSource(f"{where}.sensitivity", ReleaseError))


def _mapping(record: Mapping[str, Any], key: str, source: str) -> Mapping[str, Any]:
    value = record.get(key, {})
    if not isinstance(value, Mapping):
        raise ReleaseError(f"{source}.{key} is {show_value(value)}", expected="an object")
    return value


def _check_gate(gate: "Gate", source: str) -> None:
    require_file_name(gate.file, source=f"{source}: gate.file", ending=".npz")
    require_digest(gate.sha256, source=f"{source}: gate.sha256")


def _check_text(text: str, key: str) -> None:
    if not text.isprintable() or not text.strip():
        raise ReleaseError(f"{key} is {show_value(text)}", expected="a text that can be printed")
