/** Files are taken from where they fit: the cache, the server, the server past every cache. */
import { createHash } from "node:crypto";
import { beforeEach, expect, test, vi } from "vitest";
import { buildId, integrityOf } from "../src/worker/digests";
import { cachePrefix, Changed, fetchHeavy, heavyCache, loadFile, openCache, readBuild } from "../src/worker/files";

const base = "https://host/app/";
const content = new TextEncoder().encode("a network");
const sha256 = createHash("sha256").update(content).digest("hex");
const file = { path: "release/a.onnx", bytes: content.length, sha256 };
const url = `${base}${file.path}`;
const good = () => new Response(content);
const bad = () => new Response(new TextEncoder().encode("a netwerk"));
const short = () => new Response(content.subarray(1));
const long = () => new Response(new Uint8Array(99));

let answers: (() => Response)[] = []; // of the server, in turn; then there is no connection
let modes: (string | undefined)[] = [];

beforeEach(() => {
  modes = [];
  vi.unstubAllGlobals();
  vi.stubGlobal("self", { isSecureContext: true });
  vi.stubGlobal("fetch", async (_: string, { cache }: RequestInit) => {
    modes.push(cache);
    const next = answers.shift();
    if (!next) throw new TypeError("Failed to fetch");
    return next();
  });
});

function cacheOf(kept?: () => Response) {
  const put = vi.fn(async () => undefined);
  return { cache: { match: async () => kept?.(), put } as unknown as Cache, put };
}

test("what was kept and fits is not asked for again", async () => {
  const { cache } = cacheOf(good);
  expect((await loadFile(cache, url, file)).content).toEqual(content);
  expect(modes).toEqual([]);
});

test.each([["other bytes", bad], ["too few", short], ["too many", long]])(
  "what was kept with %s is fetched again, and kept",
  async (_, kept) => {
    const { cache, put } = cacheOf(kept);
    answers = [good];
    let loaded = 0;
    const { content: found } = await loadFile(cache, url, file, (bytes) => (loaded += bytes));
    expect(found).toEqual(content);
    expect([modes, loaded, put.mock.calls.length]).toEqual([["default"], content.length, 1]);
  },
);

test("what the server sends damaged once is asked for past every cache", async () => {
  answers = [bad, good];
  expect((await loadFile(null, url, file)).content).toEqual(content);
  expect(modes).toEqual(["default", "reload"]);
});

test("what arrives damaged twice is named", async () => {
  answers = [bad, short, good];
  await expect(loadFile(null, url, file)).rejects.toThrow(/^release\/a\.onnx is not the file/);
});

test("what does not arrive is named", async () => {
  answers = [];
  await expect(loadFile(null, url, file)).rejects.toThrow(/a\.onnx could not be loaded: there is no/);
  answers = [() => new Response("", { status: 503 })];
  await expect(loadFile(null, url, file)).rejects.toThrow(/the server answered 503/);
});

test("a connection on which nothing comes is none", async () => {
  vi.useFakeTimers();
  vi.stubGlobal("fetch", () => new Promise(() => undefined));
  const silent = expect(loadFile(null, url, file)).rejects.toThrow(/there is no connection/);
  const build = expect(readBuild(base)).rejects.toThrow(/^build\.json could not be loaded/);
  await vi.advanceTimersByTimeAsync(61_000);
  await Promise.all([silent, build]);
  vi.useRealTimers();
});

test("what stops in the middle is asked for again, and its bytes are counted once", async () => {
  vi.useFakeTimers();
  const first = content.subarray(0, 3);
  let cancelled = 0;
  const stalled = () =>
    new Response(
      new ReadableStream({
        start: (controller) => controller.enqueue(first),
        cancel: () => void cancelled++,
      }),
    );
  let loaded = 0;
  answers = [stalled, good];
  const loading = loadFile(null, url, file, (bytes) => (loaded += bytes));
  await vi.advanceTimersByTimeAsync(31_000);
  expect((await loading).content).toEqual(content);
  expect([modes, loaded, cancelled]).toEqual([["default", "reload"], content.length, 1]);
  answers = [stalled, stalled];
  const never = expect(loadFile(null, url, file)).rejects.toThrow(/a\.onnx could not be loaded: .* broke off/);
  await vi.advanceTimersByTimeAsync(61_000);
  await never;
  vi.useRealTimers();
});

test("a file that the server has no more, or otherwise, tells that the build may have changed", async () => {
  answers = [() => new Response("", { status: 404 })];
  await expect(loadFile(null, url, file)).rejects.toThrow(Changed);
  answers = [bad, bad];
  await expect(loadFile(null, url, file)).rejects.toThrow(Changed);
  answers = [() => new Response("", { status: 503 })];
  await expect(loadFile(null, url, file)).rejects.not.toThrow(Changed);
  answers = [];
  await expect(loadFile(null, url, file)).rejects.not.toThrow(Changed);
});

test("caches are named by the app's folder", () => {
  expect(cachePrefix("https://host/")).toBe("dermfuse / ");
  expect(heavyCache(base)).toBe("dermfuse /app/ heavy");
  expect(heavyCache("https://host/app/second/").startsWith(cachePrefix(base))).toBe(false);
});

test("a storage that is missing, refuses or does not answer is none", async () => {
  expect(await openCache("any")).toBeNull(); // Node.js has no caches
  vi.stubGlobal("caches", { open: () => Promise.reject(new DOMException("no", "SecurityError")) });
  expect(await openCache("any")).toBeNull();
  vi.useFakeTimers();
  vi.stubGlobal("caches", { open: () => new Promise(() => undefined) });
  const opening = openCache("any");
  await vi.advanceTimersByTimeAsync(5000);
  expect(await opening).toBeNull();
  vi.useRealTimers();
});

test("a cache that refuses what it is asked stops nothing", async () => {
  const refuse = () => Promise.reject(new DOMException("full", "QuotaExceededError"));
  answers = [good];
  const cache = { match: refuse, put: refuse } as unknown as Cache;
  expect((await loadFile(cache, url, file)).content).toEqual(content);
});

test("large files come without any storage, and their bytes are counted once", async () => {
  answers = [bad, good];
  const build = { build: "", shell: [], heavy: [file] };
  let loaded = 0;
  const contents = fetchHeavy(base, build, (bytes) => (loaded = bytes));
  expect(await contents.get(file.path)).toEqual(content);
  expect(loaded).toBe(content.length);
});

test("a build is known by its files", async () => {
  const lines = `${sha256} ${file.bytes} ${file.path}\n`;
  const build = createHash("sha256").update(lines).digest("hex").slice(0, 16);
  const record = { build, shell: [], heavy: [file] };
  expect(await buildId(record)).toBe(build);
  const other = { ...record, heavy: [{ ...file, bytes: 1 }] };
  answers = [() => Response.json(other), () => new Response("{"), () => Response.json(record)];
  await expect(readBuild(base)).rejects.toThrow(/^build\.json is not the file/);
  answers = [() => new Response("{"), () => Response.json(record)];
  expect(await readBuild(base)).toEqual(record);
});

test("outside of HTTPS the browser checks what it fetches", async () => {
  vi.stubGlobal("self", { isSecureContext: false });
  const expected = createHash("sha256").update(content).digest("base64");
  expect(integrityOf(file)).toBe(`sha256-${expected}`);
  const fetched = vi.fn(async () => good());
  vi.stubGlobal("fetch", fetched);
  await loadFile(null, url, file);
  expect(fetched).toHaveBeenCalledWith(url, { cache: "default", integrity: `sha256-${expected}` });
});
