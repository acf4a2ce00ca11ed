/** Every stage gives what Python gives, on the test vectors. */
import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { analyse, toRecord } from "../src/analysis/analysis";
import { appearance } from "../src/analysis/appearance";
import { fuseActivation, fuseMasks } from "../src/analysis/fusion";
import { unpackDermoscopy, unpackFloats } from "../src/analysis/gate";
import { measureLesion } from "../src/analysis/measures";
import { reduceImage } from "../src/analysis/reduction";
import { squeeze } from "../src/analysis/resample";
import { answersOf, bytesOf, maskOf, rasterOf, vectors, withAlpha } from "./vectors";

const { classes, masks } = vectors.release;

describe.each(vectors.images.map((image) => [image.name, image] as const))("%s", (_, image) => {
  const pixels = withAlpha(rasterOf(image.rgb));

  test("is squeezed to the bit", () => {
    for (const [size, square] of Object.entries(image.squeezed)) {
      expect(Buffer.from(squeeze(pixels, Number(size)).data).equals(bytesOf(square))).toBe(true);
    }
  });

  test("is reduced to the bit", () => {
    const digest = createHash("sha256").update(reduceImage(pixels).data).digest("hex");
    expect(digest).toBe(image.reduced_sha256);
  });

  test("looks the same", () => {
    const found = appearance(reduceImage(pixels));
    vectors.features.forEach((name, i) => expect(found[i], name).toBeCloseTo(image.appearance[i], 5));
  });

  test("has the same mask", () => {
    const answers = answersOf(image).slice(classes.members.length);
    const mask = fuseMasks(answers, masks.members, masks.threshold, pixels.width, pixels.height);
    expect(Buffer.from(mask.data).equals(bytesOf(image.mask))).toBe(true);
  });

  test("has the same activation map", () => {
    const answers = answersOf(image).slice(0, classes.members.length);
    const found = fuseActivation(answers, classes.members);
    const expected = unpackFloats(image.activation.float32);
    expected.forEach((value, i) => expect(found.data[i]).toBeCloseTo(value, 5));
  });

  test.runIf(image.analysis["measures"])("has the same measures", () => {
    const found = measureLesion(pixels, maskOf(image.mask));
    expectClose(found, image.analysis["measures"], 1e-4);
  });

  test("has the same record", () => {
    const dermoscopy = unpackDermoscopy(vectors.dermoscopy);
    const analysis = analyse(pixels, answersOf(image), vectors.looks, vectors.release, dermoscopy);
    const point = classes.operating_points.find(({ name }) => name === classes.default_point)!;
    expectClose(toRecord(analysis, point, image.name), image.analysis, 1e-4);
  });
});

/** Expects two JSON values to have the same form and numbers that differ by a share at most. */
function expectClose(found: unknown, expected: unknown, share: number, path = "$"): void {
  if (typeof expected === "number") {
    const away = Math.abs((found as number) - expected);
    expect(away, `${path}: ${found} for ${expected}`).toBeLessThanOrEqual(
      share * Math.max(1, Math.abs(expected)),
    );
  } else if (expected !== null && typeof expected === "object") {
    expect(Object.keys(found as object).sort(), path).toEqual(Object.keys(expected).sort());
    for (const [key, value] of Object.entries(expected)) {
      expectClose((found as Record<string, unknown>)[key], value, share, `${path}.${key}`);
    }
  } else {
    expect(found, path).toBe(expected);
  }
}
