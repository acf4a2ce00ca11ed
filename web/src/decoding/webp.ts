/** A WebP's chunks. */
import { counter } from "./limits";

const FIRST = 12;

/** One chunk: its content lies from `start` to `end` in the file. */
export interface Chunk {
  readonly name: string;
  readonly start: number;
  readonly end: number;
}

/** Yields the chunks of a WebP; the last may be cut off. */
export function* webpChunks(bytes: Uint8Array): Generator<Chunk> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const count = counter("chunks");
  for (let at = FIRST; at + 8 <= bytes.length; ) {
    count();
    const length = view.getUint32(at + 4, true);
    const name = String.fromCharCode(...bytes.subarray(at, at + 4));
    yield { name, start: at + 8, end: at + 8 + length };
    at += 8 + length + (length & 1);
  }
}
