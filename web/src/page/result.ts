/** The panel beside the image. */
import { type Analysis, callAt, toRecord, warningsOf } from "../analysis/analysis";
import type { OperatingPoint, Release } from "../release/records";
import type { Milliseconds } from "../worker/protocol";
import { make } from "./elements";
import { jsonFile, maskFile, overlayFile, save } from "./exports";
import { serviceWorkers } from "./keeping";
import { measuresCard, qualityCard } from "./measures";
import { probabilityCard } from "./probability";
import type { Viewer } from "./viewer";
import { percent } from "./words";

/** What the panel is about. */
export interface Shown {
  readonly name: string;
  readonly viewer: Viewer;
  readonly release: Release;
  readonly milliseconds: Milliseconds;
  readonly threads: number;
  /** The field in which a person chooses how many orientations the networks see. */
  readonly looks: HTMLElement;
}

let chosenPoint: string | null = null; // kept from one image to the next

/** Returns the cards of an analysis. */
export function resultCards(shown: Shown): HTMLElement[] {
  const { analysis } = shown.viewer;
  const { classes } = shown.release;
  const wanted = chosenPoint ?? classes.default_point;
  let point = classes.operating_points.find(({ name }) => name === wanted)!;
  const choose = (next: OperatingPoint) => {
    point = next;
    chosenPoint = next.name;
  };
  const warnings = warningsOf(analysis);
  return [
    ...(warnings.length ? [warningCard("Read this first", warnings)] : []),
    probabilityCard(analysis, shown.release, point, shown.looks, choose),
    ...(analysis.probability === null ? [] : [measuresCard(analysis)]),
    qualityCard(analysis),
    exportCard(shown, () => point),
    aboutCard(shown),
  ];
}

/** Returns a card that warns, or tells of an error. */
export function warningCard(title: string, sentences: readonly string[]): HTMLElement {
  const items = sentences.map((sentence) => make("li", {}, make("span", {}, sentence)));
  return make("section", { className: "card alert" }, make("h2", {}, title), make("ul", {}, ...items));
}

/** Returns an analysis in a sentence or two, to be read out. */
export function spoken(analysis: Analysis, release: Release): string {
  const wanted = chosenPoint ?? release.classes.default_point;
  const point = release.classes.operating_points.find(({ name }) => name === wanted)!;
  const warnings = warningsOf(analysis).join(" ");
  if (analysis.probability === null) return `Analysis ready. ${warnings}`;
  const call = callAt(analysis, point);
  return (
    `Analysis ready. Probability of melanoma ${percent(analysis.probability)}, ` +
    `called ${call} at a threshold of ${percent(point.threshold)}. ${warnings}`
  );
}

function exportCard(shown: Shown, point: () => OperatingPoint): HTMLElement {
  const { viewer, name } = shown;
  const withheld = viewer.analysis.probability === null;
  const mask = withheld ? null : maskFile(viewer.analysis); // ready when it is asked for
  mask?.catch(() => undefined); // whoever asks hears of it
  const stem = name.replace(/\.[^.]*$/, "") || "image";
  const button = (text: string, make_: () => Promise<Blob> | Blob, suffix: string) =>
    make(
      "button",
      { type: "button", onclick: async () => save(await make_(), `${stem}${suffix}`) },
      text,
    );
  return make(
    "section",
    { className: "card" },
    make("h2", {}, "Keep the result"),
    make(
      "div",
      { className: "exports" },
      ...(mask
        ? [
            button("Overlay, PNG", () => overlayFile(viewer), "-overlay.png"),
            button("Mask, PNG", () => mask, "-mask.png"),
          ]
        : []),
      button("Record, JSON", () => jsonFile(toRecord(viewer.analysis, point(), name)), ".json"),
    ),
    make(
      "p",
      { className: "small paper" },
      `The app saves ${mask ? "overlay, mask and record as files" : "the record as a file"}.`,
    ),
  );
}

function aboutCard({ viewer, release, milliseconds, threads }: Shown): HTMLElement {
  const { analysis } = viewer;
  const list = make("dl", { className: "values" });
  const row = (name: string, value: string) =>
    list.append(make("dt", {}, name), make("dd", {}, value));
  row("Release", release.name);
  row("Image", `${analysis.width} × ${analysis.height} px`);
  if (analysis.distance !== null) {
    row("Distance from the images learnt from, 1 is typical", analysis.distance.toFixed(2));
  }
  row("Orientations", String(analysis.looks));
  row("Time on this device", `${milliseconds.total.toFixed(0)} ms`);
  row("Of it, the probability", `${milliseconds.classes.toFixed(0)} ms`);
  row("Threads", String(threads));
  return make(
    "section",
    { className: "card" },
    make("details", {}, make("summary", {}, "About this analysis"), list, make("p", { className: "small" }, threadNote(threads))),
  );
}

function threadNote(threads: number): string {
  if (self.crossOriginIsolated) return `The networks run on ${threads} of this device's cores.`;
  return serviceWorkers()
    ? "The networks run on one core. Reload the page once to let them use more."
    : "The networks run on one core: this page was not loaded over HTTPS, or may keep nothing, " +
        "so the browser allows neither more cores nor use without a connection.";
}
