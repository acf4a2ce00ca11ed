"""From an image to its analysis, with the networks of a release; no torch, no network."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermfuse.analysis.isolation import DecoderLimits, Decoders
from dermfuse.analysis.records import Analysis, Score
from dermfuse.errors import ConfigError
from dermfuse.folders import core_count
from dermfuse.imaging.geometry import Reduced, reduce_image
from dermfuse.imaging.limits import MAX_PIXELS, check_max_pixels
from dermfuse.imaging.measures import measure_lesion
from dermfuse.imaging.preprocess import WHOLE_VALUES
from dermfuse.imaging.quality import appearance, assess_quality
from dermfuse.imaging.reading import Source, read_any
from dermfuse.imaging.symmetries import Answers, Looks, check_looks, mean_looks
from dermfuse.release.folder import OperatingPoint, Release, choose_release, read_release
from dermfuse.release.gate import join_embeddings, read_dermoscopy
from dermfuse.release.networks import ask_all, join_activations, join_masks, load_networks


class Analyzer:
    """Analyses dermoscopy images; one of them may be used by many threads.

    Args:
        release: A release folder; the networks that are part of the package if left out.
        operating_point: Name of the threshold, like ``sensitivity95``; the release's own default
            if left out.
        looks: At how many orientations of an image each network looks: 1, 4 or 8, averaged
            (``dermfuse.imaging.symmetries``); as many as the release was measured with if left out.
        threads: That one image may use.
        max_pixels: Of an image; more are refused before any is decoded.
        score_all: Whether images unlike those the networks learnt from are scored and outlined
            too, as an evaluation on images that are known to be dermoscopy needs it; the warning
            stays.
        isolate: Whether files are decoded in processes of their own, which bounds what a hostile
            one can do: True for one per core at most, or the processes, whose limits hold then.

    Raises:
        ReleaseError: The release cannot be used, or has no such operating point.
        ConfigError: ``threads`` is below 1, ``looks`` is none of the three, or ``max_pixels`` is
            no limit that can be kept.

    Example:
        ``Analyzer().analyze("lesion.jpg").malignant_probability``
    """

    def __init__(
        self,
        release: str | Path | None = None,
        *,
        operating_point: str | None = None,
        looks: int | None = None,
        threads: int = 1,
        score_all: bool = False,
        max_pixels: int = MAX_PIXELS,
        isolate: bool | Decoders = False,
    ) -> None:
        self._max_pixels = check_max_pixels(max_pixels)
        if threads < 1:
            raise ConfigError(f"threads is {threads}", expected="1 or more")
        if looks is not None:
            check_looks(looks)
        self._decoders = _decoders(isolate, max_pixels)
        if self._decoders is not None:
            self._max_pixels = self._decoders.limits.max_pixels
        folder = choose_release(release)
        self._folder = folder
        self._release = read_release(folder)
        self._point = self._release.classes.point(operating_point)
        self._looks = check_looks(self._release.looks if looks is None else looks)
        networks = load_networks(folder, self._release, threads=threads)
        scoring = len(self._release.classes.members)
        self._classes, self._masks = networks[:scoring], networks[scoring:]
        gate = self._release.gate
        self._dermoscopy = read_dermoscopy(folder, gate) if gate else None
        self._score_all = score_all

    @property
    def folder(self) -> Path:
        """Where the release lies."""
        return self._folder

    @property
    def release(self) -> Release:
        """What the networks are and what was measured of them."""
        return self._release

    @property
    def operating_point(self) -> OperatingPoint:
        """The threshold in use."""
        return self._point

    @property
    def looks(self) -> Looks:
        """At how many orientations of an image each network looks."""
        return self._looks

    @property
    def max_pixels(self) -> int:
        """The most that an image may have."""
        return self._max_pixels

    @property
    def score_all(self) -> bool:
        """Whether an image unlike those the networks learnt from is scored and outlined too."""
        return self._score_all

    @property
    def decoders(self) -> Decoders | None:
        """The processes that decode; None if this one does."""
        return self._decoders

    @property
    def digests(self) -> dict[str, str]:
        """The SHA-256 of each network's file, by name."""
        networks = [*self._classes, *self._masks]
        return {network.card.name: network.card.sha256 for network in networks}

    def analyze(self, source: Source, *, name: str = "") -> Analysis:
        """Returns the analysis of one image.

        Args:
            source: The image; a file may be JPEG, PNG, TIFF, BMP, GIF, WebP or DICOM.
            name: For the record; the path if left out.

        Raises:
            ImageError: The image cannot be read.
        """
        named = name or _path_of(source)
        return self.analyze_pixels(self.read(source, name=named), named)

    def score(self, source: Source, *, name: str = "") -> Score:
        """Returns how likely one image is melanoma, without outlining it: faster.

        The class networks alone are asked. The probability, the call and whether the image is
        like those learnt from are those of ``analyze``; there is no mask, no activation map and
        no measure, and the quality of the image is not looked at.

        Args:
            source: As for ``analyze``.
            name: For the record; the path if left out.

        Raises:
            ImageError: The image cannot be read.

        Example:
            ``Analyzer().score("lesion.jpg").malignant_probability``
        """
        named = name or _path_of(source)
        image = _for_networks(self.read(source, name=named))
        answers = ask_all(self._classes, image, looks=self._looks)
        return self._score(answers, _means(answers), reduce_image(image), named)

    def analyze_many(self, sources: Iterable[Source]) -> Iterator[Analysis]:
        """Yields the analysis of each image, as it is asked for.

        Raises:
            ImageError: An image cannot be read.
        """
        for source in sources:
            yield self.analyze(source)

    def read(self, source: Source, *, name: str = "") -> NDArray[np.uint8]:
        """Returns the pixels of an image, (H, W, 3), within this analyzer's limits.

        Args:
            source: As for ``analyze``.
            name: For messages.

        Raises:
            ImageError: The image cannot be read.
        """
        if self._decoders is not None:
            return self._decoders.read(source, name=name)
        return read_any(source, name=name, max_pixels=self._max_pixels)

    def analyze_pixels(self, pixels: NDArray[np.uint8], name: str) -> Analysis:
        """Returns the analysis of what ``read`` returned, which is not copied again.

        Args:
            pixels: RGB, (H, W, 3); the analysis shares them.
            name: For the record.
        """
        image = _for_networks(pixels)
        reduced = reduce_image(image)
        answers = ask_all([*self._classes, *self._masks], image, looks=self._looks)
        del image
        means, scoring = _means(answers), len(self._classes)
        score = self._score(answers[:scoring], means[:scoring], reduced, name)
        about = {field.name: getattr(score, field.name) for field in fields(score)}
        if score.is_withheld:
            return Analysis(
                **about,
                image=pixels,
                mask=None,
                activation=None,
                measures=None,
                quality=assess_quality(reduced),
            )
        height, width = pixels.shape[:2]
        mask = join_masks(means[scoring:], self._release.masks, height=height, width=width)
        measures = measure_lesion(pixels, mask)
        return Analysis(
            **about,
            image=pixels,
            mask=mask,
            activation=join_activations(means[:scoring], self._release.classes.members),
            measures=measures,
            quality=assess_quality(reduced, frame_contact=measures.frame_contact),
        )

    def _score(
        self, answers: list[Answers], means: list[Answers], reduced: Reduced, name: str
    ) -> Score:
        """Returns the score that the class networks' answers make, or withholds it.

        Args:
            answers: Of each class network, looks apart.
            means: The same in the mean over looks.
            reduced: The image.
            name: Of it.
        """
        distance, is_dermoscopy = self._recognise(means, reduced)
        withheld = is_dermoscopy is False and not self._score_all
        fused = _NO_SCORE if withheld else self._fuse(answers)
        return Score(
            name=name,
            release=self._release.name,
            malignant_probability=fused.probability,
            operating_point=self._point,
            scores=fused.by_network,
            uncertainty=fused.uncertainty,
            looks=self._looks,
            measured_looks=self._release.looks,
            is_dermoscopy=is_dermoscopy,
            dermoscopy_distance=distance,
        )

    def _fuse(self, answers: list[Answers]) -> "_Fused":
        classes = self._release.classes
        apart = np.stack([answer["malignant"] for answer in answers]).astype(np.float64)
        weights = np.array([member.weight for member in classes.members])
        scores = apart.mean(axis=1)  # (networks, looks) -> (networks,)
        names = [member.name for member in classes.members]
        return _Fused(
            float(classes.calibration(float(scores @ weights))),
            dict(zip(names, scores.tolist(), strict=True)),
            _deviation(classes.calibration(apart), weights) if apart.size > 1 else None,
        )

    def _recognise(
        self, means: list[Answers], reduced: Reduced
    ) -> tuple[float | None, bool | None]:
        """Returns the distance from the images learnt from, and whether it is near enough."""
        gate = self._release.gate
        if gate is None or self._dermoscopy is None:
            return None, None
        embeddings = join_embeddings([answer["embedding"] for answer in means])
        found = self._dermoscopy.distance(embeddings[None], appearance(reduced)[None])
        distance = float(found[0])
        return distance, distance <= gate.threshold


@dataclass(frozen=True, slots=True)
class _Fused:
    probability: float | None
    by_network: dict[str, float]
    uncertainty: float | None


_NO_SCORE = _Fused(None, {}, None)


def _decoders(isolate: bool | Decoders, max_pixels: int) -> Decoders | None:
    """Returns what decodes; it starts while the networks load."""
    if isinstance(isolate, Decoders):
        isolate.start(isolate.count)
        return isolate
    if not isolate:
        return None
    decoders = Decoders(core_count(), limits=DecoderLimits(max_pixels=max_pixels))
    decoders.start()
    return decoders


def _for_networks(pixels: NDArray[np.uint8]) -> NDArray[np.uint8] | Image.Image:
    """Returns pixels as what is resized fastest; large ones, which would not fit twice, as is."""
    return Image.fromarray(pixels) if pixels.size <= WHOLE_VALUES else pixels


def _means(answers: list[Answers]) -> list[Answers]:
    return [mean_looks(answer) for answer in answers]


def _deviation(apart: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Returns the standard deviation over looks and networks.

    Args:
        apart: Calibrated probabilities. (networks, looks)
        weights: Of the networks; they add up to 1.
    """
    mean = weights @ apart.mean(axis=1)
    return float(np.sqrt(weights @ ((apart - mean) ** 2).mean(axis=1)))


def _path_of(source: Source) -> str:
    return os.fspath(source) if isinstance(source, str | os.PathLike) else ""
