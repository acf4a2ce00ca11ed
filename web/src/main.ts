/** The page: takes images, lets the worker analyse them, and shows what it found. */
import type { Looks } from "./analysis/looks";
import { byId, make } from "./page/elements";
import { listen } from "./page/intake";
import { keepApp } from "./page/keeping";
import { looksField } from "./page/looks";
import { resultCards, spoken, warningCard } from "./page/result";
import { Viewer } from "./page/viewer";
import { megabytes } from "./page/words";
import { openForPrint, sheetLine } from "./page/print";
import { startWorker } from "./page/worker";
import type { Release } from "./release/records";
import type { Reply, Request } from "./worker/protocol";

const MOST_THREADS = 4;
const TICK_MS = 10_000; // counted, so that a machine's sleep is no silence
const MOST_TICKS = 18; // three minutes without a message: the worker is gone, though nobody says so
const threads = self.crossOriginIsolated
  ? Math.min(MOST_THREADS, navigator.hardwareConcurrency || 1)
  : 1;
const base = new URL("./", document.baseURI).href;
const panel = byId("result");
const viewerPlace = byId("viewer");
const working = startWorker(base);

let release: Release | null = null;
let looks: Looks = 1; // of the release, then as chosen
let field: HTMLElement = make("div"); // in which they are chosen
let waiting: File | null = null; // given before the networks were loaded
let current: File | null = null;
let silent = -1; // ticks since the worker, which owes an answer, spoke; below 0 where it owes none
let turn = 0; // of the image that was given last; answers of earlier ones are left aside

working.then((worker) => {
  worker.addEventListener("message", (event: MessageEvent<Reply>) => take(event.data));
  for (const end of ["error", "messageerror"]) {
    worker.addEventListener(end, () => stop("The app's worker stopped. Reload the page."));
  }
}, (error: Error) => fail(error.message));
setInterval(() => {
  if (silent >= 0 && !isBroken() && ++silent === MOST_TICKS) {
    stop("Nothing came for three minutes. Reload the page, or try a smaller image.");
  }
}, TICK_MS);
if (location.search) history.replaceState(null, "", base); // what guard.js asked for
document.body.dataset["threads"] = String(threads);
ask({ kind: "load", threads, base });
listen(analyse);
byId("another").addEventListener("click", () => byId<HTMLInputElement>("file").click());
void keepApp();
openForPrint(panel);

function ask(request: Request): void {
  if (request.kind !== "warm") silent = 0;
  working.then((worker) => worker.postMessage(request), () => undefined);
}

function analyse(file: File): void {
  if (isBroken()) return;
  current = file;
  byId("busy").hidden = false;
  if (!release) {
    waiting = file;
    return;
  }
  turn += 1;
  byId("busy-label").textContent = "Analysing";
  say("Analysing");
  ask({ kind: "analyse", id: turn, file, looks });
}

function take(reply: Reply): void {
  if (isBroken()) return;
  silent = Math.min(silent, 0);
  try {
    act(reply);
  } catch (error) {
    stop(`The page cannot show more (${String(error)}). Reload it, or try a smaller image.`);
  }
}

function act(reply: Reply): void {
  if (reply.kind === "progress") showProgress(reply.loaded, reply.total);
  else if (reply.kind === "failed") fail(reply.message);
  else if (reply.kind === "ready") start(reply.release);
  else if (reply.id !== turn) return;
  else if (reply.kind === "looking") showLooks(reply.done, reply.all);
  else if (reply.kind === "refused") refuse(reply.message);
  else show(reply);
}

function showProgress(loaded: number, total: number): void {
  byId<HTMLProgressElement>("progress").value = loaded / total;
  byId("progress-label").textContent =
    loaded < total
      ? `Loading the networks: ${megabytes(loaded)} of ${megabytes(total)} MB`
      : "Preparing the networks";
}

function showLooks(done: number, all: number): void {
  byId("busy-label").textContent = `Analysing: ${done} of ${all} looks`;
}

function start(found: Release): void {
  silent = -1;
  release = found;
  looks = found.looks;
  field = looksField(found, (chosen) => {
    looks = chosen;
    if (current) analyse(current);
  });
  byId("choices").after(field);
  byId("loading").hidden = true;
  document.body.dataset["state"] = "ready";
  if (waiting) analyse(waiting);
  else ask({ kind: "warm" });
  waiting = null;
}

function show(reply: Extract<Reply, { kind: "analysed" }>): void {
  const { analysis, picture, milliseconds } = reply;
  const viewer = new Viewer(analysis, picture);
  viewerPlace.replaceChildren(viewer.element);
  const name = current?.name ?? "image";
  const hadFocus = document.activeElement?.id === "looks"; // which moving it would take
  panel.replaceChildren(
    ...resultCards({ name, viewer, release: release!, milliseconds, threads, looks: field }),
  );
  if (hadFocus) byId("looks").focus();
  byId("sheet").textContent = sheetLine(name, release!.name);
  panel.dataset["milliseconds"] = JSON.stringify(milliseconds);
  byId("intake").hidden = true;
  viewerPlace.hidden = false;
  byId("another").hidden = false;
  byId("main").classList.add("done");
  finish("analysed", spoken(analysis, release!));
}

function refuse(message: string): void {
  const name = current?.name ? `${current.name}: ` : "";
  panel.replaceChildren(warningCard("This image cannot be analysed", [name + message]));
  byId("choices").after(field);
  viewerPlace.hidden = true;
  viewerPlace.replaceChildren();
  byId("intake").hidden = false;
  byId("another").hidden = true;
  byId("main").classList.remove("done");
  byId("sheet").textContent = sheetLine(current?.name ?? "image", "not analysed");
  current = null;
  finish("refused", `This image cannot be analysed. ${message}`);
}

/** Returns whether nothing can be analysed any more; here, or in guard.js, the page has said why. */
function isBroken(): boolean {
  return document.body.dataset["state"] === "failed";
}

/** Ends a worker that cannot continue, and says so. */
function stop(message: string): void {
  working.then((worker) => worker.terminate(), () => undefined);
  fail(message);
}

function fail(message: string): void {
  byId("loading").hidden = true;
  const again = make("button", { type: "button", onclick: () => location.reload() }, "Reload");
  const found = release ? "The analysis stopped" : "The networks could not be loaded";
  const card = warningCard(found, [message]);
  card.append(make("div", { className: "exports" }, again));
  panel.replaceChildren(card);
  finish("failed", message);
}

function finish(state: string, message: string): void {
  silent = -1;
  byId("busy").hidden = true;
  document.body.dataset["state"] = state;
  document.body.dataset["turn"] = String(turn);
  say(message);
}

function say(message: string): void {
  byId("live").textContent = message;
}
