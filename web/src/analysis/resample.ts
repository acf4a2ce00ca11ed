/**
 * Resizing as Pillow does it, to the bit: a pass along the rows and one along the columns.
 *
 * The weights of 8-bit images are integers of 22 bits after the point, and the passes meet in
 * 8 bits; those of floating-point maps are double, and the passes meet in single precision.
 */
import type { Box, FloatMap, Raster } from "./raster";

export type Filter = "box" | "bilinear";

const PRECISION_BITS = 22;
const HALF = 1 << (PRECISION_BITS - 1);
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

/** Returns a floating-point map resized (bilinear, antialiased when shrinking). */
export function resizeMap(map: FloatMap, width: number, height: number): FloatMap {
  const resized = { width, height, data: new Float32Array(width * height) };
  addMap(resized, map);
  return resized;
}

/** Adds a map to another, resized to its size (bilinear, antialiased when shrinking). */
export function addMap(total: FloatMap, map: FloatMap): void {
  const { width, height } = total;
  const across = kernel(map.width, 0, map.width, width, "bilinear");
  const down = kernel(map.height, 0, map.height, height, "bilinear");
  if (isTall(map, width, height)) {
    const between = { width: map.width, height, data: new Float32Array(map.width * height) };
    addAlongColumns(between, map, down);
    addAlongRows(total, between, across);
  } else {
    const between = { width, height: map.height, data: new Float32Array(width * map.height) };
    addAlongRows(between, map, across);
    addAlongColumns(total, between, down);
  }
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
  if (image.channels === 1) return alongRowsGrey(image, across);
  return image.channels === 4 ? alongRowsRgba(image, across) : alongRowsRgb(image, across);
}

function alongRowsGrey({ width: stride, height, data: source }: Raster, across: Kernel): Raster {
  const { first, count, size } = across;
  const width = first.length;
  const weights = toIntegers(across.weights);
  const data = new Uint8Array(width * height);
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      let sum = HALF;
      let from = y * stride + first[x];
      for (let k = x * size, end = k + count[x]; k < end; k++, from++) {
        sum = (sum + Math.imul(source[from], weights[k])) | 0;
      }
      data[to++] = sum >> PRECISION_BITS;
    }
  }
  return { width, height, channels: 1, data };
}

function alongRowsRgb(image: Raster, across: Kernel): Raster {
  const { height, data: source } = image;
  const { first, count, size } = across;
  const width = first.length;
  const weights = toIntegers(across.weights);
  const data = new Uint8Array(width * height * 3);
  for (let y = 0, to = 0; y < height; y++) {
    const row = y * image.width;
    for (let x = 0; x < width; x++, to += 3) {
      let [red, green, blue] = [HALF, HALF, HALF];
      let from = (row + first[x]) * 3;
      for (let k = x * size, end = k + count[x]; k < end; k++, from += 3) {
        const tap = weights[k];
        red = (red + Math.imul(source[from], tap)) | 0;
        green = (green + Math.imul(source[from + 1], tap)) | 0;
        blue = (blue + Math.imul(source[from + 2], tap)) | 0;
      }
      data[to] = red >> PRECISION_BITS;
      data[to + 1] = green >> PRECISION_BITS;
      data[to + 2] = blue >> PRECISION_BITS;
    }
  }
  return { width, height, channels: 3, data };
}

/** As `alongRowsRgb`, a pixel's four bytes read at once: the whole image passes through here. */
function alongRowsRgba(image: Raster, across: Kernel): Raster {
  const { height, data: bytes } = image;
  const { first, count, size } = across;
  const width = first.length;
  const weights = toIntegers(across.weights);
  const source = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  const data = new Uint8Array(width * height * 3);
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++, to += 3) {
      let [red, green, blue] = [HALF, HALF, HALF];
      let from = y * image.width + first[x];
      for (let k = x * size, end = k + count[x]; k < end; k++) {
        const tap = weights[k];
        const pixel = source[from++]; // little-endian, as WebAssembly has it everywhere
        red = (red + Math.imul(pixel & 255, tap)) | 0;
        green = (green + Math.imul((pixel >> 8) & 255, tap)) | 0;
        blue = (blue + Math.imul((pixel >> 16) & 255, tap)) | 0;
      }
      data[to] = red >> PRECISION_BITS;
      data[to + 1] = green >> PRECISION_BITS;
      data[to + 2] = blue >> PRECISION_BITS;
    }
  }
  return { width, height, channels: 3, data };
}

function alongColumns8(image: Raster, down: Kernel): Raster {
  const { first, count, size } = down;
  const { data: source } = image;
  const height = first.length;
  const stride = image.width * image.channels;
  const weights = toIntegers(down.weights);
  const data = new Uint8Array(stride * height);
  const sums = new Int32Array(stride);
  for (let y = 0; y < height; y++) {
    sums.fill(HALF);
    for (let k = 0; k < count[y]; k++) {
      const tap = weights[y * size + k];
      const row = (first[y] + k) * stride;
      for (let i = 0; i < stride; i++) sums[i] += Math.imul(source[row + i], tap);
    }
    for (let i = 0; i < stride; i++) data[y * stride + i] = sums[i] >> PRECISION_BITS;
  }
  return { ...image, height, data };
}

function addAlongRows(total: FloatMap, map: FloatMap, across: Kernel): void {
  const { first, count, size, weights } = across;
  const { width, height, data } = total;
  const source = map.data;
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      let sum = 0;
      let from = y * map.width + first[x];
      for (let k = x * size, end = k + count[x]; k < end; k++) sum += source[from++] * weights[k];
      data[to++] += sum;
    }
  }
}

function addAlongColumns(total: FloatMap, map: FloatMap, down: Kernel): void {
  const { first, count, size, weights } = down;
  const { width, height, data } = total;
  const source = map.data;
  for (let y = 0, to = 0; y < height; y++) {
    const [top, taps, row] = [y * size, count[y], first[y] * width];
    if (taps === 2) {
      const [upper, lower] = [weights[top], weights[top + 1]]; // nearly every row when enlarging
      for (let from = row, end = row + width; from < end; from++) {
        data[to++] += source[from] * upper + source[from + width] * lower;
      }
      continue;
    }
    for (let x = 0; x < width; x++) {
      let sum = 0;
      for (let k = 0, from = row + x; k < taps; k++, from += width) {
        sum += source[from] * weights[top + k];
      }
      data[to++] += sum;
    }
  }
}
