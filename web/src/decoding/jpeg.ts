/** A JPEG's header: how it is coded, how deep it is, how its channels are sampled. */
import { Damage } from "./damage";
import { counter } from "./limits";

const FRAMES: Readonly<Record<number, string>> = {
  0xc0: "baseline", 0xc1: "extended", 0xc2: "progressive", 0xc3: "lossless",
  0xc5: "hierarchical", 0xc6: "hierarchical", 0xc7: "hierarchical",
  0xc9: "arithmetic-coded", 0xca: "arithmetic-coded", 0xcb: "arithmetic-coded",
  0xcd: "arithmetic-coded", 0xce: "arithmetic-coded", 0xcf: "arithmetic-coded",
  0xf7: "JPEG-LS",
};
const READ = ["baseline", "extended", "progressive"];
const [SCAN, END] = [0xda, 0xd9];

/** One marker segment: its body lies from `start` to `end` in the file. */
export interface Segment {
  readonly marker: number;
  readonly start: number;
  readonly end: number;
}

/** A channel, and how densely it is sampled. */
export interface Component {
  readonly identifier: number;
  readonly horizontal: number;
  readonly vertical: number;
}

/** What a JPEG's header says. */
export interface Frame {
  readonly coding: string;
  readonly precision: number;
  readonly width: number;
  readonly height: number;
  readonly components: readonly Component[];
}

/** Returns the marker segment at a place; fill bytes before it (T.81, B.1.1.2) are skipped. */
export function readSegment(bytes: Uint8Array, at: number): Segment {
  if (bytes[at] !== 0xff) throw new Damage(`no marker at byte ${at}`);
  while (bytes[at] === 0xff) at += 1;
  if (at >= bytes.length) throw new Damage("it ends in a marker");
  const marker = bytes[at];
  const alone = marker === 0x01 || (marker >= 0xd0 && marker <= END);
  if (alone) return { marker, start: at + 1, end: at + 1 };
  const length = (bytes[at + 1] << 8) | bytes[at + 2];
  const end = at + 1 + length;
  if (!(length >= 2) || end > bytes.length) throw new Damage(`a segment is cut off at byte ${at}`);
  return { marker, start: at + 3, end };
}

/** Yields the segments before the first scan. */
export function* readHeader(bytes: Uint8Array): Generator<Segment> {
  const count = counter("segments");
  for (let at = 2; ; ) {
    count();
    const segment = readSegment(bytes, at);
    if (segment.marker === SCAN || segment.marker === END) return;
    yield segment;
    at = segment.end;
  }
}

/** Returns what the header of a JPEG (or JPEG-LS) file says. */
export function readFrame(bytes: Uint8Array): Frame {
  for (const { marker, start, end } of readHeader(bytes)) {
    if (!(marker in FRAMES)) continue;
    const body = bytes.subarray(start, end);
    const count = body[5];
    if (body.length < 6 + 3 * count) break;
    return {
      coding: FRAMES[marker],
      precision: body[0],
      height: (body[1] << 8) | body[2],
      width: (body[3] << 8) | body[4],
      components: Array.from({ length: count }, (_, i) => ({
        identifier: body[6 + 3 * i],
        horizontal: body[7 + 3 * i] >> 4,
        vertical: body[7 + 3 * i] & 15,
      })),
    };
  }
  throw new Damage("there is no frame header");
}

/** Returns what decoders hold for each pixel: of progressive JPEG each coefficient. */
export function pixelBytes({ coding, components }: Frame): number {
  if (coding !== "progressive") return 4;
  const widest = Math.max(...components.map(({ horizontal }) => horizontal));
  const tallest = Math.max(...components.map(({ vertical }) => vertical));
  const samples = components.reduce((sum, { horizontal, vertical }) => sum + horizontal * vertical, 0);
  return 5 + (2 * samples) / (widest * tallest);
}

/** Returns what keeps browsers and Pillow from reading a JPEG, in words; "" if nothing does. */
export function unreadCoding({ coding, precision }: Frame): string {
  if (coding === "JPEG-LS") return "a JPEG-LS image";
  if (!READ.includes(coding)) return `a JPEG image that is ${coding}`;
  return precision === 8 ? "" : `a JPEG image of ${precision} bits per sample`;
}
