/** The large files: fetched once with progress, checked, and kept for use offline. */
import type { Build, BuiltFile } from "../release/records";

/** The cache of large files; the service worker reads it. Their addresses name their content. */
export const HEAVY_CACHE = "dermfuse-heavy";

/** Returns the address of a large file below the app's own. */
export function heavyUrl(base: string, file: BuiltFile): string {
  return new URL(`${file.path}?sha256=${file.sha256}`, base).href;
}

const SIDE_BY_SIDE = 2; // the first files are then whole, and in use, while the last ones arrive

/**
 * Asks for the large files in the order of the build, and returns the content of each by its path:
 * whoever needs one waits for that one alone.
 *
 * @param advance - Is told how many bytes have come so far.
 */
export function fetchHeavy(
  base: string,
  build: Build,
  advance: (loaded: number) => void,
): Map<string, Promise<Uint8Array>> {
  const cache = "caches" in self ? caches.open(HEAVY_CACHE) : null;
  let loaded = 0;
  const advanceBy = (bytes: number) => advance((loaded += bytes));
  const contents: Promise<Uint8Array>[] = [];
  const settled: Promise<unknown>[] = [];
  for (const file of build.heavy) {
    const turn = settled.at(-SIDE_BY_SIDE) ?? Promise.resolve();
    const content = turn.then(() => fetchFile(cache, heavyUrl(base, file), file, advanceBy));
    contents.push(content);
    settled.push(content.catch(() => undefined)); // whoever waits for the content hears of it
  }
  return new Map(build.heavy.map(({ path }, i) => [path, contents[i]]));
}

async function fetchFile(
  opening: Promise<Cache> | null,
  url: string,
  file: BuiltFile,
  advance: (bytes: number) => void,
): Promise<Uint8Array> {
  const cache = await opening;
  const known = await cache?.match(url);
  const content = await readBody(known ?? (await request(url, file)), file, advance);
  if (!known) {
    await verify(content, file);
    if (cache) void keep(cache, url, file, content);
  }
  return content;
}

async function request(url: string, file: BuiltFile): Promise<Response> {
  const response = await fetch(url).catch(() => null);
  if (!response?.ok) {
    const found = response ? `the server answered ${response.status}` : "there is no connection";
    throw new Error(`${file.path} could not be loaded: ${found}. Reload the page to try again.`);
  }
  return response;
}

async function readBody(
  response: Response,
  file: BuiltFile,
  advance: (bytes: number) => void,
): Promise<Uint8Array> {
  const content = new Uint8Array(file.bytes);
  const reader = response.body!.getReader();
  let at = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (at + value.length > content.length) throw damaged(file);
    content.set(value, at);
    at += value.length;
    advance(value.length);
  }
  if (at !== content.length) throw damaged(file);
  return content;
}

/** Refuses content that is not the build's own. Outside of HTTPS browsers offer no digest. */
async function verify(content: Uint8Array, file: BuiltFile): Promise<void> {
  if (!self.isSecureContext) return;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content as BufferSource));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== file.sha256) throw damaged(file);
}

async function keep(
  cache: Cache,
  url: string,
  file: BuiltFile,
  content: Uint8Array,
): Promise<void> {
  const type = file.path.endsWith(".wasm") ? "application/wasm" : "application/octet-stream";
  const headers = { "Content-Type": type, "Content-Length": String(content.length) };
  try {
    await cache.put(url, new Response(content as BodyInit, { headers }));
  } catch {
    // No room to keep it: the app works, and will fetch it again.
  }
}

function damaged(file: BuiltFile): Error {
  return new Error(`${file.path} arrived damaged. Reload the page to fetch it again.`);
}
