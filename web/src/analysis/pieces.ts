/** Connected pieces of a mask (`dermfuse.imaging.geometry`). */
import type { Mask } from "./raster";

/** The largest connected piece of a mask, its holes filled. */
export interface Piece {
  readonly mask: Mask;
  /** How many pieces the mask has. */
  readonly count: number;
  /** The piece's share of the mask's pixels before holes are filled. */
  readonly keptShare: number;
}

/** Returns the largest piece (of pieces as large the first in reading order), or null. */
export function largestPiece(mask: Mask): Piece | null {
  const labels = new Int32Array(mask.data.length);
  let [count, total, largest, label] = [0, 0, 0, 0];
  for (let start = 0; start < labels.length; start++) {
    if (!mask.data[start] || labels[start]) continue;
    const size = flood(mask, labels, start, ++count, true);
    total += size;
    if (size > largest) [largest, label] = [size, count];
  }
  if (!count) return null;
  const data = new Uint8Array(labels.length);
  for (let at = 0; at < data.length; at++) data[at] = Number(labels[at] === label);
  return { mask: fillHoles({ ...mask, data }), count, keptShare: largest / total };
}

/** Returns the pieces of a mask, joined along edges, that hold a corner of the frame. */
export function cornerPieces(mask: Mask): Mask {
  const { width, height, data } = mask;
  const labels = new Int32Array(data.length);
  for (const corner of [0, width - 1, (height - 1) * width, height * width - 1]) {
    if (data[corner] && !labels[corner]) flood(mask, labels, corner, 1, false);
  }
  return { width, height, data: Uint8Array.from(labels) };
}

/** Returns a mask without holes: all but the background that reaches the frame. */
function fillHoles({ width, height, data }: Mask): Mask {
  const padded = new Uint8Array((width + 2) * (height + 2)).fill(1);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      padded[(y + 1) * (width + 2) + x + 1] = 1 - data[y * width + x];
    }
  }
  const outside = cornerPieces({ width: width + 2, height: height + 2, data: padded });
  const filled = new Uint8Array(data.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      filled[y * width + x] = 1 - outside.data[(y + 1) * (width + 2) + x + 1];
    }
  }
  return { width, height, data: filled };
}

/** Labels the piece of a pixel and returns its size. */
function flood(
  { width, height, data }: Mask,
  labels: Int32Array,
  start: number,
  label: number,
  diagonal: boolean,
): number {
  const stack = [start];
  labels[start] = label;
  let size = 0;
  while (stack.length) {
    const at = stack.pop()!;
    const y = Math.trunc(at / width);
    const x = at - y * width;
    const right = x < width - 1 ? 1 : 0;
    const left = x > 0 ? -1 : 0;
    size += 1;
    for (let row = y > 0 ? -1 : 0; row <= 1 && y + row < height; row++) {
      const side = diagonal || row === 0;
      for (let column = side ? left : 0; column <= (side ? right : 0); column++) {
        const next = at + row * width + column;
        if (!data[next] || labels[next]) continue;
        labels[next] = label;
        stack.push(next);
      }
    }
  }
  return size;
}
