/** What a file is, told by its first bytes, before anything decodes it. */

/** Why a file is refused, in words for the person who chose it. */
export class Refusal extends Error {}

const MAX_PIXELS = 100_000_000;
const MIN_SIDE_PX = 16;
const MAX_BYTES = 700_000_000;
const EXPECTED = "Choose one JPEG, PNG, WebP, GIF or BMP image.";

interface Header {
  readonly size: readonly [number, number] | null;
  readonly animated: boolean;
}

/** Refuses what the app does not analyse: other formats, animations, sizes beyond the limits. */
export function checkFile(bytes: Uint8Array): void {
  if (!bytes.length) throw new Refusal(`The file is empty. ${EXPECTED}`);
  if (bytes.length > MAX_BYTES) throw new Refusal("The file is too large. Shrink the image.");
  const header = readHeader(bytes);
  if (header.animated) {
    throw new Refusal("The image is animated. Save one frame as PNG.");
  }
  if (header.size) checkSize(...header.size);
}

/** Refuses images too large to be decoded and too small to show a lesion. */
export function checkSize(width: number, height: number): void {
  const found = `The image has ${width} × ${height} pixels`;
  if (width * height > MAX_PIXELS) throw new Refusal(`${found}: too many. Shrink it.`);
  if (Math.min(width, height) < MIN_SIDE_PX) {
    throw new Refusal(`${found}: too few on one side. Use the original image.`);
  }
}

function readHeader(bytes: Uint8Array): Header {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const starts = (text: string, at = 0) =>
    [...text].every((letter, i) => bytes[at + i] === letter.charCodeAt(0));
  if (bytes[0] === 0xff && bytes[1] === 0xd8) return { size: jpegSize(view), animated: false };
  if (starts("\x89PNG")) return pngHeader(view);
  if (starts("GIF8")) return { size: pair(view, 6), animated: countGifFrames(view) > 1 };
  if (starts("BM")) return { size: null, animated: false };
  if (starts("RIFF") && starts("WEBP", 8)) {
    return { size: null, animated: starts("VP8X", 12) && (bytes[20] & 2) !== 0 };
  }
  if (starts("II*\0") || starts("MM\0*")) throw unsupported("a TIFF image");
  if (starts("DICM", 128)) throw unsupported("a DICOM file");
  if (starts("ftyp", 4)) throw unsupported("an HEIC or AVIF image");
  throw new Refusal(`This is not an image that can be read. ${EXPECTED}`);
}

function unsupported(what: string): Refusal {
  return new Refusal(
    `This is ${what}, which the browser app does not read. Save it as JPEG or PNG, or use: ` +
      "dermfuse analyze",
  );
}

function pair(view: DataView, at: number): [number, number] | null {
  if (view.byteLength < at + 4) return null;
  return [view.getUint16(at, true), view.getUint16(at + 2, true)];
}

/** Returns the size in a JPEG's first frame header. */
function jpegSize(view: DataView): [number, number] | null {
  for (let at = 2; at + 9 < view.byteLength; ) {
    if (view.getUint8(at) !== 0xff) return null;
    const marker = view.getUint8(at + 1);
    if (marker === 0xff) {
      at += 1;
    } else if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      return [view.getUint16(at + 7), view.getUint16(at + 5)];
    } else {
      at += 2 + view.getUint16(at + 2);
    }
  }
  return null;
}

/** Returns a PNG's size, and whether animation control stands before its pixels. */
function pngHeader(view: DataView): Header {
  if (view.byteLength < 24) return { size: null, animated: false };
  const size = [view.getUint32(16), view.getUint32(20)] as const;
  for (let at = 8; at + 8 <= view.byteLength; at += 12 + view.getUint32(at)) {
    const chunk = view.getUint32(at + 4);
    if (chunk === 0x49444154) break; // IDAT
    if (chunk === 0x6163544c) return { size, animated: view.getUint32(at + 8) > 1 }; // acTL
  }
  return { size, animated: false };
}

/** Returns how many images a GIF holds, two at most. */
function countGifFrames(view: DataView): number {
  const table = (flags: number) => (flags & 0x80 ? 3 << ((flags & 7) + 1) : 0);
  if (view.byteLength < 13) return 0;
  let [at, frames] = [13 + table(view.getUint8(10)), 0];
  const skipBlocks = () => {
    while (at < view.byteLength && view.getUint8(at)) at += view.getUint8(at) + 1;
    at += 1;
  };
  while (at + 10 < view.byteLength && frames < 2) {
    const kind = view.getUint8(at);
    if (kind === 0x21) {
      at += 2;
    } else if (kind === 0x2c) {
      frames += 1;
      at += 11 + table(view.getUint8(at + 9));
    } else break;
    skipBlocks();
  }
  return frames;
}
