/** The large files: fetched once with progress, checked, and kept for use offline. */
import type { Build, BuiltFile } from "../release/records";

/** The cache of large files; the service worker reads it. Their addresses name their content. */
export const HEAVY_CACHE = "dermfuse-heavy";

/** Returns the address of a large file below the app's own. */
export function heavyUrl(base: string, file: BuiltFile): string {
  return new URL(`${file.path}?sha256=${file.sha256}`, base).href;
}

/**
 * Returns the content of every large file by its path.
 *
 * @param advance - Is told how many bytes have come so far.
 */
export async function fetchHeavy(
  base: string,
  build: Build,
  advance: (loaded: number) => void,
): Promise<Map<string, Uint8Array>> {
  const cache = "caches" in self ? await caches.open(HEAVY_CACHE) : null;
  let loaded = 0;
  const contents = await Promise.all(
    build.heavy.map(async (file): Promise<[string, Uint8Array]> => {
      const url = heavyUrl(base, file);
      const kept = await cache?.match(url);
      const content = await readBody(kept ?? (await request(url, file)), file, (bytes) => {
        loaded += bytes;
        advance(loaded);
      });
      if (!kept) {
        await verify(content, file);
        await keep(cache, url, file, content);
      }
      return [file.path, content];
    }),
  );
  return new Map(contents);
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
  cache: Cache | null,
  url: string,
  file: BuiltFile,
  content: Uint8Array,
): Promise<void> {
  const type = file.path.endsWith(".wasm") ? "application/wasm" : "application/octet-stream";
  const headers = { "Content-Type": type, "Content-Length": String(content.length) };
  try {
    await cache?.put(url, new Response(content as BodyInit, { headers }));
  } catch {
    // No room to keep it: the app works, and will fetch it again.
  }
}

function damaged(file: BuiltFile): Error {
  return new Error(`${file.path} arrived damaged. Reload the page to fetch it again.`);
}
