/** From the answers of the networks to one probability, mask and map (`Analyzer`). */
import type { Calibration, Member } from "../release/records";
import type { FloatMap, Mask } from "./raster";
import { addMap, resizeMap } from "./resample";

/**
 * What one network says of one image, by output: the mean over its looks, maps lying on the image
 * as it is; of `malignant` a number for each look.
 */
export type Answers = Readonly<Record<string, { data: Float32Array; shape: readonly number[] }>>;

const CLOSEST = 1e-7; // a score of 0 or 1 has no finite logit

/** Returns the calibrated probability of a score. */
export function calibrate({ temperature, bias }: Calibration, score: number): number {
  const inside = Math.min(Math.max(score, CLOSEST), 1 - CLOSEST);
  const logit = (Math.log(inside) - Math.log1p(-inside)) / temperature + bias;
  return 1 / (1 + Math.exp(-logit));
}

/** The malignant score of each network, and their calibrated mean. */
export interface Scored {
  readonly probability: number;
  readonly scores: Readonly<Record<string, number>>;
  /** Standard deviation over looks and networks, each calibrated; null where there is but one. */
  readonly uncertainty: number | null;
}

/** Returns the score of an image. */
export function fuseScores(
  answers: readonly Answers[],
  members: readonly Member[],
  calibration: Calibration,
): Scored {
  const looked = answers.map((answer) => Array.from(answer["malignant"].data));
  const scores = looked.map(mean);
  const weighted = (values: readonly number[]) =>
    values.reduce((sum, value, i) => sum + value * members[i].weight, 0);
  const each = looked.map((of) => of.map((score) => calibrate(calibration, score)));
  const middle = weighted(each.map(mean));
  const squares = each.map((of) => mean(of.map((value) => (value - middle) ** 2)));
  return {
    probability: calibrate(calibration, weighted(scores)),
    scores: Object.fromEntries(members.map(({ name }, i) => [name, scores[i]])),
    uncertainty: looked.flat().length > 1 ? Math.sqrt(weighted(squares)) : null,
  };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Returns where the lesion is, at the size of the image. */
export function fuseMasks(
  answers: readonly Answers[],
  members: readonly Member[],
  threshold: number,
  width: number,
  height: number,
): Mask {
  const bySize = new Map<number, Float32Array>(); // maps of one size are added, then resized once
  answers.forEach((answer, i) => {
    const lesion = answer["lesion"];
    const size = lesion.shape[lesion.shape.length - 1];
    const total = bySize.get(size) ?? new Float32Array(lesion.data.length);
    const weight = Math.fround(members[i].weight);
    for (let at = 0; at < total.length; at++) total[at] += Math.fround(lesion.data[at] * weight);
    bySize.set(size, total);
  });
  const mean = new Float32Array(width * height);
  for (const [size, data] of bySize) {
    addMap({ width, height, data: mean }, { width: size, height: size, data });
  }
  const least = Math.fround(threshold - 1e-6);
  const data = new Uint8Array(mean.length);
  for (let at = 0; at < mean.length; at++) data[at] = Number(mean[at] >= least);
  return { width, height, data };
}

/** Returns the weighted mean of the networks' maps: what each place adds to the log-odds. */
export function fuseActivation(answers: readonly Answers[], members: readonly Member[]): FloatMap {
  const maps = answers.map((answer) => squareMap(answer["activation_map"]));
  const side = Math.max(...maps.map((map) => map.width));
  const data = new Float32Array(side * side);
  maps.forEach((map, i) => {
    const enlarged = resizeMap(map, side, side).data;
    for (let at = 0; at < data.length; at++) data[at] += members[i].weight * enlarged[at];
  });
  return { width: side, height: side, data };
}

function squareMap({ data, shape }: Answers[string]): FloatMap {
  const [height, width] = shape.slice(-2);
  return { width, height, data };
}
