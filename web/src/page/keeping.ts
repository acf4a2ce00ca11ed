/** What the page asks of a browser that may keep nothing, and refuse even the question. */

/** Returns the browser's service workers; null where it offers none, or forbids them. */
export function serviceWorkers(): ServiceWorkerContainer | null {
  try {
    return navigator.serviceWorker ?? null;
  } catch {
    return null;
  }
}

/** Keeps the app for use without a connection, where that is allowed. */
export async function keepApp(): Promise<void> {
  await serviceWorkers()?.register("./sw.js").catch(() => undefined);
}
