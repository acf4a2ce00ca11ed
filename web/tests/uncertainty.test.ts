/** How far the networks agree is said where there is more than one answer. */
import { expect, test } from "vitest";
import type { Analysis } from "../src/analysis/analysis";
import { uncertaintySentence } from "../src/page/looks";

const sentence = (uncertainty: number | null, looks: number, networks: number) =>
  uncertaintySentence({
    uncertainty,
    looks,
    scores: Object.fromEntries(Array.from({ length: networks }, (_, i) => [`network ${i}`, 0.5])),
  } as unknown as Analysis);

test("nothing is said of one look of one network", () => {
  expect(sentence(null, 1, 1)).toBeNull();
});

test("what varies by next to nothing is not said to vary by zero", () => {
  expect(sentence(0.0004, 8, 1)).toContain("varies by less than 0.1\u00a0%");
  expect(sentence(0, 1, 2)).toContain("Over 2 networks the probability varies by less than 0.1\u00a0%");
  expect(sentence(0.0123, 8, 2)).toContain("2 networks the probability varies by 1.2\u00a0%");
});
