/** Small values that can be followed by hand. */
import { describe, expect, test } from "vitest";
import { calibrate, fuseScores } from "../src/analysis/fusion";
import { joinEmbeddings } from "../src/analysis/gate";
import { frameContact } from "../src/analysis/measures";
import { outline, toPath } from "../src/analysis/outlines";
import { cornerPieces, largestPiece } from "../src/analysis/pieces";
import type { Mask } from "../src/analysis/raster";
import { averageCells, smallSize } from "../src/analysis/reduction";
import { resize, resizeMap } from "../src/analysis/resample";
import { solidity } from "../src/analysis/shapes";
import { percentiles, roundHalfEven } from "../src/analysis/statistics";

/** Returns a mask drawn in letters: # is lesion. */
function drawn(...rows: string[]): Mask {
  const data = Uint8Array.from(rows.join(""), (letter) => Number(letter === "#"));
  return { width: rows[0].length, height: rows.length, data };
}

describe("statistics are NumPy's", () => {
  test.each([[0.5, 0], [1.5, 2], [2.5, 2], [-0.5, 0], [2.4, 2], [2.6, 3]])(
    "%f rounds to %f",
    (value, expected) => expect(roundHalfEven(value) + 0).toBe(expected),
  );
  test("percentiles lie between neighbours", () => {
    expect(percentiles([4, 1, 3, 2], [0, 50, 75, 100])).toEqual([1, 2.5, 3.25, 4]);
  });
});

describe("scores", () => {
  test("are calibrated in logits", () => {
    const calibration = { temperature: 2, bias: 0 };
    expect(calibrate(calibration, 0.5)).toBeCloseTo(0.5, 12);
    expect(calibrate(calibration, 0.9)).toBeCloseTo(0.75, 12);
    expect(calibrate({ temperature: 1, bias: 0 }, 1)).toBeLessThan(1);
  });
  const answer = (...scores: number[]) => ({
    malignant: { data: Float32Array.from(scores), shape: [scores.length] },
  });
  const plain = { temperature: 1, bias: 0 };
  test("are averaged before calibration, and differ after it", () => {
    const members = [{ name: "a", weight: 0.25 }, { name: "b", weight: 0.75 }];
    const found = fuseScores([answer(0.25), answer(0.75)], members, plain);
    expect(found.probability).toBeCloseTo(0.625, 6);
    expect(found.uncertainty).toBeCloseTo(0.5 * Math.sqrt(0.25 * 0.75), 6);
    expect(found.scores).toEqual({ a: 0.25, b: 0.75 });
  });
  test("are averaged over looks, then over any number of networks", () => {
    const members = [
      { name: "a", weight: 0.5 },
      { name: "b", weight: 0.25 },
      { name: "c", weight: 0.25 },
    ];
    const answers = [answer(0, 1), answer(0.5, 0.5), answer(0.5, 0.5)];
    const found = fuseScores(answers, members, plain);
    expect(found.scores).toEqual({ a: 0.5, b: 0.5, c: 0.5 });
    expect(found.probability).toBeCloseTo(0.5, 12);
    expect(found.uncertainty).toBeCloseTo(Math.sqrt(0.5 * 0.25), 6); // a alone differs, by a half
  });
  test("are calibrated one by one for their deviation", () => {
    const halving = { temperature: 2, bias: 0 }; // 0.9 becomes 0.75, 0.1 becomes 0.25
    const found = fuseScores([answer(0.9, 0.1)], [{ name: "a", weight: 1 }], halving);
    expect(found.uncertainty).toBeCloseTo(0.25, 6);
  });
  test("of one network at one look differ from nothing", () => {
    expect(fuseScores([answer(0.9)], [{ name: "a", weight: 1 }], plain).uncertainty).toBeNull();
  });
  test("of embeddings count by direction alone", () => {
    const joined = joinEmbeddings([Float32Array.of(3, 4), Float32Array.of(0, 0)]);
    expect(Array.from(joined)).toEqual([0.6, 0.8, 0, 0].map(Math.fround));
  });
});

describe("masks", () => {
  test("have a largest piece with its hole filled", () => {
    const piece = largestPiece(drawn("###.#", "#.#..", "###.."))!;
    expect(piece.mask.data.reduce((sum, value) => sum + value)).toBe(9);
    expect(piece.count).toBe(2);
    expect(piece.keptShare).toBeCloseTo(8 / 9, 12);
    expect(largestPiece(drawn("...", "..."))).toBeNull();
  });
  test("reach the corners along edges alone", () => {
    expect(cornerPieces(drawn("#.#", "#..", ".#.")).data).toEqual(drawn("#.#", "#..", "...").data);
  });
  test("are outlined clockwise, and pixels that touch at a corner stay apart", () => {
    expect(toPath(outline(drawn("##"), 0.1))).toBe("M0 0L2 0L2 1L0 1Z");
    expect(outline(drawn("#.", ".#"), 0.1)).toHaveLength(2);
  });
  test("fill their hull or not", () => {
    expect(solidity(drawn("#.", "##"))).toBe(1);
    expect(solidity(drawn("###", "#.#"))).toBeCloseTo(5 / 6, 12);
  });
  test("touch the frame by the pixel edge", () => {
    expect(frameContact(drawn("#.", ".."))).toBe(0.5);
  });
});

describe("pixels", () => {
  test("of one value keep it at any size", () => {
    const flat = { width: 30, height: 40, channels: 3, data: new Uint8Array(3600).fill(7) };
    for (const [width, height] of [[16, 16], [64, 3], [3, 64]]) {
      expect(new Set(resize(flat, width, height, "bilinear").data)).toEqual(new Set([7]));
    }
  });
  test("are averaged in cells that may be cut at the edge", () => {
    const row = { width: 3, height: 1, channels: 1, data: Uint8Array.of(1, 2, 9) };
    expect(Array.from(averageCells(row, 2, 1).data)).toEqual([2, 9]);
  });
  test("of a map keep their sign and size", () => {
    const map = { width: 2, height: 1, data: Float32Array.of(-6, 2) };
    expect(Array.from(resizeMap(map, 4, 1).data)).toEqual([-6, -4, 0, 2]);
  });
  test("are reduced to a size that Python rounds", () => {
    expect(smallSize(600, 800, 256)).toEqual([256, 192]);
    expect(smallSize(60, 80, 256)).toEqual([80, 60]);
  });
});
