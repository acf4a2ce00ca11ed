/** Looks that can be followed by hand, on squares of 2 x 2. */
import { describe, expect, test } from "vitest";
import type { Analysis } from "../src/analysis/analysis";
import {
  checkLooks,
  describeOtherLooks,
  gatherLooks,
  type Looks,
  LOOKS,
  spreadLooks,
} from "../src/analysis/looks";
import { uncertaintySentence } from "../src/page/looks";
import { readRelease } from "../src/release/reading";
import { vectors } from "./vectors";

/** Returns a square of RGB: red as it says, green 10 and blue 20 more. */
function square(...reds: number[]): Uint8Array {
  return Uint8Array.from(reds.flatMap((red) => [red, red + 10, red + 20]));
}

/** Returns each look's part of a batch. */
function split(batch: Uint8Array, looks: Looks): number[][] {
  const length = batch.length / looks;
  return Array.from({ length: looks }, (_, i) => [...batch.subarray(i * length, (i + 1) * length)]);
}

/** Returns the mean over looks of an answer, its looks in one batch. */
function mean(values: ArrayLike<number>, looks: Looks, ...shape: number[]): number[] {
  const parts = [{ data: Float32Array.from(values), dims: [looks, ...shape] }];
  const found = gatherLooks(parts, looks, { apart: false });
  expect(found.shape).toEqual(shape);
  return [...found.data];
}

describe("looks", () => {
  test("are the quarter turns counter-clockwise, then those of the mirror image", () => {
    const expected = [
      [1, 2, 3, 4],
      [2, 4, 1, 3],
      [4, 3, 2, 1],
      [3, 1, 4, 2],
      [2, 1, 4, 3],
      [1, 3, 2, 4],
      [3, 4, 1, 2],
      [4, 2, 3, 1],
    ].map((reds) => [...square(...reds)]);
    for (const looks of LOOKS) {
      const found = split(spreadLooks(square(1, 2, 3, 4), 2, looks), looks);
      expect(found).toEqual(expected.slice(0, looks));
    }
  });
  test("move maps back onto the image as it is", () => {
    const reds = Uint8Array.from({ length: 25 }, (_, i) => i);
    for (const looks of LOOKS) {
      const moved = spreadLooks(square(...reds), 5, looks).filter((_, i) => i % 3 === 0);
      expect(mean(moved, looks, 5, 5)).toEqual([...reds]);
    }
  });
  test("average maps where they lie on the image, and numbers one by one", () => {
    const at = (index: number) => Array.from({ length: 16 }, (_, i) => (i === index ? 8 : 0));
    expect(mean(at(0), 4, 2, 2)).toEqual([2, 0, 0, 0]); // the image as it is
    expect(mean(at(4), 4, 2, 2)).toEqual([0, 2, 0, 0]); // a turn brought it to the left
    expect(mean([1, 2, 3, 4, 5, 6, 7, 8], 4, 2)).toEqual([4, 5]);
  });
  test("may go through a network in any batches", () => {
    const whole = Float32Array.from({ length: 8 * 9 }, (_, i) => i % 17);
    const cut = (at: number) => [
      { data: whole.slice(0, at * 9), dims: [at, 3, 3] },
      { data: whole.slice(at * 9), dims: [8 - at, 3, 3] },
    ];
    for (const at of [1, 3, 6]) {
      expect([...gatherLooks(cut(at), 8, { apart: false }).data]).toEqual(mean(whole, 8, 3, 3));
    }
    const scores = [[0.25, 0.5], [0.75, 1]].map((two) => ({ data: Float32Array.from(two), dims: [2] }));
    const apart = gatherLooks(scores, 4, { apart: true });
    expect([apart.shape, [...apart.data]]).toEqual([[4], [0.25, 0.5, 0.75, 1]]);
  });
});

describe("a release", () => {
  const { looks: _, ...silent } = vectors.release;
  test("that says nothing asks for one look", () => {
    expect(readRelease(silent).looks).toBe(1);
    expect(readRelease({ ...silent, looks: 8 }).looks).toBe(8);
  });
  test.each([0, 2, 16, "8", true, 1.5])("with looks %j is refused in one line", (looks) => {
    expect(() => readRelease({ ...silent, looks })).toThrow(
      `release.json has looks ${JSON.stringify(looks)}. Expected: 1`,
    );
    expect(() => checkLooks(looks)).toThrow(/^[^\n]+$/);
  });
});

describe("what is said", () => {
  const said = (looks: Looks, names: string, uncertainty: number | null) => {
    const scores = Object.fromEntries([...names].map((name) => [name, 0.5]));
    return uncertaintySentence({ looks, scores, uncertainty } as Analysis);
  };
  const rest = "the probability varies by 3.0\u00a0% (standard deviation).";
  test("of the deviation names what it is taken over", () => {
    expect(said(8, "ab", 0.03)).toBe(`Over 8 orientations and 2 networks ${rest}`);
    expect(said(8, "a", 0.03)).toBe(`Over 8 orientations ${rest}`);
    expect(said(1, "abc", 0.03)).toBe(`Over 3 networks ${rest}`);
    expect(said(1, "a", null)).toBeNull();
  });
  test("of looks is something where they are not the release's", () => {
    expect(describeOtherLooks(8, 8)).toBeNull();
    expect(describeOtherLooks(1, 8)).toBe(
      "Each network looked at 1 orientation; probability, operating points and the gate " +
        "were measured with 8.",
    );
  });
});
