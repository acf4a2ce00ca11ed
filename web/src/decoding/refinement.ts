/**
 * The AC scans of a progressive JPEG, followed by the lengths of their codes (T.81, G.1.2).
 *
 * Refining takes a bit for each coefficient that is known not to be zero, so that which ones are is
 * kept: eight bytes for each block.
 */
import type { Bits } from "./bits";
import type { Table } from "./huffman";
import { Damage } from "./damage";

/** What a scan codes: the coefficients from `first` to `last` of the blocks from `start` to `stop`. */
export interface Span {
  readonly start: number;
  readonly stop: number;
  readonly first: number;
  readonly last: number;
}

/** Follows the first scan of some coefficients, and notes which are not zero. */
export function firstPass(bits: Bits, table: Table, known: Uint8Array, span: Span): void {
  const { start, stop, first, last } = span;
  let blank = 0;
  for (let block = start; block < stop; block++) {
    if (blank) {
      blank -= 1;
      continue;
    }
    for (let place = first; place <= last; ) {
      const symbol = readSymbol(bits, table);
      const [run, size] = [symbol >> 4, symbol & 15];
      if (size) {
        place += run;
        note(known, block, place, last);
        bits.at += size;
        place += 1;
      } else if (run === 15) {
        place += 16;
      } else {
        blank = (1 << run) + bits.take(run) - 1;
        break;
      }
    }
  }
}

/** Follows a scan that adds a bit to some coefficients, and notes which are no longer zero. */
export function refinePass(bits: Bits, table: Table, known: Uint8Array, span: Span): void {
  const { start, stop, first, last } = span;
  let blank = 0;
  for (let block = start; block < stop; block++) {
    let place = first;
    while (!blank && place <= last) {
      const symbol = readSymbol(bits, table);
      const [run, size] = [symbol >> 4, symbol & 15];
      if (!size && run !== 15) {
        blank = (1 << run) + bits.take(run);
        break;
      }
      bits.at += size;
      for (let zeros = run; place <= last; place++) {
        if (isKnown(known, block, place)) bits.at += 1;
        else if (zeros) zeros -= 1;
        else break;
      }
      if (size) note(known, block, place, last);
      place += 1;
    }
    if (!blank) continue;
    for (; place <= last; place++) if (isKnown(known, block, place)) bits.at += 1;
    blank -= 1;
  }
}

function readSymbol(bits: Bits, table: Table): number {
  const window = bits.window();
  const length = table.lengths[window];
  if (!length) throw new Damage("a code does not exist");
  bits.at += length;
  return table.symbols[window];
}

function isKnown(known: Uint8Array, block: number, place: number): boolean {
  return ((known[block * 8 + (place >> 3)] >> (place & 7)) & 1) === 1;
}

function note(known: Uint8Array, block: number, place: number, last: number): void {
  if (place > last) throw new Damage("a coefficient lies beyond the last");
  known[block * 8 + (place >> 3)] |= 1 << (place & 7);
}
