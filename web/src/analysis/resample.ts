/**
 * Resizing as Pillow does it, to the bit: a pass along the rows and one along the columns.
 *
 * The weights of 8-bit images are integers of 22 bits after the point, and the passes meet in
 * 8 bits; those of floating-point maps are double, and the passes meet in single precision.
 */
import type { Box, FloatMap, Raster } from "./raster";

export type Filter = "box" | "bilinear";

const PRECISION_BITS = 22;
const SUPPORT = { box: 0.5, bilinear: 1 } as const;

/** Of each result, which neighbours count and how much. */
interface Kernel {
  readonly first: Int32Array;
  readonly count: Int32Array;
  readonly size: number;
  readonly weights: Float64Array;
}

/**
 * Returns an 8-bit image resized, antialiased when shrinking.
 *
 * @param box - The part of the image to take, in pixels and their fractions; all of it if left out.
 */
export function resize(
  image: Raster,
  width: number,
  height: number,
  filter: Filter,
  box: Box = { left: 0, top: 0, right: image.width, bottom: image.height },
): Raster {
  const across = kernel(image.width, box.left, box.right, width, filter);
  const down = kernel(image.height, box.top, box.bottom, height, filter);
  return isTall(image, width, height)
    ? alongRows8(alongColumns8(image, down), across)
    : alongColumns8(alongRows8(image, across), down);
}

/** Returns a floating-point map resized (bilinear, antialiased when shrinking), in [0, 1]. */
export function resizeProbability(map: FloatMap, width: number, height: number): FloatMap {
  const across = kernel(map.width, 0, map.width, width, "bilinear");
  const down = kernel(map.height, 0, map.height, height, "bilinear");
  const resized = isTall(map, width, height)
    ? alongRowsFloat(alongColumnsFloat(map, down), across)
    : alongColumnsFloat(alongRowsFloat(map, across), down);
  const { data } = resized;
  for (let i = 0; i < data.length; i++) data[i] = Math.min(Math.max(data[i], 0), 1);
  return resized;
}

/** Returns the whole frame squeezed to a square of RGB: what a network looks at. */
export function squeeze(image: Raster, size: number): Raster {
  return resize(image, size, size, "bilinear");
}

/** Returns whether Pillow (13.0) shrinks the columns first: it tells by what each pass takes away. */
function isTall(image: { width: number; height: number }, width: number, height: number): boolean {
  return image.height - height > 2 * Math.max(image.width - width, 0);
}

function weight(filter: Filter, x: number): number {
  if (filter === "box") return x > -0.5 && x <= 0.5 ? 1 : 0;
  return Math.max(0, 1 - Math.abs(x));
}

function kernel(length: number, from: number, to: number, results: number, filter: Filter): Kernel {
  const start = Math.fround(from); // Pillow's box is single precision
  const scale = Math.fround(Math.fround(to) - start) / results;
  const stretch = Math.max(scale, 1);
  const support = SUPPORT[filter] * stretch;
  const size = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(results);
  const count = new Int32Array(results);
  const weights = new Float64Array(results * size);
  for (let i = 0; i < results; i++) {
    const centre = start + (i + 0.5) * scale;
    const low = Math.max(0, Math.trunc(centre - support + 0.5));
    const high = Math.min(length, Math.trunc(centre + support + 0.5));
    let total = 0;
    for (let x = low; x < high; x++) {
      const value = weight(filter, (x - centre + 0.5) / stretch);
      weights[i * size + x - low] = value;
      total += value;
    }
    for (let x = 0; total !== 0 && x < high - low; x++) weights[i * size + x] /= total;
    first[i] = low;
    count[i] = high - low;
  }
  return { first, count, size, weights };
}

function toIntegers(weights: Float64Array): Int32Array {
  return Int32Array.from(weights, (value) => Math.trunc(value * 2 ** PRECISION_BITS + 0.5));
}

function alongRows8(image: Raster, across: Kernel): Raster {
  const width = across.first.length;
  const channels = Math.min(image.channels, 3);
  const step = image.channels;
  const weights = toIntegers(across.weights);
  const data = new Uint8ClampedArray(width * image.height * channels);
  for (let y = 0, to = 0; y < image.height; y++) {
    const row = y * image.width * step;
    for (let x = 0; x < width; x++) {
      const taps = x * across.size;
      for (let c = 0; c < channels; c++) {
        let sum = 1 << (PRECISION_BITS - 1);
        let from = row + across.first[x] * step + c;
        for (let k = 0; k < across.count[x]; k++, from += step) {
          sum += image.data[from] * weights[taps + k];
        }
        data[to++] = sum >> PRECISION_BITS;
      }
    }
  }
  return { width, height: image.height, channels, data };
}

function alongColumns8(image: Raster, down: Kernel): Raster {
  const height = down.first.length;
  const stride = image.width * image.channels;
  const weights = toIntegers(down.weights);
  const data = new Uint8ClampedArray(stride * height);
  const sums = new Int32Array(stride);
  for (let y = 0; y < height; y++) {
    sums.fill(1 << (PRECISION_BITS - 1));
    for (let k = 0; k < down.count[y]; k++) {
      const tap = weights[y * down.size + k];
      const row = (down.first[y] + k) * stride;
      for (let i = 0; i < stride; i++) sums[i] += image.data[row + i] * tap;
    }
    for (let i = 0; i < stride; i++) data[y * stride + i] = sums[i] >> PRECISION_BITS;
  }
  return { ...image, height, data };
}

function alongRowsFloat(map: FloatMap, across: Kernel): FloatMap {
  const width = across.first.length;
  const data = new Float32Array(width * map.height);
  for (let y = 0, to = 0; y < map.height; y++) {
    for (let x = 0; x < width; x++) {
      const from = y * map.width + across.first[x];
      let sum = 0;
      for (let k = 0; k < across.count[x]; k++) {
        sum += map.data[from + k] * across.weights[x * across.size + k];
      }
      data[to++] = sum;
    }
  }
  return { width, height: map.height, data };
}

function alongColumnsFloat(map: FloatMap, down: Kernel): FloatMap {
  const { width } = map;
  const height = down.first.length;
  const data = new Float32Array(width * height);
  const sums = new Float64Array(width);
  for (let y = 0; y < height; y++) {
    sums.fill(0);
    for (let k = 0; k < down.count[y]; k++) {
      const tap = down.weights[y * down.size + k];
      const row = (down.first[y] + k) * width;
      for (let x = 0; x < width; x++) sums[x] += map.data[row + x] * tap;
    }
    data.set(sums, y * width);
  }
  return { width, height, data };
}
