/**
 * Opens built apps where the connection fails, where several share an origin, where a new one is
 * deployed and where parts of the page die, and prints what became of each try as JSON.
 *
 * node last.mjs PLAN.json, where the plan is { chromium, file, first, newer, second }: folders of apps.
 * `first` lies at /a/, where `newer` takes its place later on; `second` below it, at /a/b/.
 */
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join } from "node:path";
import { PATIENCE, choose, launch, stateOf } from "./app.mjs";

const plan = JSON.parse(readFileSync(process.argv[2], "utf8"));
const TYPES = {
  ".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript",
  ".svg": "image/svg+xml", ".wasm": "application/wasm",
};
const A_WHILE_MS = 600_000; // by the page's clock: longer than it waits for anything

let apps = {};
let ends = []; // [pattern, "cut" | "stall" | "damage"]: how answers to paths end
let asked = [];
const server = createServer((request, response) => {
  const { pathname } = new URL(request.url, "http://host");
  const prefix = Object.keys(apps).find((each) => pathname.startsWith(each));
  const path = prefix && (pathname.slice(prefix.length) || "index.html");
  asked.push(pathname);
  let content;
  try {
    content = Buffer.from(readFileSync(join(apps[prefix], path)));
  } catch {
    response.writeHead(404, { "Content-Type": "text/html" }).end("<p>nothing here</p>");
    return;
  }
  const [, end] = ends.find(([pattern]) => pathname.includes(pattern)) ?? [];
  if (end === "damage") content[content.length >> 1] ^= 1;
  response.writeHead(200, {
    "Content-Type": TYPES[extname(path)] ?? "application/octet-stream",
    "Content-Length": content.length,
    "Cache-Control": "no-cache",
  });
  if (end !== "cut" && end !== "stall") response.end(content);
  else response.write(content.subarray(0, content.length >> 1), () => end === "cut" && response.destroy());
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const origin = `http://127.0.0.1:${server.address().port}`;
const browser = await launch(plan.chromium);

/** Runs a try with a browser that keeps nothing yet. */
async function fresh(act, failing = []) {
  [apps, ends, asked] = [{ "/a/b/": plan.second, "/a/": plan.first }, failing, []];
  const context = await browser.newContext();
  context.setDefaultTimeout(PATIENCE.timeout);
  try {
    return await act(await context.newPage(), context);
  } finally {
    await context.close();
  }
}

/** Waits for the app to be ready or to fail. */
async function settle(page) {
  await page.waitForFunction(() => ["ready", "failed"].includes(document.body?.dataset.state));
}

/** Opens an address, and returns what becomes of the file there. */
async function open(page, address) {
  await page.goto(origin + address);
  await settle(page);
  if ((await stateOf(page)) === "ready") await choose(page, plan.file);
  return outcome(page);
}

async function outcome(page) {
  return page.evaluate(() => ({
    state: document.body.dataset.state,
    said: ["result", "loading"].map((id) => document.getElementById(id).innerText).join("\n"),
    spins: !document.getElementById("busy").hidden || (document.getElementById("progress")?.checkVisibility() ?? false),
    release: document.getElementById("sheet").textContent.split(" \u00b7 ").at(-1),
  }));
}

/** Waits until all is kept that an app needs without a connection. */
async function kept(page, folder, app) {
  const { heavy } = JSON.parse(readFileSync(join(app, "build.json"), "utf8"));
  await page.evaluate(() => navigator.serviceWorker.ready);
  await page.waitForFunction(
    async ([name, count]) => (await (await caches.open(name)).keys()).length === count,
    [`dermfuse ${folder} heavy`, heavy.length],
  );
}

const cacheNames = (page) => page.evaluate(async () => (await caches.keys()).sort());

/** Two apps on one origin, without a connection and with queries; then one of them is replaced. */
async function share(page, context) {
  const found = { online: [await open(page, "/a/")] };
  await kept(page, "/a/", plan.first);
  found.online.push(await open(page, "/a/b/"));
  await kept(page, "/a/b/", plan.second);
  found.names = await cacheNames(page);
  await context.setOffline(true);
  found.offline = [];
  for (const address of ["/a/?x=1", "/a/index.html?y=2&z#w", "/a/b/?x=1", "/a/?again"]) {
    found.offline.push(await open(page, address));
  }
  await context.setOffline(false);

  apps["/a/"] = plan.newer;
  asked = [];
  found.before = await open(page, "/a/");
  await page.waitForFunction(async () => {
    const registration = await navigator.serviceWorker.getRegistration();
    if (!registration.waiting && !registration.installing) await registration.update();
    return registration.waiting?.state === "installed";
  }, null, { polling: 500 });
  await page.goto(`${origin}/nothing`); // so the last page of the old build is gone
  const old = found.names.find((name) => name.startsWith("dermfuse /a/ ") && !name.endsWith("heavy"));
  await page.waitForFunction( // the new worker takes over in its own time
    async (name) => !(await caches.keys()).includes(name), old,
  );
  found.asked = asked.filter((path) => path.startsWith("/a/release/"));
  await context.setOffline(true);
  found.after = await open(page, "/a/");
  found.neighbour = await open(page, "/a/b/");
  await page.goto(`${origin}/a/b/`);
  found.namesAfter = await cacheNames(page);
  return found;
}

/** A file that was kept is lost, and the server has another build by now. */
async function lose(page) {
  await open(page, "/a/");
  await kept(page, "/a/", plan.first);
  await page.evaluate(async () => {
    for (const name of await caches.keys()) {
      await (await caches.open(name)).delete(new URL("release/release.json", location.href));
    }
  });
  apps["/a/"] = plan.newer;
  return { first: await open(page, "/a/"), again: await open(page, "/a/") };
}

/** Opens the app where it cannot start, and chooses a file all the same. */
async function start(page) {
  await page.goto(`${origin}/a/`);
  await settle(page);
  await page.setInputFiles("#file", plan.file);
  return { ...(await outcome(page)), pages: asked.filter((path) => path === "/a/").length };
}

/** Lets the worker die by `end`, then chooses a file. */
const dying = (end) => async (page) => {
  await page.clock.install();
  await page.goto(`${origin}/a/`);
  await settle(page);
  await page.workers()[0].evaluate(end);
  await page.setInputFiles("#file", plan.file);
  await page.clock.runFor(A_WHILE_MS);
  await page.waitForFunction(() => document.body.dataset.state === "failed");
  await page.setInputFiles("#file", plan.file);
  return outcome(page);
};

/** Shows a result where there is no memory for a canvas. */
async function cramped(page) {
  await page.addInitScript(() => {
    HTMLCanvasElement.prototype.getContext = () => null;
  });
  return open(page, "/a/");
}

const found = {
  share: await fresh(share),
  lose: await fresh(lose),
  "the connection dies while a network comes": await fresh(start, [[".onnx", "cut"]]),
  "nothing more comes of a network": await fresh(start, [["reds-a.onnx", "stall"]]),
  "the worker's script is cut": await fresh(start, [["worker-", "cut"]]),
  "the page's script is cut": await fresh(start, [["index-", "cut"]]),
  "the style is damaged": await fresh(start, [[".css", "damage"]]),
  "the worker fails": await fresh(dying(() => setTimeout(() => { throw new Error("out of memory"); }))),
  "the worker is gone": await fresh(dying(() => self.close())),
  "a canvas has no room": await fresh(cramped),
};
await browser.close();
server.closeAllConnections();
server.close();
console.log(JSON.stringify(found));
