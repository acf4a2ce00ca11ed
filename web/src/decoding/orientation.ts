/**
 * How an image lies: the EXIF block turns it, nothing else does.
 *
 * Browsers read EXIF of some containers and not of others, and some read XMP. So the block is read
 * here, its bytes are blanked before a browser decodes the file, and the pixels are turned here.
 */
import type { Raster } from "../analysis/raster";
import { readHeader } from "./jpeg";
import { webpChunks } from "./webp";

const TAG = 0x0112;
const APP1 = 0xe1;
const EXIF = "Exif\0\0";
const EXIF_FLAG = 8; // of the chunk VP8X
/** Bytes of a value by TIFF's types. */
const SIZES: Readonly<Record<number, number>> = {
  1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8,
};
const INTEGERS = [3, 4, 6, 8, 9, 13, 16];

/** A file whose decoder will turn nothing, and how the image in it lies, 1 to 8. */
export interface Plain {
  readonly bytes: Uint8Array;
  readonly orientation: number;
}

/** Returns a JPEG without its EXIF and XMP segments. */
export function plainJpeg(file: Uint8Array): Plain {
  const bytes = file.slice();
  const exif: Uint8Array[] = [];
  for (const { marker, start, end } of readHeader(file)) {
    if (marker !== APP1) continue;
    if (startsWith(file, EXIF, start)) exif.push(file.subarray(start + EXIF.length, end));
    bytes.fill(0, start, end);
  }
  return { bytes, orientation: readOrientation(joined(exif)) };
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Returns a WebP without its EXIF and XMP chunks. */
export function plainWebp(file: Uint8Array): Plain {
  const bytes = file.slice();
  const chunks = [...webpChunks(file)];
  const extended = chunks.find(({ name }) => name === "VP8X");
  const counts = extended && (file[extended.start] & EXIF_FLAG) !== 0;
  const exif = counts && chunks.find(({ name }) => name === "EXIF");
  for (const { name, start, end } of chunks) {
    if (name === "EXIF" || name === "XMP ") bytes.fill(0, start, end);
  }
  return { bytes, orientation: exif ? readOrientation(file.subarray(exif.start, exif.end)) : 1 };
}

/** Returns how an image lies by an EXIF block, as Pillow reads it: 1, as stored, where it is damaged. */
export function readOrientation(block: Uint8Array): number {
  const tiff = block.subarray(startsWith(block, EXIF, 0) ? EXIF.length : 0);
  const little = startsWith(tiff, "II", 0);
  if (!little && !startsWith(tiff, "MM", 0)) return 1;
  if (![tiff[2], tiff[3]].includes(0) || ![tiff[2], tiff[3]].includes(42)) return 1;
  const view = new DataView(tiff.buffer, tiff.byteOffset, tiff.byteLength);
  try {
    const value = readTag(view, view.getUint32(4, little), little);
    return value >= 2 && value <= 8 ? value : 1;
  } catch (error) {
    if (error instanceof RangeError) return 1; // a value that lies outside of the block
    throw error;
  }
}

/** Returns the first value of the tag in a directory; 0 where it is missing or no integer. */
function readTag(view: DataView, directory: number, little: boolean): number {
  const count = view.getUint16(directory, little);
  let total = 0;
  for (let i = 0, at = directory + 2; i < count; i++, at += 12) {
    const [kind, values] = [view.getUint16(at + 2, little), view.getUint32(at + 4, little)];
    const size = (SIZES[kind] ?? 0) * values;
    const apart = size > 4;
    const place = apart ? view.getUint32(at + 8, little) : at + 8;
    if (apart) total += size;
    if (!size || (apart && total > view.byteLength)) continue; // more than there is: passed over
    view.getUint8(place + size - 1); // cut off: the reading ends here
    if (view.getUint16(at, little) !== TAG) continue;
    if (!INTEGERS.includes(kind)) return 0;
    if (SIZES[kind] === 8) return Number(view.getBigUint64(place, little));
    if (SIZES[kind] === 4) return view.getUint32(place, little);
    return SIZES[kind] === 2 ? view.getUint16(place, little) : view.getUint8(place);
  }
  return 0;
}

/** Returns four-channel pixels upright, from how they lie by EXIF. */
export function turned(stored: Raster, orientation: number): Raster {
  if (orientation === 1) return stored;
  const { width: w, height: h } = stored;
  const across = orientation >= 5; // rows become columns
  const [width, height] = across ? [h, w] : [w, h];
  const from = new Uint32Array(stored.data.buffer, stored.data.byteOffset, w * h);
  const to = new Uint32Array(w * h);
  const flipX = [2, 3, 7, 8].includes(orientation); // of the stored image
  const flipY = [3, 4, 6, 7].includes(orientation);
  const [right, down] = across ? [w, 1] : [1, w]; // steps in the stored image
  const [dx, dy] = across
    ? [flipY ? -right : right, flipX ? -down : down]
    : [flipX ? -right : right, flipY ? -down : down];
  const start = (flipX ? w - 1 : 0) + (flipY ? (h - 1) * w : 0);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0, source = start + y * dy; x < width; x++, source += dx) to[at++] = from[source];
  }
  return { width, height, channels: 4, data: new Uint8Array(to.buffer) };
}

function startsWith(bytes: Uint8Array, text: string, at: number): boolean {
  return [...text].every((letter, i) => bytes[at + i] === letter.charCodeAt(0));
}
