/** Cheap statistics that tell dermoscopy from other pictures (`dermfuse.imaging.quality`). */
import { type Lab, toLab } from "./colours";
import type { Raster } from "./raster";
import { toGrey } from "./raster";
import { thumbnail } from "./reduction";
import { correlation, deviation, mean, quotient, roundHalfEven } from "./statistics";

const COLOUR_SIDE_PX = 64;
const RING = 0.15; // of each side of the frame
const STEEP = Math.tan(Math.PI / 18);

/** Returns the 22 statistics of a working copy of an image. */
export function appearance(reduced: Raster): Float32Array {
  const small = thumbnail(reduced, COLOUR_SIDE_PX);
  const lab = toLab(small.data);
  const channels = [lab.lightness, lab.a, lab.b];
  return Float32Array.from([
    ...channels.map((values) => mean(values) / 100),
    ...channels.map((values) => deviation(values) / 100),
    ...hueShares(lab),
    ...texture(toGrey(reduced)),
    ...layout(lab, small.width, small.height),
    ...richness(small, lab.lightness),
  ]);
}

function hueShares(lab: Lab): number[] {
  const counts = [0, 0, 0, 0, 0];
  const total = lab.lightness.length;
  for (let i = 0; i < total; i++) {
    const lightness = lab.lightness[i];
    const chroma = Math.hypot(lab.a[i], lab.b[i]);
    const hue = (Math.atan2(lab.b[i], lab.a[i]) * 180) / Math.PI;
    counts[0] += Number(hue > 10 && hue < 100 && chroma >= 4 && chroma < 60);
    counts[1] += Number(chroma > 15 && (hue < -60 || hue > 110));
    counts[2] += Number(chroma < 4);
    counts[3] += Number(lightness < 20);
    counts[4] += Number(lightness > 95);
  }
  return counts.map((count) => count / total);
}

function texture({ width, height, data }: Raster): number[] {
  let [gradients, edges, laplacians, energies, uprights] = [0, 0, 0, 0, 0];
  for (let y = 1; y < height - 1; y++) {
    for (let x = 1; x < width - 1; x++) {
      const at = y * width + x;
      const left = data[at - 1];
      const right = data[at + 1];
      const above = data[at - width];
      const below = data[at + width];
      const across = Math.abs(right - left);
      const down = Math.abs(below - above);
      const energy = across * across + down * down;
      const gradient = Math.sqrt(energy);
      gradients += gradient;
      edges += Number(gradient > 32);
      laplacians += Math.abs(4 * data[at] - left - right - above - below);
      energies += energy;
      if (Math.min(across, down) < STEEP * Math.max(across, down)) uprights += energy;
    }
  }
  const count = (width - 2) * (height - 2);
  return [
    gradients / count / 255,
    edges / count,
    quotient(laplacians / count, gradients / count),
    quotient(uprights, energies),
  ];
}

function layout(lab: Lab, width: number, height: number): number[] {
  const top = Math.max(1, roundHalfEven(RING * height));
  const side = Math.max(1, roundHalfEven(RING * width));
  const [ring, chroma, inner]: number[][] = [[], [], []];
  const distances = new Float64Array(width * height);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      distances[at] = Math.hypot(spread(x, width), spread(y, height));
      if (y >= top && y < height - top && x >= side && x < width - side) {
        inner.push(lab.lightness[at]);
      } else {
        ring.push(lab.lightness[at]);
        chroma.push(Math.hypot(lab.a[at], lab.b[at]));
      }
    }
  }
  return [
    deviation(ring) / 100,
    deviation(chroma) / 100,
    inner.length ? (mean(ring) - mean(inner)) / 100 : 0,
    correlation(distances, lab.lightness),
  ];
}

function richness({ width, height, data }: Raster, lightness: Float64Array): number[] {
  const counts = new Float64Array(32);
  for (const value of lightness) counts[Math.min(31, Math.max(0, Math.trunc(value * 0.32)))] += 1;
  let entropy = 0;
  for (const count of counts) {
    const share = count / lightness.length;
    if (share > 0) entropy -= share * Math.log2(share);
  }
  const codes = new Set<number>();
  for (let at = 0; at < data.length; at += 3) {
    codes.add(((data[at] >> 4) << 8) | ((data[at + 1] >> 4) << 4) | (data[at + 2] >> 4));
  }
  const [own, next]: number[][] = [[], []];
  for (let y = 0; y < height; y++) {
    for (let x = 1; x < width; x++) {
      own.push(lightness[y * width + x]);
      next.push(lightness[y * width + x - 1]);
    }
  }
  return [entropy / 5, codes.size / lightness.length, correlation(own, next)];
}

/** Returns a place along a side, from -1 to 1. */
function spread(place: number, length: number): number {
  return length > 1 ? (2 * place) / (length - 1) - 1 : -1;
}
