/** The cards of measures and quality. */
import type { Analysis } from "../analysis/analysis";
import { area } from "../analysis/raster";
import { make } from "./elements";
import { percent } from "./words";

const SWATCHES: Readonly<Record<string, string>> = {
  white: "#f5e1d7",
  red: "#b44a45",
  "light brown": "#a6714f",
  "dark brown": "#532b23",
  "blue-grey": "#62555f",
  black: "#191414",
};

/** Returns what was measured of the lesion. */
export function measuresCard({ measures, mask }: Analysis): HTMLElement {
  const list = make("dl", { className: "values" });
  const group = (name: string) => list.append(make("dt", { className: "group" }, name));
  const row = (name: string | Node, value: number | null, write: (value: number) => string, id = "") =>
    list.append(make("dt", {}, name), make("dd", id ? { id } : {}, value === null ? "not defined" : write(value)));
  const decimal = (value: number) => value.toFixed(2);
  const pixels = (value: number) => `${value.toFixed(0)} px`;
  group("Asymmetry");
  row("Of the shape, 0 to 1", measures.asymmetry, decimal);
  row("Of the colours, 0 to 1", measures.colour_asymmetry, decimal);
  group("Border");
  row("Compactness, 1 for a disc", measures.compactness, decimal);
  row("Solidity, 1 without notches", measures.solidity, decimal);
  row("Step in lightness to the skin", measures.border_step, (value) => value.toFixed(1));
  group("Colours");
  row("Of six, on 5 % or more", measures.colour_count, String);
  for (const [name, share] of Object.entries(measures.colour_shares ?? {})) {
    if (share < 0.005) continue;
    const swatch = make("span", { className: "swatch" });
    swatch.style.background = SWATCHES[name];
    row(make("span", { className: "shade" }, swatch, name), share, (value) => percent(value, 0));
  }
  group("Size");
  row("Lesion share of the frame", area(mask) / mask.data.length, percent, "lesion-share");
  row("Longest diameter", measures.longest_diameter_px, pixels);
  row("Pieces of the outline", measures.pieces, String);
  const note = measures.cut_by_frame
    ? "The frame cuts the lesion, so its shape is not measured. "
    : "";
  return make(
    "section",
    { className: "card" },
    make("h2", {}, "Measures of the lesion"),
    list,
    make("p", { className: "small" }, `${note}These describe the image; no score adds them up.`),
  );
}

/** Returns what was checked of the image. */
export function qualityCard({ quality }: Analysis): HTMLElement {
  const flags = Object.values(quality);
  const items = flags.map(({ raised, sentence }) =>
    make(
      "li",
      { className: raised ? "raised" : "" },
      make("span", {}, make("span", { className: "unseen" }, raised ? "Warning: " : "Passed: "), sentence),
    ),
  );
  return make(
    "section",
    { className: "card" },
    make("h2", {}, "Quality of the image"),
    make("ul", { className: "checks" }, ...items),
  );
}
