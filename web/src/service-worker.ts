/**
 * Keeps the app for use without a connection, and asks for cross-origin isolation where the
 * server does not: threads need it.
 */
/// <reference lib="webworker" />
import type { Build } from "./release/records";
import { HEAVY_CACHE, heavyUrl } from "./worker/files";

declare const self: ServiceWorkerGlobalScope;

const BUILD = "__BUILD__"; // written by `dermfuse web build`: a new build is a new worker
const SHELL_CACHE = `dermfuse-shell-${BUILD}`;
const ISOLATION = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
};
const base = self.registration.scope;

self.addEventListener("install", (event) => event.waitUntil(install()));
self.addEventListener("activate", (event) => event.waitUntil(activate()));
self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method === "GET" && request.url.startsWith(base)) {
    event.respondWith(answer(request));
  }
});

async function install(): Promise<void> {
  const cache = await caches.open(SHELL_CACHE);
  const response = await fetch(new URL("build.json", base), { cache: "no-cache" });
  const build: Build = await response.clone().json();
  await cache.put(new URL("build.json", base), response);
  await cache.addAll(
    build.shell.map(({ path }) => new Request(new URL(path, base), { cache: "no-cache" })),
  );
}

/** Removes what other builds left behind. */
async function activate(): Promise<void> {
  for (const name of await caches.keys()) {
    if (name.startsWith("dermfuse-shell-") && name !== SHELL_CACHE) await caches.delete(name);
  }
  const build: Build = await (await caches.match(new URL("build.json", base)))!.json();
  const wanted = new Set(build.heavy.map((file) => heavyUrl(base, file)));
  const heavy = await caches.open(HEAVY_CACHE);
  for (const { url } of await heavy.keys()) if (!wanted.has(url)) await heavy.delete(url);
  await self.clients.claim();
}

async function answer(request: Request): Promise<Response> {
  const isPage = request.mode === "navigate" && [base, `${base}index.html`].includes(request.url);
  const kept = await caches.match(isPage ? new URL("index.html", base) : request);
  return kept ? isolated(kept) : fetch(request);
}

function isolated(response: Response): Response {
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(ISOLATION)) headers.set(name, value);
  return new Response(response.body, { status: response.status, headers });
}
