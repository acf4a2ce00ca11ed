/** The image with its overlays, zoom, and the comparison of before and after. */
import type { Analysis } from "../analysis/analysis";
import { toPath } from "../analysis/outlines";
import { make } from "./elements";
import { AGAINST_WORDS, FOR_WORDS, legendStops, tint } from "./tint";
import { Zoom } from "./zoom";

const SVG = "http://www.w3.org/2000/svg";
const MAP_SIDE_PX = 512; // the browser enlarges the map further, smoothly

/** What of the overlays is shown, and how opaque: 0 is off, 1 as `dermfuse analyze` draws it. */
export interface Shown {
  readonly contour: number;
  readonly activation: number;
}

/** Shows an analysed image. */
export class Viewer {
  readonly element: DocumentFragment;
  private readonly opacities = { contour: 1, activation: 0 };
  private readonly map: HTMLCanvasElement;

  constructor(
    readonly analysis: Analysis,
    readonly picture: ImageBitmap,
  ) {
    const { width, height } = analysis;
    this.map = drawMap(analysis);
    const contour = drawContour(analysis);
    const overlays = make("div", { className: "overlays" }, this.map, contour);
    const divider = make("div", { className: "divider", hidden: true });
    const canvas = make("canvas", { width, height });
    canvas.getContext("2d")!.drawImage(picture, 0, 0);
    const scene = make("div", { className: "scene" }, canvas, overlays, divider);
    const viewport = make("div", { className: "viewport", tabIndex: 0, role: "group" }, scene);
    viewport.style.aspectRatio = `${width} / ${height}`;
    viewport.setAttribute(
      "aria-label",
      "Image with overlays. Plus and minus zoom, arrow keys move, zero shows all of it.",
    );
    viewport.append(zoomButtons(new Zoom(viewport, scene, width, height)));
    this.element = document.createDocumentFragment();
    this.element.append(viewport);
    if (analysis.probability === null) return; // withheld: there is nothing to lay over the image
    this.element.append(
      make(
        "div",
        { className: "card controls" },
        this.overlayControl("Lesion outline", "contour", contour),
        this.overlayControl("Activation map", "activation", this.map, legend()),
        comparison(overlays, divider),
      ),
    );
  }

  /** What of the overlays is shown. */
  get shown(): Shown {
    return { ...this.opacities };
  }

  /** The activation map as it is laid over the image. */
  get tinted(): HTMLCanvasElement {
    return this.map;
  }

  private overlayControl(
    words: string,
    which: keyof Shown,
    overlay: HTMLElement | SVGElement,
    about?: HTMLElement,
  ): HTMLElement {
    const begin = this.opacities[which];
    const box = make("input", { type: "checkbox", id: `show-${which}`, checked: begin > 0 });
    const range = make("input", { type: "range", min: "5", max: "100", value: "100" });
    range.setAttribute("aria-label", `${words}: opacity in per cent`);
    const output = make("output");
    const update = () => {
      this.opacities[which] = box.checked ? Number(range.value) / 100 : 0;
      overlay.style.opacity = String(this.opacities[which]);
      range.disabled = !box.checked;
      output.value = box.checked ? `${range.value} %` : "off";
    };
    box.addEventListener("change", update);
    range.addEventListener("input", update);
    update();
    const label = make("label", { htmlFor: box.id }, box, words);
    return make("div", { className: "control" }, label, output, range, about);
  }
}

/** Returns what the tints of the activation map mean: one scale for all images. */
function legend(): HTMLElement {
  const bar = make("div", { className: "bar" });
  const stops = legendStops().map(([at, colour]) => `${colour} ${100 * at}%`);
  bar.style.backgroundImage = `linear-gradient(to right, ${stops.join(", ")})`;
  const ends = [AGAINST_WORDS, FOR_WORDS].map((words) => make("span", {}, words));
  return make("div", { className: "legend" }, bar, ...ends);
}

function drawMap({ activation, width, height }: Analysis): HTMLCanvasElement {
  const factor = Math.min(1, MAP_SIDE_PX / Math.max(width, height));
  const size = {
    width: Math.max(1, Math.round(width * factor)),
    height: Math.max(1, Math.round(height * factor)),
  };
  const canvas = make("canvas", size);
  canvas.getContext("2d")!.putImageData(tint(activation, size.width, size.height), 0, 0);
  return canvas;
}

function drawContour({ outline, width, height }: Analysis): SVGSVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("aria-hidden", "true");
  for (const name of ["halo", "contour"]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", name);
    path.setAttribute("d", toPath(outline));
    svg.append(path);
  }
  return svg;
}

function zoomButtons(zoom: Zoom): HTMLElement {
  const button = (text: string, label: string, onclick: () => void) => {
    const made = make("button", { type: "button", onclick, title: label }, text);
    made.setAttribute("aria-label", label);
    return made;
  };
  return make(
    "div",
    { className: "zoom" },
    button("−", "Zoom out", () => zoom.step(false)),
    button("+", "Zoom in", () => zoom.step(true)),
    button("⤢", "Show the whole image", () => zoom.fit()),
  );
}

/** Returns the slider that uncovers the plain image from the left. */
function comparison(overlays: HTMLElement, divider: HTMLElement): HTMLElement {
  const range = make("input", { type: "range", min: "0", max: "100", value: "0", id: "compare" });
  const output = make("output");
  const update = () => {
    overlays.style.clipPath = `inset(0 0 0 ${range.value}%)`;
    divider.style.left = `${range.value}%`;
    divider.hidden = range.value === "0" || range.value === "100";
    output.value = range.value === "0" ? "after" : range.value === "100" ? "before" : "both";
  };
  range.addEventListener("input", update);
  update();
  const label = make("label", { htmlFor: "compare" }, "Before and after");
  return make("div", { className: "control" }, label, output, range);
}
