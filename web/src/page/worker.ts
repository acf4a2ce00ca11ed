/** The worker's script: checked like every file before it runs. */
import type { Build, BuiltFile } from "../release/records";
import url from "../worker/worker.ts?worker&url";

const PATIENCE_MS = 60_000; // for each script: a dead connection tells nobody

/**
 * Returns the worker. Its script lies in the browser's cache then as it was built, from where the
 * browser takes it.
 */
export async function startWorker(base: string): Promise<Worker> {
  const script = new URL(url, base).href;
  const path = script.slice(base.length);
  let missing = "build.json";
  for (const cache of ["no-cache", "reload"] as const) {
    const build: Build | null = await fetch(new URL("build.json", base), { cache, signal: AbortSignal.timeout(PATIENCE_MS) })
      .then((response) => response.json())
      .catch(() => null);
    const file = build?.shell.find((each) => each.path === path);
    if (!file) continue;
    if (await arrives(script, file)) return new Worker(script, { type: "module" });
    missing = path;
  }
  throw new Error(
    `${missing} is not the file that this app was built with, or could not be loaded, though it was ` +
      "fetched twice. Reload the page to try again.",
  );
}

async function arrives(script: string, file: BuiltFile): Promise<boolean> {
  for (const cache of ["default", "reload"] as const) {
    try {
      const signal = AbortSignal.timeout(PATIENCE_MS);
      const response = await fetch(script, { integrity: integrityOf(file), cache, signal });
      await response.blob();
      if (response.ok) return true;
    } catch {
      // No connection, or another content: the browser does not say which.
    }
  }
  return false;
}

/** As in `worker/digests.ts`: what is shared with the service worker would be a chunk, which that cannot load. */
function integrityOf({ sha256 }: BuiltFile): string {
  const bytes = sha256.match(/../g)!.map((pair) => parseInt(pair, 16));
  return `sha256-${btoa(String.fromCharCode(...bytes))}`;
}
