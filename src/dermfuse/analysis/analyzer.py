"""From an image to its analysis, with the networks of a release; no torch, no network."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermfuse.analysis.isolation import DecoderLimits, Decoders
from dermfuse.analysis.records import Analysis, Score
from dermfuse.errors import ConfigError
from dermfuse.imaging.geometry import Reduced, reduce_image
from dermfuse.imaging.limits import MAX_PIXELS, check_max_pixels
from dermfuse.imaging.measures import measure_lesion
from dermfuse.imaging.preprocess import WHOLE_VALUES
from dermfuse.imaging.quality import appearance, assess_quality
from dermfuse.imaging.reading import Source, read_any
from dermfuse.imaging.symmetries import Answers, Looks, check_looks, mean_looks
from dermfuse.records.folders import core_count
from dermfuse.release.folder import choose_release, read_release
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
        threads: How many one image may use.
        max_pixels: The most an image may have; more are refused before any is decoded.
        score_all: Whether images unlike those the networks learnt from are scored and outlined
            too, as an evaluation on images that are known to be dermoscopy needs it; the warning
            stays.
        isolate: Whether files are decoded in processes of their own, which bounds what a hostile
            one can do: True for one per core at most, or the processes, whose limits hold then.

    Attributes:
        folder: Where the release lies.
        release: What the networks are and what was measured of them.
        operating_point: The threshold in use.
        looks: At how many orientations of an image each network looks.
        max_pixels: The most that an image may have.
        score_all: Whether images unlike those the networks learnt from are scored, too.
        decoders: The processes that decode; None if this one does.

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
        check_max_pixels(max_pixels)
        if threads < 1:
            raise ConfigError(f"threads is {threads}", expected="1 or more")
        if looks is not None:
            check_looks(looks)
        self.decoders = _decoders(isolate, max_pixels)
        self.max_pixels = self.decoders.limits.max_pixels if self.decoders else max_pixels
        self.folder = choose_release(release)
        self.release = read_release(self.folder)
        self.operating_point = self.release.classes.point(operating_point)
        self.looks: Looks = check_looks(self.release.looks if looks is None else looks)
        self.score_all = score_all
        networks = load_networks(self.folder, self.release, threads=threads)
        scoring = len(self.release.classes.members)
        self._classes, self._masks = networks[:scoring], networks[scoring:]
        gate = self.release.gate
        self._dermoscopy = read_dermoscopy(self.folder, gate) if gate else None

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
            source: Whatever ``analyze`` takes.
            name: For the record; the path if left out.

        Raises:
            ImageError: The image cannot be read.

        Example:
            ``Analyzer().score("lesion.jpg").malignant_probability``
        """
        named = name or _path_of(source)
        image = _for_networks(self.read(source, name=named))
        answers = ask_all(self._classes, image, looks=self.looks)
        means = [mean_looks(each) for each in answers]
        return self._score(answers, means, reduce_image(image), named)

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
            source: Whatever ``analyze`` takes.
            name: For messages.

        Raises:
            ImageError: The image cannot be read.
        """
        if self.decoders is not None:
            return self.decoders.read(source, name=name)
        return read_any(source, name=name, max_pixels=self.max_pixels)

    def analyze_pixels(self, pixels: NDArray[np.uint8], name: str) -> Analysis:
        """Returns the analysis of what ``read`` returned, which is not copied again.

        Args:
            pixels: RGB, (H, W, 3); the analysis shares them.
            name: For the record.
        """
        image = _for_networks(pixels)
        reduced = reduce_image(image)
        answers = ask_all([*self._classes, *self._masks], image, looks=self.looks)
        del image
        scoring = len(self._classes)
        means = [mean_looks(each) for each in answers]
        score = self._score(answers[:scoring], means[:scoring], reduced, name)
        mask = activation = measures = None
        if not score.is_withheld:
            height, width = pixels.shape[:2]
            mask = join_masks(means[scoring:], self.release.masks, height=height, width=width)
            activation = join_activations(means[:scoring], self.release.classes.members)
            measures = measure_lesion(pixels, mask)
        contact = None if measures is None else measures.frame_contact
        return Analysis(
            **{field.name: getattr(score, field.name) for field in fields(score)},
            image=pixels,
            mask=mask,
            activation=activation,
            measures=measures,
            quality=assess_quality(reduced, frame_contact=contact),
        )

    def _score(
        self, answers: Sequence[Answers], means: Sequence[Answers], reduced: Reduced, name: str
    ) -> Score:
        """Returns the score that the class networks' answers make, or withholds it.

        Args:
            answers: Those of each class network, looks apart.
            means: The same in the mean over looks.
            reduced: The image.
            name: For the record.
        """
        distance, is_dermoscopy = self._recognise(means, reduced)
        probability, scores, uncertainty = None, dict[str, float](), None
        if self.score_all or is_dermoscopy is not False:
            probability, scores, uncertainty = self._fuse(answers)
        return Score(
            name=name,
            release=self.release.name,
            malignant_probability=probability,
            operating_point=self.operating_point,
            scores=scores,
            uncertainty=uncertainty,
            looks=self.looks,
            measured_looks=self.release.looks,
            is_dermoscopy=is_dermoscopy,
            dermoscopy_distance=distance,
        )

    def _fuse(self, answers: Sequence[Answers]) -> tuple[float, dict[str, float], float | None]:
        """Returns the calibrated probability, each network's score, and how far they deviate.

        The deviation is the standard one over looks and networks; None of one look of one network.
        """
        classes = self.release.classes
        apart = np.stack([answer["malignant"] for answer in answers]).astype(np.float64)
        weights = np.array([member.weight for member in classes.members])  # they add up to 1
        scores = apart.mean(axis=1)  # (networks, looks) -> (networks,)
        names = [member.name for member in classes.members]
        deviation = None
        if apart.size > 1:
            each = classes.calibration(apart)
            mean = weights @ each.mean(axis=1)
            deviation = float(np.sqrt(weights @ ((each - mean) ** 2).mean(axis=1)))
        probability = float(classes.calibration(float(scores @ weights)))
        return probability, dict(zip(names, scores.tolist(), strict=True)), deviation

    def _recognise(
        self, means: Sequence[Answers], reduced: Reduced
    ) -> tuple[float | None, bool | None]:
        """Returns the distance from the images learnt from, and whether it is near enough."""
        gate = self.release.gate
        if gate is None or self._dermoscopy is None:
            return None, None
        embeddings = join_embeddings([mean["embedding"] for mean in means])
        found = self._dermoscopy.distance(embeddings[None], appearance(reduced)[None])
        distance = float(found[0])
        return distance, distance <= gate.threshold


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


def _path_of(source: Source) -> str:
    return os.fspath(source) if isinstance(source, str | os.PathLike) else ""
