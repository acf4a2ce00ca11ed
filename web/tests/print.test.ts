/** Every sheet says whose it is, and when it was made. */
import { expect, test } from "vitest";
import { sheetLine } from "../src/page/print";

test("a sheet's head names image, day and release", () => {
  const when = new Date(2026, 2, 4, 5, 6);
  expect(sheetLine("a.jpg", "release", when)).toBe("a.jpg \u00b7 2026-03-04 05:06 \u00b7 release");
});
