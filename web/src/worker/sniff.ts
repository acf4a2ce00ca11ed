/** What a file is, by its first bytes, before anything decodes it. */

import { findDamage } from "../decoding/entropy";
import { Damage } from "../decoding/damage";
import { pixelBytes, readFrame, unreadCoding } from "../decoding/jpeg";
import { nameKind } from "../decoding/kinds";
import { counter, MAX_PIXELS, PIXEL_BYTES } from "../decoding/limits";
import { readPng } from "../decoding/png";
import { webpChunks } from "../decoding/webp";

/** Why a file is refused, in words for the person who chose it. */
export class Refusal extends Error {}

const DEEP_BYTES = 13; // for each pixel of a PNG of 16 bits
const WEBP_BYTES = 18;
const MIN_SIDE_PX = 16;
const MAX_ASPECT = 20; // as `dermfuse.imaging.reading` has it
const MAX_BYTES = 700_000_000;
const EXPECTED = "Choose one JPEG, PNG, WebP, GIF or BMP image.";

export type Format = "JPEG" | "PNG" | "WebP" | "GIF" | "BMP";

/** Refuses a file by its length, before it is read. */
export function checkBytes(length: number): void {
  if (!length) throw new Refusal(`The file is empty. ${EXPECTED}`);
  if (length > MAX_BYTES) throw new Refusal("The file is too large. Shrink the image.");
}

/**
 * Returns what a file is; refuses what the app does not analyse: other formats, files that are
 * damaged, animations, sizes beyond the limits.
 */
export function checkFile(bytes: Uint8Array): Format {
  checkBytes(bytes.length);
  const format = formatOf(bytes);
  try {
    CHECKS[format](bytes, new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  } catch (error) {
    if (error instanceof RangeError) throw damaged(format, "it is cut off");
    throw error instanceof Damage ? damaged(format, error.message) : error;
  }
  return format;
}

/** Returns the refusal of a damaged file. */
export function damaged(format: Format, found: string): Refusal {
  return new Refusal(`The ${format} image is damaged inside: ${found}. Fetch the file again.`);
}

/**
 * Refuses images too large to be decoded, and too small or too thin to show a lesion.
 *
 * @param each - What decoders of this kind take for each pixel, in bytes.
 */
export function checkSize(width: number, height: number, each = PIXEL_BYTES): void {
  const found = `The image has ${width} × ${height} pixels`;
  if (width * height > MAX_PIXELS * Math.min(1, PIXEL_BYTES / each)) throw new Refusal(`${found}: too many. Shrink it.`);
  if (Math.min(width, height) < MIN_SIDE_PX) {
    throw new Refusal(`${found}: too few on one side. Use the original image.`);
  }
  if (Math.max(width, height) > MAX_ASPECT * Math.min(width, height)) {
    throw new Refusal(`${found}: too thin to be judged. Use the original image.`);
  }
}

function formatOf(bytes: Uint8Array): Format {
  const starts = (text: string, at = 0) =>
    [...text].every((letter, i) => bytes[at + i] === letter.charCodeAt(0));
  if (starts("\xff\xd8")) return "JPEG";
  if (starts("\x89PNG\r\n\x1a\n")) return "PNG";
  if (starts("GIF8")) return "GIF";
  if (starts("BM")) return "BMP";
  if (starts("RIFF") && starts("WEBP", 8)) return "WebP";
  const known = nameKind(bytes);
  if (!known) throw new Refusal(`This is not an image that can be read. ${EXPECTED}`);
  const [found, action] = known;
  throw new Refusal(`This is ${found}, which the browser app does not read. ${action}`);
}

const CHECKS: Readonly<Record<Format, (bytes: Uint8Array, view: DataView) => void>> = {
  JPEG(bytes) {
    const frame = readFrame(bytes);
    const unread = unreadCoding(frame);
    if (unread) throw new Refusal(`This is ${unread}, which browsers do not read. Save it as PNG.`);
    checkSize(frame.width, frame.height, pixelBytes(frame));
    const damage = findDamage(bytes);
    if (damage) throw new Damage(damage);
  },
  PNG(bytes) {
    const { width, height, depth, frames } = readPng(bytes);
    if (frames > 1) throw animated();
    checkSize(width, height, depth === 16 ? DEEP_BYTES : PIXEL_BYTES);
  },
  GIF(_, view) {
    const [width, height] = [view.getUint16(6, true), view.getUint16(8, true)];
    const frames = gifFrames(view);
    if (frames.length > 1) throw animated();
    checkSize(width, height);
    for (const frame of frames) checkSize(frame.width, frame.height); // browsers widen the whole to it
    if (frames.some((frame) => frame.width < width || frame.height < height)) {
      throw new Refusal("The image leaves a part of its frame blank. Save it as PNG.");
    }
  },
  WebP(bytes, view) {
    if (countWebpFrames(bytes) > 1) throw animated();
    for (const { width, height } of webpSizes(bytes, view)) checkSize(width, height, WEBP_BYTES);
  },
  BMP(_, view) {
    if (view.getUint32(14, true) === 12) {
      checkSize(view.getUint16(18, true), view.getUint16(20, true)); // the oldest header
    } else checkSize(Math.abs(view.getInt32(18, true)), Math.abs(view.getInt32(22, true)));
  },
};

function animated(): Refusal {
  return new Refusal("The image is animated. Save one frame as PNG.");
}

/** Returns how many frames the animation in a WebP has, none if there is none. */
function countWebpFrames(bytes: Uint8Array): number {
  return [...webpChunks(bytes)].filter(({ name }) => name === "ANMF").length;
}

/** Yields the sizes that a WebP states: of its canvas, and of what is coded in it. */
function* webpSizes(bytes: Uint8Array, view: DataView): Generator<{ width: number; height: number }> {
  const bits24 = (at: number) => view.getUint16(at, true) | (view.getUint8(at + 2) << 16);
  for (const { name, start } of webpChunks(bytes)) {
    if (name === "VP8X") yield { width: bits24(start + 4) + 1, height: bits24(start + 7) + 1 };
    else if (name === "VP8L") {
      const sides = view.getUint32(start + 1, true); // two of 14 bits
      yield { width: (sides & 0x3fff) + 1, height: ((sides >>> 14) & 0x3fff) + 1 };
    } else if (name === "VP8 ") {
      yield {
        width: view.getUint16(start + 6, true) & 0x3fff, // the other bits scale the picture
        height: view.getUint16(start + 8, true) & 0x3fff,
      };
    }
  }
}

/** Returns the sizes of the images that a GIF holds, of two at most. */
function gifFrames(view: DataView): { width: number; height: number }[] {
  const table = (flags: number) => (flags & 0x80 ? 3 << ((flags & 7) + 1) : 0);
  const frames: { width: number; height: number }[] = [];
  let at = 13 + table(view.getUint8(10));
  const count = counter("blocks");
  const skipBlocks = () => {
    while (at < view.byteLength && view.getUint8(at)) {
      count();
      at += view.getUint8(at) + 1;
    }
    at += 1;
  };
  while (at + 10 < view.byteLength && frames.length < 2) {
    count();
    const kind = view.getUint8(at);
    if (kind === 0x21) {
      at += 2;
    } else if (kind === 0x2c) {
      frames.push({ width: view.getUint16(at + 5, true), height: view.getUint16(at + 7, true) });
      at += 11 + table(view.getUint8(at + 9));
    } else break;
    skipBlocks();
  }
  return frames;
}
