/** The symmetries of the square, by which a network looks at one image several times (`dermfuse.imaging.symmetries`). */

/** How many orientations of an image a network sees. */
export type Looks = 1 | 4 | 8;

/** All numbers of looks, the fastest first. */
export const LOOKS: readonly Looks[] = [1, 4, 8];

/** Returns how many looks a release asks for: one where it says nothing. */
export function checkLooks(looks: unknown): Looks {
  const found = LOOKS.find((allowed) => allowed === (looks ?? 1));
  if (found) return found;
  throw new Error(
    `release.json has looks ${JSON.stringify(looks)}. Expected: 1 (the image as it is), ` +
      "4 (its quarter turns) or 8 (and their mirror images). Build the app with another release.",
  );
}

/** Returns a number of looks in words. */
export function describeLooks(looks: Looks): string {
  return `${looks} orientation${looks === 1 ? "" : "s"}`;
}

/** Returns what a reader must know where the looks are not the release's; null where they are. */
export function describeOtherLooks(looks: Looks, measured: Looks): string | null {
  if (looks === measured) return null;
  return (
    `Each network looked at ${describeLooks(looks)}; probability, operating points and the ` +
    `gate were measured with ${measured}.`
  );
}

/** Whether the square is mirrored left to right, then its quarter turns counter-clockwise. */
interface Symmetry {
  readonly mirror: boolean;
  readonly turns: number;
}

const SYMMETRIES: readonly Symmetry[] = [false, true].flatMap((mirror) =>
  [0, 1, 2, 3].map((turns) => ({ mirror, turns })),
);

/** Where a moved square reads: pixel (row, column) is `first + row * down + column * across`. */
interface Walk {
  readonly first: number;
  readonly down: number;
  readonly across: number;
}

/**
 * Returns the looks at a square of RGB one after the other: a batch for a network.
 *
 * @param square - (S, S, 3).
 */
export function spreadLooks(square: Uint8Array, side: number, looks: Looks): Uint8Array {
  const spread = new Uint8Array(looks * square.length);
  let to = 0;
  for (const symmetry of SYMMETRIES.slice(0, looks)) {
    const { first, down, across } = walk(symmetry, side);
    for (let row = 0; row < side; row++) {
      let from = 3 * (first + row * down);
      for (let column = 0; column < side; column++, from += 3 * across) {
        spread[to++] = square[from];
        spread[to++] = square[from + 1];
        spread[to++] = square[from + 2];
      }
    }
  }
  return spread;
}

/** What a network says about a batch: (N, ...). */
export interface Answer {
  readonly data: Float32Array;
  readonly dims: readonly number[];
}

/**
 * Returns what a network says about an image, from its answers about batches of looks: the mean,
 * maps moved back onto the image as it is; or a number for each look, where those stay apart.
 *
 * @param parts - In the order of the looks, N looks in each.
 */
export function gatherLooks(
  parts: readonly Answer[],
  looks: Looks,
  { apart }: { readonly apart: boolean },
): { data: Float32Array; shape: readonly number[] } {
  const shape = parts[0].dims.slice(1);
  const data = joined(parts.map((part) => part.data));
  if (apart) return { data, shape: [looks, ...shape] };
  const isMap = shape.length > 1;
  return { data: isMap ? averageMaps(data, shape.at(-1)!, looks) : averageLooks(data, looks), shape };
}

/** Returns the mean of what a network says at each look: of a list of numbers. */
function averageLooks(answer: Float32Array, looks: Looks): Float32Array {
  if (looks === 1) return answer;
  const length = answer.length / looks;
  const sums = new Float64Array(length);
  for (let at = 0; at < answer.length; at++) sums[at % length] += answer[at];
  return Float32Array.from(sums, (sum) => sum / looks);
}

/** Returns the mean of the square maps of each look, moved back onto the image as it is. */
function averageMaps(answer: Float32Array, side: number, looks: Looks): Float32Array {
  if (looks === 1) return answer;
  const sums = new Float64Array(side * side);
  let from = 0;
  for (const symmetry of SYMMETRIES.slice(0, looks)) {
    const { first, down, across } = walk(symmetry, side);
    for (let row = 0; row < side; row++) {
      let to = first + row * down;
      for (let column = 0; column < side; column++, to += across) sums[to] += answer[from++];
    }
  }
  return Float32Array.from(sums, (sum) => sum / looks);
}

function joined(parts: readonly Float32Array[]): Float32Array {
  if (parts.length === 1) return parts[0];
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Returns where the pixels of a moved square lie in the square as it is. */
function walk({ mirror, turns }: Symmetry, side: number): Walk {
  const last = side - 1;
  const turned = [
    { row: 0, column: 0, down: [1, 0], across: [0, 1] },
    { row: 0, column: last, down: [0, -1], across: [1, 0] },
    { row: last, column: last, down: [-1, 0], across: [0, -1] },
    { row: last, column: 0, down: [0, 1], across: [-1, 0] },
  ][turns];
  const sign = mirror ? -1 : 1;
  const step = ([rows, columns]: number[]) => rows * side + sign * columns;
  return {
    first: turned.row * side + (mirror ? last - turned.column : turned.column),
    down: step(turned.down),
    across: step(turned.across),
  };
}
