/**
 * Drives the built app in Chromium as a person would, and prints what it found as JSON.
 *
 * node drive.mjs PLAN.json, where the plan is
 *   { url, chromium, files, refused, out, looks }
 * Every file is chosen, its record and mask are saved into `out`; then the last one is looked
 * at in `looks` orientations, and those are chosen that the page should refuse. At the end the connection is cut, the page reloaded and the first file
 * analysed again.
 */
import { readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { PATIENCE, answered, choose, launch, stateOf, timesOf } from "./app.mjs";

const MOST_CLICKS = 3;

const plan = JSON.parse(readFileSync(process.argv[2], "utf8"));
const origin = new URL(plan.url).origin;
const browser = await launch(plan.chromium);
const context = await browser.newContext({ acceptDownloads: true });
context.setDefaultTimeout(PATIENCE.timeout);
const requests = [];
const errors = [];
context.on("request", (request) => requests.push(request.url()));
const page = await context.newPage();
page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
page.on("pageerror", (error) => errors.push(String(error)));

/** Chooses a file and returns the state in which the page ends. */
async function analyse(file) {
  await choose(page, file);
  return stateOf(page);
}

/**
 * Clicks a button that saves a file, and returns where it lies.
 *
 * A click that a busy machine loses is made again; where no file comes, the page's own errors are told.
 */
async function save(button, suffix, file) {
  const path = join(plan.out, `${basename(file)}${suffix}`);
  for (let clicks = 1; clicks <= MOST_CLICKS; clicks++) {
    const [download] = await Promise.all([
      page.waitForEvent("download", { timeout: 60_000 }).catch(() => null),
      page.getByRole("button", { name: button }).click(),
    ]);
    if (download) {
      await download.saveAs(path);
      return path;
    }
    console.error(`no file came of click ${clicks} on "${button}"; the page's errors: ${errors}`);
  }
  throw new Error(`"${button}" saves nothing of ${file}`);
}

/** Does as `save` where there is such a button; null where there is none. */
async function saveIfOffered(button, suffix, file) {
  const offered = await page.getByRole("button", { name: button }).count();
  return offered ? save(button, suffix, file) : null;
}

/** Brings a file to its result, and returns that; what is saved has `mark` in its name. */
async function inspect(file, { act = analyse, mark = "" } = {}) {
  const state = await act(file);
  if (state !== "analysed") return { file, state, said: await page.textContent("#result") };
  return {
    file,
    state,
    record: JSON.parse(readFileSync(await save("Record, JSON", `${mark}.json`, file), "utf8")),
    mask: await saveIfOffered("Mask, PNG", `${mark}.png`, file),
    milliseconds: await timesOf(page),
    gauges: await gauges(),
    lesion: await page.evaluate(() => ({
      controls: document.querySelectorAll("#show-contour, #show-activation").length,
      outline: document.querySelector(".contour").getAttribute("d").length > 0,
      measures: document.querySelector("#result").innerText.includes("Measures of the lesion"),
      share: document.querySelector("#lesion-share")?.textContent ?? null,
    })),
  };
}

/** Returns how wide the probability's bar is drawn, and where its tick is, at each point; in px. */
async function gauges() {
  const select = page.locator("#point");
  if (!(await select.count())) return [];
  const before = await select.inputValue();
  const names = await select.locator("option").evaluateAll((all) => all.map(({ value }) => value));
  const found = [];
  for (const name of [...names, before]) {
    await select.selectOption(name);
    found.push(await page.locator(".gauge").evaluate((gauge, point) => {
      const whole = gauge.getBoundingClientRect();
      const tick = gauge.querySelector(".tick").getBoundingClientRect();
      const level = gauge.querySelector(".level").getBoundingClientRect();
      return { point, width: whole.width, level: level.width, tick: tick.left - whole.left };
    }, name));
  }
  return found;
}

/** Prints the page, and returns where the sheets lie and which headings stand on the screen. */
async function print(file) {
  const path = join(plan.out, "printed.pdf");
  await page.pdf({ path, format: "A4" });
  const headings = await page.getByRole("heading").allInnerTexts();
  await page.emulateMedia({ media: "print" });
  const position = await page.locator(".notice").evaluate((notice) => getComputedStyle(notice).position);
  await page.emulateMedia({ media: null });
  return { path, file, headings, position, day: await page.evaluate(() => new Date().toLocaleDateString("sv")) };
}

/** Chooses another number of looks at the image on the page. */
async function lookAgain() {
  await answered(page, () => page.selectOption("#looks", String(plan.looks)));
  return stateOf(page);
}

const began = performance.now();
await page.goto(plan.url);
const cold = { state: await analyse(plan.files[0]), milliseconds: performance.now() - began };
const isolated = await page.evaluate(() => self.crossOriginIsolated);
const results = [];
for (const file of plan.files) results.push(await inspect(file));
await saveIfOffered("Overlay, PNG", "-overlay.png", plan.files.at(-1));
const otherLooks = await inspect(plan.files.at(-1), { act: lookAgain, mark: "-again" });
const printed = await print(plan.files.at(-1));
const refused = [];
for (const file of plan.refused) refused.push(await inspect(file));
const notice = await page.isVisible(".notice");

await page.evaluate(() => navigator.serviceWorker.ready);
await page.waitForFunction(() => navigator.serviceWorker.controller !== null);
await context.setOffline(true);
await page.reload();
await page.waitForFunction(() => document.body.dataset.state === "ready");
const offline = {
  result: await inspect(plan.files[0]),
  isolated: await page.evaluate(() => self.crossOriginIsolated),
};
await browser.close();

const foreign = requests.filter((url) => {
  const { origin: found, protocol } = new URL(url);
  return found !== origin && protocol !== "blob:" && protocol !== "data:";
});
console.log(JSON.stringify({ cold, isolated, results, otherLooks, printed, refused, notice, offline, foreign, errors }));
