"""What ``bench_analysis`` measured."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from dermfuse.bench import Comparison
from dermfuse.bench.fresh import ColdStart
from dermfuse.bench.machine import Machine
from dermfuse.bench.rounds import Clock, Latency
from dermfuse.release.cards import NetworkCard

TASKS: Mapping[str, str] = {
    "analysis": "full analysis",
    "networks": "decoding, networks, mask",
    "score": "score alone",
    "analysis_plain": "full analysis, PyTorch",
    "networks_plain": "decoding, networks, mask, PyTorch",
}
"""What is timed, in words."""


@dataclass(frozen=True, slots=True)
class ThreadReport:
    """Times with a number of threads for each image.

    Args:
        threads: How many.
        latencies: Of each of ``TASKS`` that was measured.
        analysis: dermfuse's full analysis beside PyTorch's; None without PyTorch.
        networks: The same without what both share: measures, appearance, quality.
    """

    threads: int
    latencies: Mapping[str, Latency]
    analysis: Comparison | None
    networks: Comparison | None

    @classmethod
    def from_clocks(cls, threads: int, clocks: Mapping[str, Clock]) -> Self:
        """Returns the report of tasks that took turns."""
        latencies = {name: clocks[name].latency for name in TASKS if name in clocks}
        both = (_compare(clocks, name) for name in ("analysis", "networks"))
        return cls(threads, latencies, *both)

    def to_dict(self) -> dict[str, Any]:
        """Returns flat JSON values, rounded to what the clock can tell."""
        record: dict[str, Any] = {"threads": self.threads}
        for name, latency in self.latencies.items():
            record[f"{name}_ms"] = round(latency.milliseconds, 2)
            record[f"{name}_ms_percentile_90"] = round(latency.percentile_90, 2)
        for name, comparison in (("analysis", self.analysis), ("networks", self.networks)):
            if comparison is not None:
                record |= ratios_of(comparison, name)
        return record


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisReport:
    """What was measured, and on what.

    Args:
        release: Its name.
        networks: Its networks and what they see.
        precision: Of its networks; PyTorch's side is float32.
        looks: At how many orientations of an image each network looked, on both sides.
        data: The images.
        images: How many.
        rounds: How often each side did all of them; n of a latency is images x rounds.
        by_threads: With one thread for each image, and with two.
        cold_start: What a new process costs.
        folder: A folder's images per second by two threads, beside those by one; two idle cores
            are needed for this to say anything.
        folder_images: How many files it has.
        plain_left_out: Why PyTorch was not measured; empty where it was.
        machine: What this was measured on.
    """

    release: str
    networks: tuple[str, ...]
    precision: str
    looks: int
    data: str
    images: int
    rounds: int
    by_threads: tuple[ThreadReport, ...]
    cold_start: ColdStart
    folder: Comparison
    folder_images: int
    plain_left_out: str
    machine: Machine

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        return {
            "release": self.release,
            "networks": list(self.networks),
            "precision": self.precision,
            "precision_plain": "float32",
            "looks": self.looks,
            "data": self.data,
            "images": self.images,
            "rounds": self.rounds,
            "threads": [each.to_dict() for each in self.by_threads],
            "cold_start": self.cold_start.to_dict(),
            "folder": {
                "images": self.folder_images,
                "images_per_second_1_thread": round(self.folder.plain_images_per_second, 2),
                "images_per_second_2_threads": round(self.folder.images_per_second, 2),
                **ratios_of(self.folder, "two_threads"),
            },
            "plain_left_out": self.plain_left_out,
            "machine": asdict(self.machine),
        }


def name_precisions(cards: Iterable[NetworkCard]) -> str:
    """Returns the precisions of networks in words; most releases have one."""
    return ", ".join(sorted({card.precision for card in cards}))


def ratios_of(comparison: Comparison, name: str) -> dict[str, float]:
    """Returns the ratio of a comparison with its range, as flat JSON values."""
    return {
        f"{name}_ratio": round(comparison.ratio, 2),
        f"{name}_ratio_lowest": round(comparison.lowest_ratio, 2),
        f"{name}_ratio_highest": round(comparison.highest_ratio, 2),
    }


def _compare(clocks: Mapping[str, Clock], name: str) -> Comparison | None:
    plain = clocks.get(f"{name}_plain")
    return Comparison.from_rates(clocks[name].rates, plain.rates) if plain else None
