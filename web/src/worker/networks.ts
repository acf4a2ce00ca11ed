/** The networks of a release, run by ONNX Runtime in WebAssembly. */
import * as ort from "onnxruntime-web/wasm";
import gluePath from "onnxruntime-web/ort-wasm-simd-threaded.mjs?url";
import wasmPath from "onnxruntime-web/ort-wasm-simd-threaded.wasm?url";
import type { Answers } from "../analysis/fusion";
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

/** Returns what each network says about an image; those of one size share the squeezed image. */
export async function askAll(networks: readonly Network[], image: Raster): Promise<Answers[]> {
  const squares = new Map<number, Uint8Array>();
  const answers: Answers[] = [];
  for (const { card, session } of networks) {
    const { name, size } = card.input;
    const square = squares.get(size) ?? new Uint8Array(squeeze(image, size).data);
    squares.set(size, square);
    const outputs = Object.keys(card.outputs);
    const feed = { [name]: new ort.Tensor("uint8", square, [1, size, size, 3]) };
    const found = await session.run(feed, outputs);
    answers.push(
      Object.fromEntries(
        outputs.map((output) => {
          const { data, dims } = found[output];
          return [output, { data: data as Float32Array, shape: dims.slice(1) }];
        }),
      ),
    );
  }
  return answers;
}
