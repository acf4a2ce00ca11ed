/** The card of the probability and its call at an operating point. */
import { type Analysis, callAt } from "../analysis/analysis";
import type { OperatingPoint, Rate, Release } from "../release/records";
import { make } from "./elements";
import { uncertaintySentence } from "./looks";
import { cssPercent, percent, pointName } from "./words";

/**
 * Returns the card.
 *
 * @param looks - The field in which a person chooses how many orientations the networks see.
 * @param chosen - Called with the operating point that a person chooses.
 */
export function probabilityCard(
  analysis: Analysis,
  { classes }: Release,
  point: OperatingPoint,
  looks: HTMLElement,
  chosen: (point: OperatingPoint) => void,
): HTMLElement {
  const card = make("section", { className: "card" }, make("h2", {}, "Probability of melanoma"));
  if (analysis.probability === null) {
    card.append(
      make("p", { className: "figure" }, make("strong", {}, "Withheld")),
      make("p", { className: "small" }, "The image is unlike the images the networks learnt from."),
      looks,
    );
    return card;
  }
  const called = make("div", { className: "field" });
  const select = make("select", { id: "point" });
  for (const { name, threshold } of classes.operating_points) {
    const text = `${pointName(name)}: malignant from ${percent(threshold)} on`;
    select.append(make("option", { value: name, selected: name === point.name }, text));
  }
  const show = () => {
    const now = classes.operating_points[select.selectedIndex];
    called.replaceChildren(...callAndGauge(analysis, now));
    chosen(now);
  };
  select.addEventListener("change", show);
  show();
  card.append(
    make(
      "p",
      { className: "figure" },
      make("strong", { className: "number", id: "probability" }, percent(analysis.probability)),
      make("span", { className: "small" }, "calibrated"),
    ),
    called,
    make("div", { className: "field" }, make("label", { htmlFor: "point" }, "Operating point"), select),
    looks,
    ...uncertainty(analysis),
  );
  return card;
}

function callAndGauge(analysis: Analysis, point: OperatingPoint): HTMLElement[] {
  const call = callAt(analysis, point)!;
  const level = make("div", { className: "level" });
  level.style.width = cssPercent(analysis.probability!);
  const edge = point.threshold < 0.15 ? " first" : point.threshold > 0.85 ? " last" : "";
  const tick = make("div", { className: `tick${edge}` }, make("span", {}, `threshold ${percent(point.threshold)}`));
  tick.style.left = cssPercent(point.threshold);
  const gauge = make("div", { className: `gauge ${call}` }, level, tick);
  gauge.setAttribute("aria-hidden", "true");
  const side = call === "malignant" ? "at or above" : "below";
  return [
    gauge,
    make(
      "p",
      {},
      "Called ",
      make("span", { className: `call ${call}`, id: "call" }, call),
      `: ${side} the threshold of ${percent(point.threshold)}.`,
    ),
    make(
      "p",
      { className: "small" },
      `There, sensitivity ${rate(point.sensitivity)} and specificity ${rate(point.specificity)} ` +
        "on images that the networks were not trained on.",
    ),
  ];
}

function uncertainty(analysis: Analysis): HTMLElement[] {
  const list = make("dl", { className: "values" });
  for (const [name, score] of Object.entries(analysis.scores)) {
    list.append(make("dt", {}, name), make("dd", {}, score.toFixed(3)));
  }
  const sentence = uncertaintySentence(analysis);
  return [
    ...(sentence ? [make("p", { className: "small", id: "uncertainty" }, sentence)] : []),
    make(
      "details",
      {},
      make("summary", {}, "Scores of the networks"),
      make("p", { className: "small" }, "Before calibration:"),
      list,
    ),
  ];
}

function rate({ value, low, high }: Rate): string {
  const whole = (share: number) => (100 * share).toFixed(0);
  return `${whole(value)}\u00a0% (${whole(low)} to ${whole(high)})`;
}
