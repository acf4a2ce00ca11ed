"""What a release says of itself, printed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dermfuse.cli.console import say, say_notice
from dermfuse.release.folder import ClassRelease, MaskRelease, Release
from dermfuse.words import MISSED, UNLIKE


def show_release(release: Release, folder: Path) -> None:
    """Prints thresholds, weights and what was measured out of fold."""
    _show_points(release.classes)
    for part in (release.classes, release.masks):
        _show_part(part)
    for kind, of in (release.gate.measured if release.gate else {}).items():
        say(f"{kind}: {100 * of['flagged']:.1f} % of {of['images']} {UNLIKE}")
    say(f"The release lies in {folder}. Try it: dermfuse analyze IMAGE --release {folder}")
    say_notice()


def _show_points(classes: ClassRelease) -> None:
    for point in classes.operating_points:
        found, kept = point.sensitivity, point.specificity
        missed = classes.sensitivity_with_missed(point)
        say(
            f"{point.name}: from {point.threshold:.3f} on, sensitivity {found.value:.3f} "
            f"({found.low:.3f} to {found.high:.3f}"
            f"{f'; {missed.value:.3f}, {MISSED}' if missed else ''}), specificity {kept.value:.3f} "
            f"({kept.low:.3f} to {kept.high:.3f})"
        )
    if withheld := classes.measured.get("withheld"):
        malignant, benign = withheld["malignant"], withheld["benign"]
        say(
            f"withheld: {_share(malignant)} malignant and {_share(benign)} benign images "
            f"(p {withheld['p_value']:.2f})"
        )


def _show_part(part: ClassRelease | MaskRelease) -> None:
    shares = ", ".join(f"{each.name} {each.weight:.2f}" for each in part.members)
    measured = part.measured
    say(f"{shares}: {_numbers(measured)} on {measured['images']} images, out of fold")
    for name, of in measured["subsets"].items():
        say(f"  {name}: {_numbers(of)} on {of['images']} images")
    if single := measured.get("one_look"):
        gains = ", ".join(f"{metric} {_signed(of)}" for metric, of in single["gain"].items())
        say(f"  {measured['looks']} looks beside one: {gains}")


def _numbers(measured: Mapping[str, Any]) -> str:
    numbers = [
        f"{metric} {of['value']:.3f} ({of['low']:.3f} to {of['high']:.3f})"
        for metric, of in measured["fusion"].items()
    ]
    if "calibration_error" in measured:
        numbers.append(f"calibration error {measured['calibration_error']:.3f}")
    return ", ".join(numbers)


def _signed(of: Mapping[str, float]) -> str:
    return f"{of['value']:+.4f} ({of['low']:+.4f} to {of['high']:+.4f})"


def _share(of: Mapping[str, int]) -> str:
    return f"{of['withheld']} of {of['images']}"
