/** The networks of a release, run by ONNX Runtime in WebAssembly. */
import * as ort from "onnxruntime-web/wasm";
import gluePath from "onnxruntime-web/ort-wasm-simd-threaded.mjs?url";
import wasmPath from "onnxruntime-web/ort-wasm-simd-threaded.wasm?url";
import type { Answers } from "../analysis/fusion";
import { averageLooks, averageMaps, type Looks, spreadLooks } from "../analysis/looks";
import type { Raster } from "../analysis/raster";
import { squeeze } from "../analysis/resample";
import type { Card } from "../release/records";

/** One network, ready to be asked. */
export interface Network {
  readonly card: Card;
  readonly session: ort.InferenceSession;
}

/** Prepares ONNX Runtime; once, before any network is loaded. */
export function prepareRuntime(threads: number, base: string, wasm: Uint8Array): void {
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = {
    mjs: new URL(gluePath, base).href,
    wasm: new URL(wasmPath, base).href,
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
 * @param batch - So many looks at once; more need more memory.
 */
export async function askAll(
  networks: readonly Network[],
  image: Raster,
  looks: Looks,
  batch: number,
  advance: Advance,
): Promise<Answers[]> {
  const spreads = new Map<number, Uint8Array>();
  const answers: Answers[] = [];
  for (const network of networks) {
    const { size } = network.card.input;
    const spread = spreads.get(size) ?? spreadLooks(squeeze(image, size).data, size, looks);
    spreads.set(size, spread);
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
  const outputs = Object.keys(card.outputs);
  const parts: ort.InferenceSession.ReturnType[] = [];
  for (let from = 0; from < looks; from += batch) {
    const count = Math.min(batch, looks - from);
    const squares = spread.subarray(from * size * size * 3, (from + count) * size * size * 3);
    const feed = { [name]: new ort.Tensor("uint8", squares, [count, size, size, 3]) };
    parts.push(await session.run(feed, outputs));
    await advance(count);
  }
  return Object.fromEntries(
    outputs.map((output) => [output, gather(output, parts.map((part) => part[output]), looks)]),
  );
}

/** Returns an output of all looks as the fusion takes it. */
function gather(output: string, parts: readonly ort.Tensor[], looks: Looks): Answers[string] {
  const shape = parts[0].dims.slice(1);
  const data = joined(parts.map((part) => part.data as Float32Array));
  if (output === "malignant") return { data, shape: [looks] };
  const isMap = shape.length > 1;
  return { data: isMap ? averageMaps(data, shape.at(-1)!, looks) : averageLooks(data, looks), shape };
}

function joined(parts: readonly Float32Array[]): Float32Array {
  if (parts.length === 1) return parts[0];
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
