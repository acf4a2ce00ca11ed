/**
 * Keeps the app for use without a connection, and asks for cross-origin isolation where the
 * server does not: threads need it.
 */
/// <reference lib="webworker" />
import type { Build, BuiltFile } from "./release/records";
import { buildId } from "./worker/digests";
import { BUILD_PATH, HEAVY_CACHE, heavyUrl, loadFile, openCache, readBuild } from "./worker/files";

declare const self: ServiceWorkerGlobalScope;

const BUILD = "__BUILD__"; // written by `dermfuse web build`: a new build is a new worker
const SHELL_CACHE = `dermfuse-shell-${BUILD}`;
const ISOLATION = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
};
const base = self.registration.scope;
const urlOf = (path: string) => new URL(path, base).href;
let known: Build | null = null;

self.addEventListener("install", (event) => event.waitUntil(install()));
self.addEventListener("activate", (event) => event.waitUntil(activate()));
self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method === "GET" && request.url.startsWith(base)) {
    event.respondWith(answer(request));
  }
});

/** Keeps the page's own files; where the browser keeps nothing, there is no worker. */
async function install(): Promise<void> {
  const cache = await caches.open(SHELL_CACHE);
  const build = await readBuild(base);
  for (const file of build.shell) {
    const { content, type } = await loadFile(null, urlOf(file.path), file);
    await cache.put(urlOf(file.path), response(content, type));
  }
  const record = new TextEncoder().encode(JSON.stringify(build));
  await cache.put(urlOf(BUILD_PATH), response(record, "application/json"));
}

/** Removes what other builds left behind. */
async function activate(): Promise<void> {
  for (const name of await caches.keys()) {
    if (name.startsWith("dermfuse-shell-") && name !== SHELL_CACHE) await caches.delete(name);
  }
  const build = await keptBuild();
  if (build) {
    const wanted = new Set(build.heavy.map((file) => heavyUrl(base, file)));
    const heavy = await caches.open(HEAVY_CACHE);
    for (const { url } of await heavy.keys()) if (!wanted.has(url)) await heavy.delete(url);
  }
  await self.clients.claim();
}

/** Answers with what was kept if it still fits, and else as if there were no worker. */
async function answer(request: Request): Promise<Response> {
  try {
    const isPage = request.mode === "navigate" && [base, urlOf("index.html")].includes(request.url);
    const url = isPage ? urlOf("index.html") : request.url;
    const build = await keptBuild();
    if (build && url === urlOf(BUILD_PATH)) {
      return response(new TextEncoder().encode(JSON.stringify(build)), "application/json");
    }
    const file = build?.shell.find(({ path }: BuiltFile) => urlOf(path) === url);
    if (file) {
      const { content, type } = await loadFile(await openCache(SHELL_CACHE), url, file);
      return response(content, type);
    }
  } catch {
    // Damaged twice, or there is no connection: whoever asked hears it from the browser.
  }
  return fetch(request);
}

/** Returns what this worker was built with, as it was kept; null if that was lost. */
async function keptBuild(): Promise<Build | null> {
  if (known) return known;
  const cache = await openCache(SHELL_CACHE);
  const kept = await cache?.match(urlOf(BUILD_PATH));
  const build: Build | null = (await kept?.json().catch(() => null)) ?? null;
  if (build?.build === BUILD && (await buildId(build)) === BUILD) known = build;
  return known;
}

function response(content: Uint8Array, type: string): Response {
  const headers = { ...ISOLATION, "Content-Type": type, "Content-Length": String(content.length) };
  return new Response(content as BodyInit, { headers });
}
