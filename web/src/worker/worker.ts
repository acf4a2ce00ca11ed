/** The worker: loads a release, then analyses one image after the other. */
import { analyse, type Analysis } from "../analysis/analysis";
import { type Dermoscopy, unpackDermoscopy } from "../analysis/gate";
import type { Looks } from "../analysis/looks";
import type { Raster } from "../analysis/raster";
import type { Card, Release } from "../release/records";
import { checkCards, readCard, readRelease } from "../release/reading";
import { decode } from "./decode";
import { fetchHeavy, fetchSmall, readBuild } from "./files";
import { type Advance, askAll, gluePath, loadNetwork, type Network, prepareRuntime } from "./networks";
import type { Milliseconds, Reply, Request } from "./protocol";
import { Refusal } from "./sniff";

interface Loaded {
  readonly release: Release;
  readonly classes: readonly Network[];
  readonly masks: readonly Network[];
  readonly dermoscopy: Dermoscopy | null;
}

/** Why an analysis ends early: another image, or another number of looks, was asked for. */
class Superseded extends Error {}

/**
 * How many pixels go through a network at once: for the networks of the package all eight looks,
 * which takes less time than one by one; of larger U-Nets, whose maps are wide, fewer.
 */
const PIXELS = { classes: 8 * 320 ** 2, masks: 8 * 128 ** 2 };

let loaded: Loaded | null = null;
let queue = Promise.resolve();
let newest = 0; // of the analyses asked for

self.addEventListener("message", (event: MessageEvent<Request>) => {
  if (event.data.kind === "analyse") newest = event.data.id;
  queue = queue.then(() => answer(event.data)).catch(() => undefined); // a warm-up: the first image tells
});

async function answer(request: Request): Promise<void> {
  if (request.kind === "load") await start(request.threads, request.base);
  else if (!loaded) return;
  else if (request.kind === "warm") await warm(loaded);
  else if (request.id === newest) await analyseFile(loaded, request);
}

function reply(message: Reply, transfer: Transferable[] = []): void {
  self.postMessage(message, { transfer });
}

async function start(threads: number, base: string): Promise<void> {
  const began = performance.now();
  try {
    loaded = await load(threads, base);
    const milliseconds = performance.now() - began;
    reply({ kind: "ready", release: loaded.release, milliseconds });
  } catch (error) {
    reply({ kind: "failed", message: error instanceof Error ? error.message : String(error) });
  }
}

async function load(threads: number, base: string): Promise<Loaded> {
  const build = await readBuild(base);
  const total = build.heavy.reduce((sum, file) => sum + file.bytes, 0);
  const contents = fetchHeavy(base, build, (bytes) => {
    reply({ kind: "progress", loaded: bytes, total });
  });
  const json = async (path: string) => parse(await fetchSmall(base, build, path));
  const release = readRelease(await json("release/release.json"));
  const { members } = release.classes;
  const cards: Card[] = await Promise.all(
    [...members, ...release.masks.members].map(async ({ name }) =>
      readCard(await json(`release/${name}.json`), `${name}.json`),
    ),
  );
  checkCards(release, cards);
  const wasm = [...contents].find(([path]) => path.endsWith(".wasm"));
  if (!wasm) throw new Error("The build holds no WebAssembly. Build the app again.");
  await fetchSmall(base, build, gluePath(base)); // the browser then has it as it was built
  prepareRuntime(threads, base, await wasm[1]);
  const networks: Network[] = [];
  for (const card of cards) {
    networks.push(await loadNetwork(card, await heavy(contents, `release/${card.file}`)));
  }
  const gate = release.gate && (await heavy(contents, "release/dermoscopy.json"));
  return {
    release,
    classes: networks.slice(0, members.length),
    masks: networks.slice(members.length),
    dermoscopy: gate ? unpackDermoscopy(parse(gate)) : null,
  };
}

async function heavy(
  contents: ReadonlyMap<string, Promise<Uint8Array>>,
  path: string,
): Promise<Uint8Array> {
  const content = contents.get(path);
  if (!content) throw new Error(`The build holds no ${path}. Build the app again.`);
  return content;
}

function parse(content: Uint8Array): unknown {
  return JSON.parse(new TextDecoder().decode(content));
}

/** Analyses grey once, so that the first image does not wait for memory and compilation. */
async function warm(now: Loaded): Promise<void> {
  const [width, height] = [640, 480];
  const data = new Uint8Array(width * height * 4).fill(128);
  await analysePixels(now, { width, height, channels: 4, data }, 1, async () => undefined);
}

type Asked = Extract<Request, { kind: "analyse" }>;

async function analyseFile(now: Loaded, { id, file, looks }: Asked): Promise<void> {
  const all = looks * (now.classes.length + now.masks.length);
  let done = 0;
  const advance = async (count: number) => {
    done += count;
    reply({ kind: "looking", id, done, all });
    await others();
    if (id !== newest) throw new Superseded();
  };
  try {
    const began = performance.now();
    const { pixels, picture } = await decode(file);
    const decoded = performance.now();
    const [analysis, parts] = await analysePixels(now, pixels, looks, advance);
    const milliseconds = {
      ...parts,
      decode: decoded - began,
      total: performance.now() - began,
    };
    reply({ kind: "analysed", id, analysis, picture, milliseconds }, [
      picture,
      analysis.mask.data.buffer as ArrayBuffer,
      analysis.activation.data.buffer as ArrayBuffer,
    ]);
  } catch (error) {
    if (error instanceof Superseded) return;
    reply({ kind: "refused", id, message: sentence(error) });
  }
}

/** Lets messages in that came meanwhile. */
function others(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

async function analysePixels(
  { release, classes, masks, dermoscopy }: Loaded,
  pixels: Raster,
  looks: Looks,
  advance: Advance,
): Promise<[Analysis, Pick<Milliseconds, "classes" | "masks" | "rest">]> {
  const began = performance.now();
  const classAnswers = await askAll(classes, pixels, looks, PIXELS.classes, advance);
  const scored = performance.now();
  const maskAnswers = await askAll(masks, pixels, looks, PIXELS.masks, advance);
  const outlined = performance.now();
  const analysis = analyse(
    pixels,
    [...classAnswers, ...maskAnswers],
    looks,
    release,
    dermoscopy,
  );
  return [
    analysis,
    { classes: scored - began, masks: outlined - scored, rest: performance.now() - outlined },
  ];
}

function sentence(error: unknown): string {
  if (error instanceof Refusal) return error.message;
  const found = error instanceof Error ? error.message : String(error);
  return `The analysis stopped (${found}). Try a smaller image, or reload the page.`;
}
