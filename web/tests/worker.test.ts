/** The worker answers every image, whatever went wrong before. */
import { beforeAll, expect, test, vi } from "vitest";
import type { Reply, Request } from "../src/worker/protocol";

const said: Reply[] = [];
let tell: (request: Request) => void = () => undefined;
let failures = 0;

vi.mock("../src/worker/files", () => ({
  readBuild: async () => ({ build: "", shell: [], heavy: [] }),
  fetchHeavy: () => new Map([["a.wasm", Promise.resolve(new Uint8Array(1))]]),
  fetchSmall: async () => new TextEncoder().encode("{}"),
}));
vi.mock("../src/release/reading", () => ({
  readRelease: () => ({ classes: { members: [] }, masks: { members: [] }, gate: null }),
  readCard: () => ({}),
  checkCards: () => undefined,
}));
vi.mock("../src/worker/networks", () => ({
  gluePath: () => "",
  prepareRuntime: () => undefined,
  loadNetwork: async () => ({}),
  askAll: async () => {
    failures += 1;
    throw new RangeError("no memory");
  },
}));
vi.mock("../src/worker/decode", () => ({
  decode: async () => ({ pixels: { width: 1, height: 1, channels: 4, data: new Uint8Array(4) } }),
}));

beforeAll(async () => {
  vi.stubGlobal("self", {
    addEventListener: (_: string, take: (event: { data: Request }) => void) => {
      tell = (data) => take({ data });
    },
    postMessage: (reply: Reply) => said.push(reply),
  });
  await import("../src/worker/worker");
});

test("an image is answered after a warm-up that failed", async () => {
  tell({ kind: "load", threads: 1, base: "https://host/" });
  tell({ kind: "warm" });
  tell({ kind: "analyse", id: 1, file: new Blob(), looks: 1 });
  await vi.waitFor(() => expect(said.at(-1)).toMatchObject({ kind: "refused", id: 1 }));
  expect(failures).toBe(2);
  expect(said.map(({ kind }) => kind)).toEqual(["ready", "refused"]);
  expect(said.at(-1)).toMatchObject({ message: expect.stringMatching(/no memory.*smaller image/) });
});
