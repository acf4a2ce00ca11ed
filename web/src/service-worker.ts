/**
 * Keeps the app for use without a connection, and asks for cross-origin isolation where the
 * server does not: threads need it.
 */
/// <reference lib="webworker" />
import type { Build, BuiltFile } from "./release/records";
import { buildId } from "./worker/digests";
import {
  BUILD_PATH, cachePrefix, Changed, heavyCache, heavyUrl, keep, loadFile, openCache, readBuild,
} from "./worker/files";

declare const self: ServiceWorkerGlobalScope;

const BUILD = "__BUILD__"; // written by `dermfuse web build`: a new build is a new worker
const ISOLATION = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
};
const base = self.registration.scope;
const SHELL_CACHE = cachePrefix(base) + BUILD;
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
  if (self.registration.active) await keepHeavy(build);
}

/** Keeps what an update brings: until all of it is here, the build before it is used. */
async function keepHeavy(build: Build): Promise<void> {
  const cache = await openCache(heavyCache(base));
  if (!cache) return;
  for (const file of build.heavy) {
    const url = heavyUrl(base, file);
    if (!(await cache.match(url))) await keep(cache, url, await loadFile(null, url, file));
  }
}

/** Removes what other builds in this folder left behind; other folders have apps of their own. */
async function activate(): Promise<void> {
  const ours = [SHELL_CACHE, heavyCache(base)];
  for (const name of await caches.keys()) {
    if (name.startsWith(cachePrefix(base)) && !ours.includes(name)) await caches.delete(name);
  }
  const build = await keptBuild();
  if (build) {
    const wanted = new Set(build.heavy.map((file) => heavyUrl(base, file)));
    const heavy = await caches.open(heavyCache(base));
    for (const { url } of await heavy.keys()) if (!wanted.has(url)) await heavy.delete(url);
  }
  await self.clients.claim();
}

/** Answers with what was kept if it still fits, and else as if there were no worker; a query means nothing. */
async function answer(request: Request): Promise<Response> {
  try {
    const [address] = request.url.split(/[?#]/);
    const isPage = request.mode === "navigate" && address === base;
    const url = isPage ? urlOf("index.html") : address;
    const build = await keptBuild();
    if (build && url === urlOf(BUILD_PATH)) {
      return response(new TextEncoder().encode(JSON.stringify(build)), "application/json");
    }
    const file = build?.shell.find(({ path }: BuiltFile) => urlOf(path) === url);
    if (file) {
      const { content, type } = await loadFile(await openCache(SHELL_CACHE), url, file);
      return response(content, type);
    }
  } catch (error) {
    // Whoever asked hears it from the browser. Where the server has another build, that is next.
    if (error instanceof Changed) await forget();
  }
  return fetch(request);
}

/** Takes nothing from what was kept any more: a file of it is lost, and gone from the server too. */
async function forget(): Promise<void> {
  known = null;
  await caches.delete(SHELL_CACHE);
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
