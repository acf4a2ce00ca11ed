/** The networks of a release, run by ONNX Runtime in WebAssembly. */
import * as ort from "onnxruntime-web/wasm";
import glueUrl from "onnxruntime-web/ort-wasm-simd-threaded.mjs?url";
import wasmUrl from "onnxruntime-web/ort-wasm-simd-threaded.wasm?url";
import { checkAnswer } from "../analysis/answers";
import type { Answers } from "../analysis/fusion";
import { type Answer, gatherLooks, type Looks, spreadLooks } from "../analysis/looks";
import type { Raster } from "../analysis/raster";
import { squeeze } from "../analysis/resample";
import type { Card } from "../release/records";

const START_MS = 60_000; // for ONNX Runtime's threads: where their script does not come, nobody tells

/** One network, ready to be asked. */
export interface Network {
  readonly card: Card;
  readonly session: ort.InferenceSession;
}

/** Returns the path of ONNX Runtime's script below the app's own address. */
export function gluePath(base: string): string {
  return new URL(glueUrl, base).href.slice(base.length);
}

/** Prepares ONNX Runtime; once, before any network is loaded. */
export function prepareRuntime(threads: number, base: string, wasm: Uint8Array): void {
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.initTimeout = START_MS;
  ort.env.wasm.wasmPaths = {
    mjs: new URL(glueUrl, base).href,
    wasm: new URL(wasmUrl, base).href,
  };
  ort.env.wasm.wasmBinary = wasm.buffer as ArrayBuffer;
  ort.env.logLevel = "error";
}

/** Returns a network from its card and the content of its file. */
export async function loadNetwork(card: Card, content: Uint8Array): Promise<Network> {
  const session = await ort.InferenceSession.create(content, {
    executionProviders: ["wasm"],
    graphOptimizationLevel: "all",
    extra: {
      session: {
        intra_op: { allow_spinning: "0" }, // threads that wait leave their core to others
      },
    },
  });
  return { card, session };
}

/** Hears how many looks are done, and may stop the rest by refusing. */
export type Advance = (looks: number) => Promise<void>;

/**
 * Returns what each network says about an image; those of one size share the squeezed image.
 *
 * @param pixels - So many of all looks go through a network at once; more need more memory.
 */
export async function askAll(
  networks: readonly Network[],
  image: Raster,
  looks: Looks,
  pixels: number,
  advance: Advance,
): Promise<Answers[]> {
  const spreads = new Map<number, Uint8Array>();
  const answers: Answers[] = [];
  for (const network of networks) {
    const { size } = network.card.input;
    const spread = spreads.get(size) ?? spreadLooks(squeeze(image, size).data, size, looks);
    spreads.set(size, spread);
    const batch = Math.max(1, Math.floor(pixels / size ** 2));
    answers.push(await ask(network, spread, looks, batch, advance));
  }
  return answers;
}

async function ask(
  { card, session }: Network,
  spread: Uint8Array,
  looks: Looks,
  batch: number,
  advance: Advance,
): Promise<Answers> {
  const { name, size } = card.input;
  const { file } = card;
  const outputs = Object.keys(card.outputs);
  const parts: ort.InferenceSession.ReturnType[] = [];
  for (let from = 0; from < looks; from += batch) {
    const count = Math.min(batch, looks - from);
    const squares = spread.subarray(from * size * size * 3, (from + count) * size * size * 3);
    const feed = { [name]: new ort.Tensor("uint8", squares, [count, size, size, 3]) };
    const found = await session.run(feed, outputs);
    for (const output of outputs) checkAnswer(file, output, found[output] as Answer, count);
    parts.push(found);
    await advance(count);
  }
  return Object.fromEntries(
    outputs.map((output) => {
      const found = parts.map((part) => part[output] as Answer);
      return [output, gatherLooks(found, looks, { apart: output === "malignant" })];
    }),
  );
}
