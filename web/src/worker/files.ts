/**
 * The files of the build: each is checked against its SHA-256 whenever it is used, wherever it comes
 * from, and fetched again if it does not fit. Large ones are kept for use offline where the browser
 * lets them be kept.
 */
import type { Build, BuiltFile } from "../release/records";
import { buildId, canDigest, fits, integrityOf } from "./digests";

export const BUILD_PATH = "build.json";

const SIDE_BY_SIDE = 2; // the first files are then whole, and in use, while the last ones arrive
const PATIENCE_MS = 4000; // a storage that has not answered by then is taken for none
const STALL_MS = 30_000; // a connection on which nothing comes for so long is taken for none
const WHOLE_MS = 600_000; // where the browser hands out nothing before it has checked all

/** A file that the server no longer has as it was built: another build may be there. */
export class Changed extends Error {}

/** A file's content, and its type as the server states it. */
export interface Loaded {
  readonly content: Uint8Array;
  readonly type: string;
}

type Advance = (bytes: number) => void;

/**
 * Returns how the names of an app's caches begin: other apps on the same origin have other folders.
 * What follows is a build's name, or `heavy`.
 */
export function cachePrefix(base: string): string {
  return `dermfuse ${new URL(base).pathname} `;
}

/** Returns the cache of large files; the service worker tidies it. Their addresses name their content. */
export function heavyCache(base: string): string {
  return `${cachePrefix(base)}heavy`;
}

/** Returns the address of a large file below the app's own. */
export function heavyUrl(base: string, file: BuiltFile): string {
  return new URL(`${file.path}?sha256=${file.sha256}`, base).href;
}

/** Returns what the app consists of. */
export async function readBuild(base: string): Promise<Build> {
  let arrived = false;
  for (const cache of ["no-cache", "reload"] as const) {
    const response = await inTime(fetch(new URL(BUILD_PATH, base), { cache })).catch(() => null);
    const build: Build | null = (response && (await inTime(response.json()).catch(() => null))) ?? null;
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
 * @param advance - Called with how many bytes have come so far.
 */
export function fetchHeavy(
  base: string,
  build: Build,
  advance: (loaded: number) => void,
): Map<string, Promise<Uint8Array>> {
  const opening = openCache(heavyCache(base));
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
  const known = kept && (await readChecked(kept, file, advance).catch(() => null));
  if (known) return known;
  let lack = "there is no connection";
  let isOther = false;
  for (const mode of ["default", "reload"] as const) {
    const response = await ask(url, file, mode);
    if (!response) continue;
    try {
      const found = await readChecked(response, file, advance);
      if (found) {
        if (cache) void keep(cache, url, found);
        return found;
      }
      isOther = true;
    } catch {
      lack = "the connection broke off";
    }
  }
  throw isOther ? misfit(file.path) : unreachable(file.path, lack);
}

/** Returns what the server answers; null where nothing arrives, or the browser refuses what does. */
async function ask(url: string, file: BuiltFile, cache: RequestCache): Promise<Response | null> {
  const integrity = canDigest() ? "" : integrityOf(file);
  const wait = integrity ? WHOLE_MS : STALL_MS;
  const response = await inTime(fetch(url, { cache, integrity }), wait).catch(() => null);
  if (response && !response.ok) {
    const refused = unreachable(file.path, `the server answered ${response.status}`);
    throw [404, 410].includes(response.status) ? new Changed(refused.message) : refused;
  }
  return response;
}

/** Returns what a response holds, or null if it is not the file; refuses where it does not come whole. */
async function readChecked(
  response: Response,
  file: BuiltFile,
  advance: Advance,
): Promise<Loaded | null> {
  const content = new Uint8Array(file.bytes);
  const reader = response.body!.getReader();
  let at = 0;
  let fit = false;
  try {
    while (at <= file.bytes) {
      const { done, value } = await inTime(reader.read());
      if (done) break;
      content.set(value.subarray(0, file.bytes - at), at);
      at += value.length;
      advance(value.length);
    }
    fit = at === file.bytes && (await fits(content, file));
  } finally {
    if (!fit) {
      advance(-at);
      void reader.cancel().catch(() => undefined); // what is left of it
    }
  }
  return fit ? { content, type: response.headers.get("Content-Type") ?? "" } : null;
}

/** Keeps a file where there is room. */
export async function keep(cache: Cache, url: string, { content, type }: Loaded): Promise<void> {
  const headers = { "Content-Type": type, "Content-Length": String(content.length) };
  await attempt(() => cache.put(url, new Response(content as BodyInit, { headers })));
}

/** Returns what the browser's storage answers; null where it refuses, or does not answer. */
async function attempt<T>(act: () => Promise<T>): Promise<T | null> {
  try {
    return (await inTime(act(), PATIENCE_MS)) ?? null;
  } catch {
    return null; // no room, no permission, or no such thing
  }
}

/** Returns what comes in time, and refuses where nothing does: a dead connection tells nobody. */
async function inTime<T>(coming: Promise<T>, milliseconds = STALL_MS): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, refuse) => {
    timer = setTimeout(() => refuse(new Error("Nothing came.")), milliseconds);
  });
  try {
    return await Promise.race([coming, late]);
  } finally {
    clearTimeout(timer);
  }
}

function misfit(path: string): Error {
  return new Changed(
    `${path} is not the file that this app was built with, though it was fetched twice. ` +
      "Reload the page, or tell whoever hosts it.",
  );
}

function unreachable(path: string, found: string): Error {
  const damage = canDigest() ? "" : ", or it arrived damaged";
  return new Error(`${path} could not be loaded: ${found}${damage}. Reload the page to try again.`);
}
