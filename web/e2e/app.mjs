/** The built app in Chromium, as the drivers use it. */
import { chromium } from "playwright-core";

export const PATIENCE = { timeout: 300_000 }; // milliseconds: eight looks on a machine with other work

/** Starts a browser that reaches this machine alone. */
export function launch(executablePath) {
  const args = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"];
  return chromium.launch({ executablePath, args });
}

/** Chooses a file, and waits until the page has done with it. */
export async function choose(page, file) {
  await answered(page, () => page.setInputFiles("#file", file));
}

/** Does what asks for an analysis, and waits until the page has done with it. */
export async function answered(page, act) {
  const before = await page.evaluate(() => document.body.dataset.turn ?? "0");
  await act();
  await page.waitForFunction(
    (turn) => (document.body.dataset.turn ?? "0") !== turn,
    before,
    PATIENCE,
  );
}

/** Returns the state that the page is in: `analysed`, say. */
export function stateOf(page) {
  return page.evaluate(() => document.body.dataset.state);
}

/** Returns the times of the last analysis' parts, in milliseconds. */
export async function timesOf(page) {
  return JSON.parse(await page.getAttribute("#result", "data-milliseconds"));
}
