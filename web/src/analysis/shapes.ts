/** Geometry of one connected mask (`dermfuse.imaging.geometry`). */
import type { Mask } from "./raster";
import { area } from "./raster";
import { roundHalfEven } from "./statistics";

const ROUND_RATIO = 0.95;
const TURNS = 8; // of the axes that are tried for a round shape, over a quarter turn

/** Centroid in pixels, full lengths of the principal axes, and the longer one's angle. */
export interface Axes {
  readonly x: number;
  readonly y: number;
  readonly major: number;
  readonly minor: number;
  readonly angle: number;
}

/** Of each pixel of a folded mask: whether it meets the mask, and where it comes to lie. */
export interface Fold {
  readonly met: Uint8Array;
  readonly partner: Int32Array;
  /** The share of the mask that its mirror image leaves uncovered. */
  readonly uncovered: number;
}

/** Returns where a mask is lesion, in reading order. */
export function places(mask: Mask): Int32Array {
  const found = new Int32Array(area(mask));
  for (let i = 0, to = 0; i < mask.data.length; i++) if (mask.data[i]) found[to++] = i;
  return found;
}

/** Returns centroid and principal axes of a mask that is not empty. */
export function principalAxes(mask: Mask): Axes {
  const inside = places(mask);
  const { width } = mask;
  let [centreX, centreY, xx, yy, xy] = [0, 0, 0, 0, 0];
  for (const at of inside) {
    centreX += at % width;
    centreY += Math.floor(at / width);
  }
  centreX /= inside.length;
  centreY /= inside.length;
  for (const at of inside) {
    const x = (at % width) - centreX;
    const y = Math.floor(at / width) - centreY;
    xx += x * x;
    yy += y * y;
    xy += x * y;
  }
  xx = xx / inside.length + 1 / 12;
  yy = yy / inside.length + 1 / 12;
  xy /= inside.length;
  const [middle, apart] = [(xx + yy) / 2, Math.hypot((xx - yy) / 2, xy)];
  const turn = 0.5 * Math.atan2(2 * xy, xx - yy);
  return {
    x: centreX + 0.5,
    y: centreY + 0.5,
    major: 4 * Math.sqrt(middle + apart),
    minor: 4 * Math.sqrt(Math.max(middle - apart, 1 / 12)),
    angle: turn < 0 ? turn + Math.PI : turn,
  };
}

/** Returns the length of the outline by Crofton's formula over four directions. */
export function perimeter(mask: Mask): number {
  let straight = 0;
  let slanted = 0;
  for (let y = -1; y < mask.height; y++) {
    for (let x = -1; x < mask.width; x++) {
      const here = valueAt(mask, x, y);
      const right = valueAt(mask, x + 1, y);
      const below = valueAt(mask, x, y + 1);
      const across = valueAt(mask, x + 1, y + 1);
      straight += (here ^ below) + (here ^ right);
      slanted += (across ^ here) + (below ^ right);
    }
  }
  return (Math.PI / 8) * (straight + slanted / Math.SQRT2);
}

/** Returns the share of its convex hull that a mask fills, counted by Pick's theorem. */
export function solidity(mask: Mask): number {
  const corners = convexHull(mask);
  let [doubled, onOutline] = [0, 0];
  corners.forEach(([x, y], i) => {
    const [nextX, nextY] = corners[(i + 1) % corners.length];
    doubled += x * nextY - y * nextX;
    onOutline += divisor(Math.abs(nextX - x), Math.abs(nextY - y));
  });
  return area(mask) / (Math.abs(doubled) / 2 + onOutline / 2 + 1);
}

/** Returns the largest distance between two points of a mask (Feret's). */
export function longestExtent(mask: Mask): number {
  const corners = convexHull(mask);
  let largest = 0;
  for (const [x, y] of corners) {
    for (const [u, v] of corners) largest = Math.max(largest, (x - u) ** 2 + (y - v) ** 2);
  }
  return Math.sqrt(largest) + 1;
}

/** Returns a mask folded about its principal axes; a round one about those that fit best. */
export function foldBoth(mask: Mask): [Fold, Fold] {
  const axes = principalAxes(mask);
  const inside = places(mask);
  const angles =
    axes.minor <= ROUND_RATIO * axes.major
      ? [axes.angle]
      : Array.from({ length: TURNS }, (_, turn) => (turn * Math.PI) / 2 / TURNS);
  const pairs = angles.map((angle): [Fold, Fold] => [
    fold(mask, inside, axes, angle),
    fold(mask, inside, axes, angle + Math.PI / 2),
  ]);
  const left = (pair: [Fold, Fold]) => pair[0].uncovered + pair[1].uncovered;
  return pairs.reduce((best, pair) => (left(pair) < left(best) ? pair : best));
}

type Point = readonly [number, number];

function convexHull({ width, height, data }: Mask): Point[] {
  const [first, last]: Point[][] = [[], []];
  for (let y = 0; y < height; y++) {
    const row = data.subarray(y * width, (y + 1) * width);
    const start = row.indexOf(1);
    if (start < 0) continue;
    first.push([start, y]);
    last.push([row.lastIndexOf(1), y]);
  }
  const corners = [...chain(first), ...chain(last.reverse())];
  return [...new Map(corners.map((point) => [point.join(), point])).values()];
}

/** Returns the points of one side of a hull: those at which the way turns inwards. */
function chain(points: readonly Point[]): Point[] {
  const kept: Point[] = [];
  for (const [x, y] of points) {
    while (kept.length > 1) {
      const [[x0, y0], [x1, y1]] = kept.slice(-2);
      if ((x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) < 0) break; // y points down
      kept.pop();
    }
    kept.push([x, y]);
  }
  return kept;
}

function divisor(a: number, b: number): number {
  return b === 0 ? a : divisor(b, a % b);
}

function fold(mask: Mask, inside: Int32Array, axes: Axes, angle: number): Fold {
  const { width, height } = mask;
  const cos = Math.cos(2 * angle);
  const sin = Math.sin(2 * angle);
  const met = new Uint8Array(inside.length);
  const partner = new Int32Array(inside.length);
  let covered = 0;
  for (let i = 0; i < inside.length; i++) {
    const u = (inside[i] % width) + 0.5 - axes.x;
    const v = Math.floor(inside[i] / width) + 0.5 - axes.y;
    const x = cos * u + sin * v + axes.x - 0.5;
    const y = sin * u - cos * v + axes.y - 0.5;
    met[i] = Number(interpolated(mask, x, y) >= 0.5 - 1e-6); // halves count, rounded too
    covered += met[i];
    const row = Math.min(Math.max(roundHalfEven(y), 0), height - 1);
    partner[i] = row * width + Math.min(Math.max(roundHalfEven(x), 0), width - 1);
  }
  return { met, partner, uncovered: 1 - covered / inside.length };
}

/** Returns a mask's value between pixel centres; beyond the frame there is nothing. */
function interpolated(mask: Mask, x: number, y: number): number {
  const column = Math.floor(x);
  const row = Math.floor(y);
  const right = x - column;
  const below = y - row;
  const upper = valueAt(mask, column, row) * (1 - right) + valueAt(mask, column + 1, row) * right;
  const lower =
    valueAt(mask, column, row + 1) * (1 - right) + valueAt(mask, column + 1, row + 1) * right;
  return upper * (1 - below) + lower * below;
}

function valueAt({ width, height, data }: Mask, x: number, y: number): number {
  return x >= 0 && y >= 0 && x < width && y < height ? data[y * width + x] : 0;
}
