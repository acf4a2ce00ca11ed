/** Numbers for people keep a space before the sign; style sheets refuse a value that has one. */
import { expect, test } from "vitest";
import { cssPercent, percent, pointName } from "../src/page/words";

test("a share is written apart for people and for style sheets", () => {
  expect([percent(0.123), percent(0.05, 0)]).toEqual(["12.3\u00a0%", "5\u00a0%"]);
  expect([cssPercent(0.25), cssPercent(0), cssPercent(1)]).toEqual(["25%", "0%", "100%"]);
});

test("operating points are read out", () => {
  expect([pointName("balanced"), pointName("sensitivity95")]).toEqual(["Balanced", "Sensitivity 95\u00a0%"]);
});
