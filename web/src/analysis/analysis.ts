/** The analysis of one image from its pixels and the networks' answers, and its record. */
import type { OperatingPoint, Release } from "../release/records";
import { appearance } from "./appearance";
import { type Answers, fuseActivation, fuseMasks, fuseScores } from "./fusion";
import { type Dermoscopy, dermoscopyDistance } from "./gate";
import { describeOtherLooks, type Looks } from "./looks";
import { measureLesion, type Measures } from "./measures";
import { outline, type Ring } from "./outlines";
import { assessQuality, type QualityFlag } from "./quality";
import { area, type FloatMap, type Mask, type Raster } from "./raster";
import { reduceImage } from "./reduction";

const WITHHELD =
  "This image is unlike the images the networks learnt from, so no probability, outline or " +
  "measure is given: a person must look at it first.";

/** What an analysis found; nothing in it is a diagnosis. */
export interface Analysis {
  readonly release: string;
  readonly notice: string;
  readonly width: number;
  readonly height: number;
  /** Calibrated, of melanoma; null where it is unlike the images learnt from. */
  readonly probability: number | null;
  readonly scores: Readonly<Record<string, number>>;
  /** Standard deviation of the probability over looks and networks; null where there is but one. */
  readonly uncertainty: number | null;
  /** In how many orientations each network saw the image. */
  readonly looks: Looks;
  /** With how many the release was measured. */
  readonly measuredLooks: Looks;
  readonly isDermoscopy: boolean | null;
  readonly distance: number | null;
  readonly mask: Mask;
  readonly activation: FloatMap;
  readonly measures: Measures;
  readonly quality: Readonly<Record<string, QualityFlag>>;
  readonly outline: readonly Ring[];
}

/**
 * Returns the analysis of an image.
 *
 * @param answers - Of the class networks, then of the mask networks, as the release names them.
 * @param looks - In how many orientations each of them saw it.
 */
export function analyse(
  image: Raster,
  answers: readonly Answers[],
  looks: Looks,
  release: Release,
  dermoscopy: Dermoscopy | null,
): Analysis {
  const { classes, masks, gate } = release;
  const classAnswers = answers.slice(0, classes.members.length);
  const maskAnswers = answers.slice(classes.members.length);
  const { width, height } = image;
  const mask = fuseMasks(maskAnswers, masks.members, masks.threshold, width, height);
  const reduced = reduceImage(image);
  const measures = measureLesion(image, mask);
  let distance: number | null = null;
  if (gate && dermoscopy) {
    const embeddings = classAnswers.map((answer) => answer["embedding"].data);
    distance = dermoscopyDistance(dermoscopy, embeddings, appearance(reduced));
  }
  const isDermoscopy = gate && distance !== null ? distance <= gate.threshold : null;
  const withheld = isDermoscopy === false; // then nothing is said or drawn of the lesion
  const scored =
    withheld
      ? { probability: null, scores: {}, uncertainty: null }
      : fuseScores(classAnswers, classes.members, classes.calibration);
  return {
    release: release.name,
    notice: release.notice,
    width,
    height,
    ...scored,
    looks,
    measuredLooks: release.looks,
    isDermoscopy,
    distance,
    mask,
    activation: withheld ? blankMap() : fuseActivation(classAnswers, classes.members),
    measures,
    quality: assessQuality(reduced, Math.min(width, height), withheld ? null : measures.frame_contact),
    outline: withheld ? [] : outline(mask),
  };
}

/** Returns a map that says nothing; a new one each time, for the worker gives maps away. */
function blankMap(): FloatMap {
  return { width: 1, height: 1, data: new Float32Array(1) };
}

/** Returns what a reader must know before the numbers, a sentence each. */
export function warningsOf(analysis: Analysis): string[] {
  const raised = Object.values(analysis.quality).filter((flag) => flag.raised);
  const otherLooks = describeOtherLooks(analysis.looks, analysis.measuredLooks);
  return [
    ...(analysis.isDermoscopy === false ? [WITHHELD] : []),
    ...(otherLooks ? [otherLooks] : []),
    ...raised.map((flag) => flag.sentence),
  ];
}

/** Returns the call at an operating point; null where there is no probability. */
export function callAt(analysis: Analysis, point: OperatingPoint): "malignant" | "benign" | null {
  if (analysis.probability === null) return null;
  return analysis.probability >= point.threshold ? "malignant" : "benign";
}

/** Returns an analysis as `dermfuse analyze --json` prints it. */
export function toRecord(analysis: Analysis, point: OperatingPoint, name: string): object {
  const withheld = analysis.isDermoscopy === false;
  return {
    name,
    release: analysis.release,
    width_px: analysis.width,
    height_px: analysis.height,
    malignant_probability: rounded(analysis.probability),
    predicted: callAt(analysis, point),
    operating_point: point.name,
    threshold: point.threshold,
    sensitivity: point.sensitivity,
    specificity: point.specificity,
    scores: Object.fromEntries(
      Object.entries(analysis.scores).map(([network, score]) => [network, rounded(score)]),
    ),
    uncertainty: rounded(analysis.uncertainty),
    looks: analysis.looks,
    dermoscopy: analysis.isDermoscopy,
    dermoscopy_distance: rounded(analysis.distance),
    lesion_area_fraction: withheld ? null : rounded(area(analysis.mask) / analysis.mask.data.length),
    measures: withheld ? null : analysis.measures,
    quality: analysis.quality,
    warnings: warningsOf(analysis),
    outline: withheld ? null : analysis.outline,
    notice: analysis.notice,
  };
}

function rounded(value: number | null): number | null {
  return value === null ? null : Number(value.toFixed(6));
}
