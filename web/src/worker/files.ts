/**
 * The files of the build: each is checked against its SHA-256 whenever it is used, wherever it comes
 * from, and fetched again if it does not fit. Large ones are kept for use offline where the browser
 * lets them be kept.
 */
import type { Build, BuiltFile } from "../release/records";
import { buildId, canDigest, fits, integrityOf } from "./digests";

/** The cache of large files; the service worker tidies it. Their addresses name their content. */
export const HEAVY_CACHE = "dermfuse-heavy";
export const BUILD_PATH = "build.json";

const SIDE_BY_SIDE = 2; // the first files are then whole, and in use, while the last ones arrive
const PATIENCE_MS = 4000; // a storage that has not answered by then is taken for none

/** A file's content, and its type as the server told it. */
export interface Loaded {
  readonly content: Uint8Array;
  readonly type: string;
}

type Advance = (bytes: number) => void;

/** Returns the address of a large file below the app's own. */
export function heavyUrl(base: string, file: BuiltFile): string {
  return new URL(`${file.path}?sha256=${file.sha256}`, base).href;
}

/** Returns what the app consists of. */
export async function readBuild(base: string): Promise<Build> {
  let arrived = false;
  for (const cache of ["no-cache", "reload"] as const) {
    const response = await fetch(new URL(BUILD_PATH, base), { cache }).catch(() => null);
    const build: Build | null = (await response?.json().catch(() => null)) ?? null;
    if (build && (await buildId(build)) === build.build) return build;
    arrived ||= response?.ok ?? false;
  }
  throw arrived ? misfit(BUILD_PATH) : unreachable(BUILD_PATH, "there is no connection");
}

/** Returns the content of one of the build's small files. */
export async function fetchSmall(base: string, build: Build, path: string): Promise<Uint8Array> {
  const file = build.shell.find((each) => each.path === path);
  if (!file) throw new Error(`The build holds no ${path}. Build the app again.`);
  return (await loadFile(null, new URL(path, base).href, file)).content;
}

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
  const opening = openCache(HEAVY_CACHE);
  let loaded = 0;
  const advanceBy = (bytes: number) => advance((loaded += bytes));
  const contents: Promise<Uint8Array>[] = [];
  const settled: Promise<unknown>[] = [];
  for (const file of build.heavy) {
    const turn = settled.at(-SIDE_BY_SIDE) ?? Promise.resolve();
    const content = turn.then(async () => {
      const { content } = await loadFile(await opening, heavyUrl(base, file), file, advanceBy);
      return content;
    });
    contents.push(content);
    settled.push(content.catch(() => undefined)); // whoever waits for the content hears of it
  }
  return new Map(build.heavy.map(({ path }, i) => [path, contents[i]]));
}

/** Returns a cache, or null where the browser keeps nothing. */
export async function openCache(name: string): Promise<Cache | null> {
  return attempt(() => caches.open(name));
}

/**
 * Returns a file of the build as it was kept, else from the server, else from the server past every
 * cache on the way: the first that fits.
 *
 * @param cache - Where it may be kept.
 */
export async function loadFile(
  cache: Cache | null,
  url: string,
  file: BuiltFile,
  advance: Advance = () => undefined,
): Promise<Loaded> {
  const kept = cache && (await attempt(() => cache.match(url)));
  const known = kept && (await readChecked(kept, file, advance));
  if (known) return known;
  let arrived = false;
  for (const mode of ["default", "reload"] as const) {
    const response = await ask(url, file, mode);
    const found = response && (await readChecked(response, file, advance));
    if (found) {
      if (cache) void keep(cache, url, found);
      return found;
    }
    arrived ||= response !== null;
  }
  throw arrived ? misfit(file.path) : unreachable(file.path, "there is no connection");
}

/** Returns what the server answers; null where nothing arrives, or the browser refuses what does. */
async function ask(url: string, file: BuiltFile, cache: RequestCache): Promise<Response | null> {
  const integrity = canDigest() ? "" : integrityOf(file);
  const response = await fetch(url, { cache, integrity }).catch(() => null);
  if (response && !response.ok) {
    throw unreachable(file.path, `the server answered ${response.status}`);
  }
  return response;
}

/** Returns what a response holds, or null if it is not the file. */
async function readChecked(
  response: Response,
  file: BuiltFile,
  advance: Advance,
): Promise<Loaded | null> {
  const content = new Uint8Array(file.bytes);
  let at = 0;
  try {
    const reader = response.body!.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      content.set(value.subarray(0, file.bytes - at), at);
      at += value.length;
      advance(value.length);
      if (at > file.bytes) {
        void reader.cancel();
        break;
      }
    }
    if (at === file.bytes && (await fits(content, file))) {
      return { content, type: response.headers.get("Content-Type") ?? "" };
    }
  } catch {
    // The connection broke, or the storage did: as good as another content.
  }
  advance(-at);
  return null;
}

async function keep(cache: Cache, url: string, { content, type }: Loaded): Promise<void> {
  const headers = { "Content-Type": type, "Content-Length": String(content.length) };
  await attempt(() => cache.put(url, new Response(content as BodyInit, { headers })));
}

/** Returns what the browser's storage answers; null where it refuses, or does not answer. */
async function attempt<T>(act: () => Promise<T>): Promise<T | null> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  try {
    const late = new Promise<null>((resolve) => {
      timer = setTimeout(resolve, PATIENCE_MS, null);
    });
    return (await Promise.race([act(), late])) ?? null;
  } catch {
    return null; // no room, no permission, or no such thing
  } finally {
    clearTimeout(timer);
  }
}

function misfit(path: string): Error {
  return new Error(
    `${path} is not the file that this app was built with, though it was fetched twice. ` +
      "Close all tabs of the app and open it again, or tell whoever hosts it.",
  );
}

function unreachable(path: string, found: string): Error {
  const damage = canDigest() ? "" : ", or it arrived damaged";
  return new Error(`${path} could not be loaded: ${found}${damage}. Reload the page to try again.`);
}
