/**
 * PNG of every depth, decoded here: browsers round 16 bits and compare a transparent colour each in
 * their own way, and apply what the library leaves alone (gamma, colour profiles).
 */
import type { Raster } from "../analysis/raster";
import { crc32 } from "./crc";
import { Damage } from "./damage";
import { counter } from "./limits";

const SIGNATURE = 8;
const [GREY, RGB, PALETTE, GREY_ALPHA, RGBA] = [0, 2, 3, 4, 6];
const CHANNELS: Readonly<Record<number, number>> = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };
const DEPTHS: Readonly<Record<number, readonly number[]>> = {
  0: [1, 2, 4, 8, 16], 2: [8, 16], 3: [1, 2, 4, 8], 4: [8, 16], 6: [8, 16],
};
/** First pixel and step, across and down: of the whole image, and of the seven passes of Adam7. */
const WHOLE = [[0, 0, 1, 1]] as const;
const ADAM7 = [
  [0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2],
] as const;

/** What a PNG says of itself. */
export interface PngHeader {
  readonly width: number;
  readonly height: number;
  readonly depth: number;
  readonly colour: number;
  readonly interlaced: boolean;
  readonly palette: Uint8Array;
  /** The chunk tRNS: alpha of the palette, or the transparent colour. */
  readonly transparent: Uint8Array | null;
  /** The EXIF block. */
  readonly exif: Uint8Array;
  readonly frames: number;
  readonly data: readonly Uint8Array[];
}

/** Returns what a PNG says, its pixels still packed; refuses what is damaged before them. */
export function readPng(file: Uint8Array): PngHeader {
  const found = new Map<string, Uint8Array>();
  const data: Uint8Array[] = [];
  let [controls, frames] = [0, 1];
  for (const { name, body, isWhole } of chunks(file)) {
    if (name === "IDAT") {
      if (!data.length && controls === 1 && !found.has("fcTL")) frames += 1; // an image of its own
      data.push(body);
      continue;
    }
    if (!data.length && !isWhole) throw new Damage(`the checksum of its chunk ${name} is wrong`);
    if (data.length && name !== "eXIf") continue;
    if (name === "acTL") frames = ++controls === 1 ? Math.max(bigEndian(body, 0), 1) : 1;
    found.set(name, body);
  }
  const head = found.get("IHDR");
  if (!head || head.length < 13 || head[11] || !data.length) throw new Damage("it is cut off");
  const [depth, colour] = [head[8], head[9]];
  if (!DEPTHS[colour]?.includes(depth)) throw new Damage("its depth and colours do not fit");
  const transparent = found.get("tRNS") ?? null;
  const least = colour === GREY ? 2 : colour === RGB ? 6 : 0;
  if (transparent && transparent.length < least) throw new Damage("its chunk tRNS is cut off");
  const palette = found.get("PLTE");
  if (colour === PALETTE && !palette) throw new Damage("its palette is missing");
  return {
    width: bigEndian(head, 0), height: bigEndian(head, 4), depth, colour, interlaced: head[12] !== 0,
    palette: palette ?? new Uint8Array(), transparent,
    exif: found.get("eXIf") ?? new Uint8Array(), frames, data,
  };
}

/** Returns a PNG's pixels, as stored: RGBA, laid on white. */
export async function decodePng(png: PngHeader): Promise<Raster> {
  const { width, height, depth, colour } = png;
  const passes = (png.interlaced ? ADAM7 : WHOLE).map(([x, y, dx, dy]) => ({
    x, y, dx, dy,
    width: Math.ceil((width - x) / dx),
    height: Math.ceil((height - y) / dy),
  })).filter((pass) => pass.width > 0 && pass.height > 0);
  const rowBytes = (across: number) => Math.ceil((across * CHANNELS[colour] * depth) / 8);
  const size = passes.reduce((sum, pass) => sum + pass.height * (1 + rowBytes(pass.width)), 0);
  const packed = await inflate(png.data, size);
  const pixels = new Uint32Array(width * height);
  const write = writer(png);
  const step = Math.max(1, (CHANNELS[colour] * depth) >> 3);
  let at = 0;
  for (const pass of passes) {
    const length = rowBytes(pass.width);
    let above: Uint8Array = new Uint8Array(length);
    for (let y = 0; y < pass.height; y++, at += 1 + length) {
      const row = packed.subarray(at + 1, at + 1 + length);
      unfilter(packed[at], row, above, step);
      write(samplesOf(row, depth), pixels.subarray((pass.y + y * pass.dy) * width + pass.x), pass);
      above = row;
    }
  }
  return { width, height, channels: 4, data: new Uint8Array(pixels.buffer) };
}

interface Chunk {
  readonly name: string;
  readonly body: Uint8Array;
  readonly isWhole: boolean;
}

function* chunks(file: Uint8Array): Generator<Chunk> {
  const count = counter("chunks");
  for (let at = SIGNATURE; at + 8 <= file.length; ) {
    count();
    const end = at + 8 + bigEndian(file, at);
    const name = String.fromCharCode(...file.subarray(at + 4, at + 8));
    if (name === "IEND") return;
    if (end > file.length) throw new Damage("it is cut off");
    const isWhole = name === "IDAT" || crc32(file.subarray(at + 4, end)) === bigEndian(file, end);
    yield { name, body: file.subarray(at + 8, end), isWhole };
    at = end + 4;
  }
}

function bigEndian(bytes: Uint8Array, at: number): number {
  return ((bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3]) >>> 0;
}

/** Returns the first bytes of a zlib stream, whose checksum is verified. */
async function inflate(parts: readonly Uint8Array[], size: number): Promise<Uint8Array> {
  const content = new Uint8Array(size);
  const stream = new Blob([...parts] as BlobPart[]).stream().pipeThrough(new DecompressionStream("deflate"));
  const reader = stream.getReader();
  let at = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      content.set(value.subarray(0, size - at), Math.min(at, size));
      at += value.length;
    }
  } catch {
    throw new Damage("its coded data is damaged");
  }
  if (at < size) throw new Damage("its coded data ends before the picture does");
  return content;
}

/** Undoes a row's filter in its place; `step` is the distance to the pixel on the left, in bytes. */
function unfilter(kind: number, row: Uint8Array, above: Uint8Array, step: number): void {
  const length = row.length;
  if (kind === 1) for (let i = step; i < length; i++) row[i] += row[i - step];
  else if (kind === 2) for (let i = 0; i < length; i++) row[i] += above[i];
  else if (kind === 3) {
    for (let i = 0; i < length; i++) row[i] += ((i < step ? 0 : row[i - step]) + above[i]) >> 1;
  } else if (kind === 4) {
    for (let i = 0; i < step; i++) row[i] += above[i];
    for (let i = step; i < length; i++) row[i] += paeth(row[i - step], above[i], above[i - step]);
  } else if (kind) throw new Damage("its coded data is damaged");
}

function paeth(left: number, above: number, corner: number): number {
  const a = Math.abs(above - corner);
  const b = Math.abs(left - corner);
  const c = Math.abs(left + above - 2 * corner);
  return a <= b && a <= c ? left : b <= c ? above : corner;
}

/** Returns a row's samples in the file's own depth. */
function samplesOf(row: Uint8Array, depth: number): Uint8Array | Uint16Array {
  if (depth === 8) return row;
  if (depth === 16) {
    const wide = new Uint16Array(row.length >> 1);
    for (let i = 0; i < wide.length; i++) wide[i] = (row[2 * i] << 8) | row[2 * i + 1];
    return wide;
  }
  const each = 8 / depth;
  const samples = new Uint8Array(row.length * each);
  for (let i = 0; i < samples.length; i++) {
    const shift = 8 - depth * (1 + (i % each));
    samples[i] = (row[Math.trunc(i / each)] >> shift) & (2 ** depth - 1);
  }
  return samples;
}

type Write = (
  samples: Uint8Array | Uint16Array,
  target: Uint32Array,
  pass: { readonly width: number; readonly dx: number },
) => void;

/** Returns what writes a row of samples as opaque pixels. */
function writer({ depth, colour, palette, transparent }: PngHeader): Write {
  const level = levels(depth);
  const key = (i: number) => (transparent ? ((transparent[2 * i] << 8) | transparent[2 * i + 1]) & (2 ** depth - 1) : -1);
  const [first, second, third] = [key(0), key(1), key(2)];
  if (colour === PALETTE) {
    const table = Uint32Array.from({ length: 256 }, (_, i) =>
      onWhite(palette[3 * i] ?? 0, palette[3 * i + 1] ?? 0, palette[3 * i + 2] ?? 0, transparent?.[i] ?? 255),
    );
    return (s, target, { width, dx }) => {
      for (let i = 0; i < width; i++) target[i * dx] = table[s[i]];
    };
  }
  if (colour === GREY || colour === GREY_ALPHA) {
    const n = CHANNELS[colour];
    return (s, target, { width, dx }) => {
      for (let i = 0; i < width; i++) {
        const grey = level[s[i * n]];
        const alpha = n === 2 ? level[s[i * n + 1]] : s[i] === first ? 0 : 255;
        target[i * dx] = onWhite(grey, grey, grey, alpha);
      }
    };
  }
  const n = CHANNELS[colour];
  return (s, target, { width, dx }) => {
    for (let i = 0, at = 0; i < width; i++, at += n) {
      const clear = s[at] === first && s[at + 1] === second && s[at + 2] === third;
      const alpha = colour === RGBA ? level[s[at + 3]] : clear ? 0 : 255;
      target[i * dx] = onWhite(level[s[at]], level[s[at + 1]], level[s[at + 2]], alpha);
    }
  };
}

/** Returns the level of each value: 0 to 255, rounded. */
function levels(depth: number): Uint8Array {
  const top = 2 ** depth - 1;
  return Uint8Array.from({ length: top + 1 }, (_, value) => Math.floor((value * 510 + top) / (2 * top)));
}

/** Returns a pixel laid on white as Pillow does it, in the byte order of RGBA. */
function onWhite(red: number, green: number, blue: number, alpha: number): number {
  if (alpha === 255) return (0xff000000 | (blue << 16) | (green << 8) | red) >>> 0;
  const mix = (colour: number) => {
    const sum = 128 * (colour * alpha + 255 * (255 - alpha) + 128);
    return ((sum >> 8) + sum) >> 15;
  };
  return (0xff000000 | (mix(blue) << 16) | (mix(green) << 8) | mix(red)) >>> 0;
}
