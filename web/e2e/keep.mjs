/**
 * Opens the built app where files arrive damaged and where nothing may be kept, and prints what
 * became of each try as JSON.
 *
 * node keep.mjs PLAN.json, where the plan is { app, chromium, file, work, damaged }
 * Each try is a new browser: { state, said, probability, asked }, where `asked` counts the requests by path;
 * those of `damaged` arrive damaged always, one by one.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join } from "node:path";
import { chromium } from "playwright-core";
import { choose, stateOf } from "./app.mjs";

const plan = JSON.parse(readFileSync(process.argv[2], "utf8"));
const build = JSON.parse(readFileSync(join(plan.app, "build.json"), "utf8"));
const TYPES = {
  ".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript",
  ".svg": "image/svg+xml", ".wasm": "application/wasm",
};
const ALWAYS = 9;
const OTHER_HOST = "app.test"; // no localhost: not a secure context

let damage = {}; // how often each path is answered with other bytes
let asked = {};
const server = createServer((request, response) => {
  const path = new URL(request.url, "http://host").pathname.slice(1) || "index.html";
  asked[path] = (asked[path] ?? 0) + 1;
  let content;
  try {
    content = Buffer.from(readFileSync(join(plan.app, path)));
  } catch {
    response.writeHead(404).end();
    return;
  }
  if (damage[path]-- > 0) content[content.length >> 1] ^= 1;
  response.writeHead(200, { "Content-Type": TYPES[extname(path)] ?? "application/octet-stream" });
  response.end(content);
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const { port } = server.address();

/** Returns what a new browser makes of the app; `act` goes on from its first result. */
async function attempt({ host = "127.0.0.1", preferences = {}, quota, damaged = {}, init, act } = {}) {
  const profile = join(plan.work, `profile-${Math.random()}`);
  mkdirSync(join(profile, "Default"), { recursive: true });
  writeFileSync(join(profile, "Default", "Preferences"), JSON.stringify(preferences));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: plan.chromium,
    args: [
      "--no-sandbox",
      `--host-resolver-rules=MAP ${OTHER_HOST} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1`,
    ],
  });
  [damage, asked] = [{ ...damaged }, {}];
  const page = await context.newPage();
  const url = `http://${host}:${port}/`;
  if (quota) {
    const session = await context.newCDPSession(page);
    const { origin } = new URL(url);
    await session.send("Storage.overrideQuotaForOrigin", { origin, quotaSize: quota });
  }
  if (init) await page.addInitScript(init);
  await page.goto(url);
  await settle(page);
  if (act) await act(page, context);
  if ((await stateOf(page)) === "ready") await choose(page, plan.file);
  const state = await stateOf(page);
  const said = await page.evaluate(() =>
    ["result", "loading"].map((id) => document.getElementById(id).innerText).join("\n"),
  );
  const probability = state === "analysed" ? await page.textContent("#probability") : null;
  await context.close();
  return { state, said, probability, asked };
}

/** Waits for the app to be ready or to fail; that it does neither is a finding. */
async function settle(page) {
  const settled = () => ["ready", "failed"].includes(document.body?.dataset.state);
  await page.waitForFunction(settled, undefined, { timeout: 60_000 }).catch(() => undefined);
}

/** Lets the page ask for nothing that keeps: even the question throws. */
function forbid() {
  const refuse = { get: () => { throw new DOMException("forbidden", "SecurityError"); } };
  for (const name of ["caches", "indexedDB", "localStorage", "sessionStorage"]) {
    Object.defineProperty(self, name, refuse);
  }
  Object.defineProperty(navigator, "serviceWorker", refuse);
}

/** Spoils what the browser keeps, and opens the app again. */
async function spoil(page) {
  await page.evaluate(() => navigator.serviceWorker.ready);
  await page.waitForFunction(async (count) => {
    const cache = await caches.open("dermfuse / heavy");
    return (await cache.keys()).length === count;
  }, build.heavy.length);
  await page.evaluate(async () => {
    for (const name of await caches.keys()) {
      const cache = await caches.open(name);
      for (const request of await cache.keys()) {
        const kept = await cache.match(request);
        const content = new Uint8Array(await kept.arrayBuffer());
        content[content.length >> 1] ^= 1;
        await cache.put(request, new Response(content, { headers: kept.headers }));
      }
    }
  });
  asked = {};
  await page.reload();
  await settle(page);
}

const paths = [...build.shell, ...build.heavy].map(({ path }) => path);
const needed = ["build.json", ...paths.filter((path) => !/icon|manifest|index\.html/.test(path))];
const each = (count) =>
  Object.fromEntries(needed.filter((path) => path !== "guard.js").map((path) => [path, count]));
const found = {
  sound: await attempt(),
  "nothing kept": await attempt({
    preferences: { profile: { default_content_setting_values: { cookies: 2 } } },
  }),
  forbidden: await attempt({ init: forbid }),
  "not secure": await attempt({ host: OTHER_HOST }),
  full: await attempt({ quota: 1000 }),
  spoiled: await attempt({ act: spoil }),
  "damaged once": await attempt({ damaged: each(1) }),
  "damaged once, not secure": await attempt({ host: OTHER_HOST, damaged: each(1) }),
  damaged: {},
};
for (const path of plan.damaged) {
  found.damaged[path] = await attempt({ damaged: { [path]: ALWAYS } });
}
const network = plan.damaged.find((path) => path.endsWith(".onnx"));
found["damaged, not secure"] = await attempt({ host: OTHER_HOST, damaged: { [network]: ALWAYS } });
server.close();
console.log(JSON.stringify(found));
