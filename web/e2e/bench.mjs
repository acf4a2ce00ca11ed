/**
 * Times the built app in Chromium; `dermfuse bench browser` runs it and speaks with it by lines.
 *
 * node bench.mjs PLAN.json, where the plan is { url, chromium, files, starts }
 * First, for each start, a new browser with nothing kept: one line with the milliseconds from
 * asking for the page to the first result. Then a browser that has analysed one image: one line
 * { version, threads }. Then, for each line on stdin, all files: one line with a list of
 * the milliseconds of each.
 */
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { choose, launch, stateOf, timesOf } from "./app.mjs";

const plan = JSON.parse(readFileSync(process.argv[2], "utf8"));

/** Opens the page and analyses a file as soon as one can be chosen; returns page and time. */
async function open(browser) {
  const page = await (await browser.newContext()).newPage();
  const began = performance.now();
  await page.goto(plan.url, { waitUntil: "commit" });
  await page.waitForSelector("#file", { state: "attached" });
  await page.setInputFiles("#file", plan.files[0]);
  await page.waitForFunction(() =>
    ["analysed", "refused", "failed"].includes(document.body.dataset.state),
  );
  const milliseconds = performance.now() - began;
  await check(page);
  return { page, milliseconds };
}

/** Chooses a file; returns the times of the worker's parts, and until the result is on the page. */
async function analyse(page, file) {
  const began = performance.now();
  await choose(page, file);
  const shown = performance.now() - began;
  await check(page);
  return { ...(await timesOf(page)), shown };
}

async function check(page) {
  const state = await stateOf(page);
  if (state !== "analysed") throw new Error(`${state}: ${await page.textContent("#result")}`);
}

function say(value) {
  console.log(JSON.stringify(value));
}

for (let start = 0; start < plan.starts; start++) {
  const browser = await launch(plan.chromium);
  say((await open(browser)).milliseconds);
  await browser.close();
}
const browser = await launch(plan.chromium);
const { page } = await open(browser);
await page.evaluate(() => navigator.serviceWorker.ready.then(() => true));
say({
  version: browser.version(),
  threads: Number(await page.getAttribute("body", "data-threads")),
});
for await (const _ of createInterface({ input: process.stdin })) {
  const times = [];
  for (const file of plan.files) times.push(await analyse(page, file));
  say(times);
}
await browser.close();
