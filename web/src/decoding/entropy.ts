/**
 * Whether a JPEG's coded data is whole (`dermfuse.imaging.jpeg`): every block is followed from
 * its first bit to its last.
 *
 * Decoders hide damage without a warning: where bits run out they invent zeros, where some are
 * left over they skip them. The codes' lengths alone show it: each stretch between restart markers has
 * to hold exactly the blocks that it should.
 */
import { Bits, CUT } from "./bits";
import { Damage } from "./damage";
import { END, Table } from "./huffman";
import { type Frame, readFrame, readSegment } from "./jpeg";
import { counter } from "./limits";
import { firstPass, refinePass } from "./refinement";

const [TABLES, RESTART, SCAN, EOI] = [0xc4, 0xdd, 0xda, 0xd9];
const MAX_VISITS = 24_000_000; // of blocks, in all scans
const FILL_BYTES = 16; // fewer zeros than these may fill up a stretch
const HOLE_BYTES = 64; // the zeros of more than two blocks whose coefficients are all alike
const HOLED = "part of its coded data is blank";
const LATE = "its coded data continues where the picture ends";

/** What one scan codes: bit `low` of the coefficients `first` to `last`; `high` came before, if not 0. */
interface Scan {
  /** Places of its channels in the frame. */
  readonly components: readonly number[];
  /** The DC and AC table numbers of each. */
  readonly tables: readonly (readonly [number, number])[];
  readonly first: number;
  readonly last: number;
  readonly high: number;
  readonly low: number;
}

/** What is known of a file so far. */
interface State {
  readonly frame: Frame;
  readonly tables: Map<number, () => Table>; // DC 0 to 3, AC 16 to 19; made when they are used
  readonly known: Map<number, Uint8Array>; // by channel: which coefficients are not zero
  readonly done: Map<number, number>; // the last bit that was coded, by 64 channel + coefficient
  interval: number;
  visits: number;
}

/** Returns how a Huffman-coded JPEG of 8 bits is damaged, in words; "" if it is whole. */
export function findDamage(bytes: Uint8Array): string {
  try {
    return walk(bytes);
  } catch (error) {
    if (error instanceof Damage) return error.message;
    throw error;
  }
}

function walk(bytes: Uint8Array): string {
  const state: State = {
    frame: readFrame(bytes), tables: new Map(), known: new Map(), done: new Map(), interval: 0,
    visits: 0,
  };
  const [countSegment, countScan] = [counter("segments"), counter("scans")];
  let ended = false;
  for (let at = 2; at < bytes.length && !ended; ) {
    countSegment();
    const { marker, start, end } = readSegment(bytes, at);
    const body = bytes.subarray(start, end);
    at = end;
    if (marker === TABLES) readTables(body, state.tables);
    else if (marker === RESTART) state.interval = (body[0] << 8) | body[1];
    else if (marker === EOI) ended = true;
    else if (marker === SCAN) {
      countScan();
      const scan = readScan(body, state.frame);
      const { units, blocks } = unitsOf(state.frame, scan);
      const isFirst = !state.visits;
      state.visits += units * blocks.length;
      if (!isFirst && state.visits > MAX_VISITS) throw new Damage("it has too many scans");
      const stretches = split(bytes, at, Math.ceil(units / (state.interval || units)));
      checkScan(stretches, scan, state);
      at = stretches.at(-1)!.end;
    }
  }
  if (!ended) throw new Damage("its end is missing");
  const places = state.frame.components.flatMap((_, i) => [...Array(64).keys()].map((k) => 64 * i + k));
  return places.every((place) => state.done.get(place) === 0) ? "" : "some of its scans are missing";
}

function readTables(body: Uint8Array, tables: State["tables"]): void {
  for (let at = 0; at + 17 <= body.length; ) {
    const counts = body.subarray(at + 1, at + 17);
    const end = at + 17 + counts.reduce((sum, count) => sum + count, 0);
    if (end > body.length) throw new Damage("a Huffman table is cut off");
    const symbols = body.subarray(at + 17, end);
    let made: Table | null = null;
    tables.set(body[at], () => (made ??= new Table(counts, symbols)));
    at = end;
  }
}

function readScan(body: Uint8Array, { components, coding }: Frame): Scan {
  const count = body[0];
  const pairs = Array.from({ length: count }, (_, i) => [body[1 + 2 * i], body[2 + 2 * i]] as const);
  const [first, last, bits] =
    coding === "progressive" ? body.subarray(1 + 2 * count, 4 + 2 * count) : [0, 63, 0];
  const places = pairs.map(([identifier]) => components.findIndex((one) => one.identifier === identifier));
  const sensible = count && !places.includes(-1) && first <= last && last <= 63 && !(first && count > 1);
  if (!sensible || body.length < 4 + 2 * count) throw new Damage("a scan header makes no sense");
  const tables = pairs.map(([, selector]) => [selector >> 4, selector & 15] as const);
  return { components: places, tables, first, last, high: bits >> 4, low: bits & 15 };
}

/** A stretch of coded data, and the restart marker that ends it, 0 at the end of the scan. */
interface Stretch {
  readonly coded: Uint8Array;
  readonly marker: number;
  readonly end: number;
}

/** Returns the stretches of coded data from a place on, `most` of them, up to the marker that ends a scan. */
function split(bytes: Uint8Array, at: number, most: number): Stretch[] {
  const stretches: Stretch[] = [];
  for (let start = at; ; ) {
    const found = bytes.indexOf(0xff, at);
    const end = found < 0 ? bytes.length : found;
    at = end;
    while (bytes[at] === 0xff) at += 1;
    if (at === bytes.length) {
      return [...stretches, { coded: bytes.subarray(start, end), marker: 0, end: at }]; // no end marker
    }
    const marker = bytes[at];
    if (!marker) continue; // a zero keeps coded ones apart from markers
    const restarts = marker >= 0xd0 && marker <= 0xd7;
    stretches.push({ coded: bytes.subarray(start, end), marker: restarts ? marker : 0, end });
    if (!restarts) return stretches;
    if (stretches.length === most) throw new Damage("a restart marker is missing or one too many");
    start = at += 1;
  }
}

function checkScan(stretches: readonly Stretch[], scan: Scan, state: State): void {
  const { units, blocks } = unitsOf(state.frame, scan);
  const size = state.interval || units;
  if (stretches.length !== Math.ceil(units / size)) {
    throw new Damage("a restart marker is missing or one too many");
  }
  stretches.forEach(({ coded, marker }, i) => {
    if (marker && marker !== 0xd0 + (i % 8)) throw new Damage("its restart markers are out of order");
    checkStretch(coded, scan, state, blocks, i * size, Math.min((i + 1) * size, units));
  });
  for (const channel of scan.components) {
    for (let k = scan.first; k <= scan.last; k++) state.done.set(64 * channel + k, scan.low);
  }
}

/** Returns how many units a scan has, and the table numbers of each block in one of them. */
function unitsOf({ components, width, height }: Frame, { components: places, tables }: Scan) {
  const widest = Math.max(...components.map(({ horizontal }) => horizontal));
  const tallest = Math.max(...components.map(({ vertical }) => vertical));
  const across = (factor: number) => Math.ceil(Math.ceil((width * factor) / widest) / 8);
  const down = (factor: number) => Math.ceil(Math.ceil((height * factor) / tallest) / 8);
  if (places.length === 1) {
    const { horizontal, vertical } = components[places[0]];
    return { units: across(horizontal) * down(vertical), blocks: tables };
  }
  const blocks = places.flatMap((place, i) => {
    const { horizontal, vertical } = components[place];
    return Array.from({ length: horizontal * vertical }, () => tables[i]);
  });
  return { units: across(1) * down(1), blocks };
}

function checkStretch(
  coded: Uint8Array,
  scan: Scan,
  state: State,
  blocks: Scan["tables"],
  start: number,
  stop: number,
): void {
  const bits = new Bits(coded);
  const table = (number: number) => {
    const found = state.tables.get(number);
    if (!found) throw new Damage("a Huffman table is missing");
    return found();
  };
  const ac = 16 + scan.tables[0][1];
  if (state.frame.coding !== "progressive") {
    const layout = blocks.map(([dc, ac]) => [table(dc), table(16 + ac)] as const);
    if (hasHole(bits) && !codesFlatBlocks(layout)) throw new Damage(HOLED);
    follow(bits, layout, stop - start);
  } else if (scan.first > 0) {
    const channel = scan.components[0];
    const known = state.known.get(channel) ?? new Uint8Array(8 * unitsOf(state.frame, scan).units);
    state.known.set(channel, known);
    const pass = scan.high ? refinePass : firstPass;
    pass(bits, table(ac), known, { start, stop, first: scan.first, last: scan.last });
  } else if (scan.high) {
    bits.at = (stop - start) * blocks.length; // one bit each
  } else {
    followDc(bits, blocks.map(([dc]) => table(dc)), stop - start);
  }
  if (bits.at > 8 * bits.length) throw new Damage(CUT);
  const left = bits.data.subarray(Math.ceil(bits.at / 8), bits.length);
  if (left.length >= FILL_BYTES || left.some((value) => value !== 0)) throw new Damage(LATE);
}

/** Returns whether a stretch has a long run of zeros. */
function hasHole({ data, length }: Bits): boolean {
  let run = 0;
  for (let i = 0; i < length; i++) {
    run = data[i] ? 0 : run + 1;
    if (run === HOLE_BYTES) return true;
  }
  return false;
}

/**
 * Returns whether zeros may be many flat blocks: an AC code of zeros ends the block.
 *
 * If it does not, zeros are blocks of 63 coefficients that are all alike, which no picture has; behind
 * a hole in a file decoders often find their way back, and count as many blocks as before.
 */
function codesFlatBlocks(blocks: readonly (readonly [Table, Table])[]): boolean {
  return blocks.every(([, ac]) => ac.single.places[0] === END);
}

/** Follows so many units of sequential blocks. */
function follow(bits: Bits, blocks: readonly (readonly [Table, Table])[], count: number): void {
  const layout = blocks.map(([dc, ac]) => ({ dc: dc.categories, ac, ...ac.several }));
  for (let unit = 0; unit < count; unit++) {
    for (const { dc, ac, bits: steps, places } of layout) {
      followValue(bits, dc);
      const start = bits.at;
      let place = 1;
      while (place < 64) {
        const window = bits.window();
        bits.at += steps[window];
        place += places[window];
      }
      if (!isBlockEnd(place)) followSingly(bits, ac, start);
    }
  }
}

/**
 * Follows a block's AC coefficients one symbol at a time: several at once may reach from a block
 * without an end code into the next.
 */
function followSingly(bits: Bits, table: Table, start: number): void {
  const { bits: steps, places } = table.single;
  let place = 1;
  for (bits.at = start; place < 64; ) {
    const window = bits.window();
    bits.at += steps[window];
    place += places[window];
  }
  if (!isBlockEnd(place)) throw new Damage(CUT);
}

function isBlockEnd(place: number): boolean {
  return place === 64 || (place > END && place < END + 64);
}

function followDc(bits: Bits, tables: readonly Table[], count: number): void {
  const layout = tables.map((table) => table.categories);
  for (let unit = 0; unit < count; unit++) {
    for (const dc of layout) followValue(bits, dc);
  }
}

function followValue(bits: Bits, categories: Uint8Array): void {
  const step = categories[bits.window()];
  if (!step) throw new Damage(CUT);
  bits.at += step;
}
