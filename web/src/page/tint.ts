/** What an activation map looks like over an image (`dermfuse.imaging.overlays`). */
import type { FloatMap } from "../analysis/raster";
import { resizeMap } from "../analysis/resample";

type Colour = readonly [number, number, number];

/** Amber: what speaks for malignancy. */
export const FOR_COLOUR: Colour = [255, 190, 0];
/** Violet: what speaks against it. */
export const AGAINST_COLOUR: Colour = [84, 39, 136];
export const FOR_WORDS = "for melanoma";
export const AGAINST_WORDS = "against melanoma";

const FULL_LOG_ODDS = 6; // of a place that is tinted in full, in every image
const PEAK_OPACITY = 0.65;

/** Returns the map at a size, the more opaque the more a place adds to the log-odds, or takes. */
export function tint(activation: FloatMap, width: number, height: number): ImageData {
  const image = new ImageData(width, height);
  resizeMap(activation, width, height).data.forEach((logOdds, i) => {
    image.data.set(logOdds > 0 ? FOR_COLOUR : AGAINST_COLOUR, 4 * i);
    const share = Math.min(Math.abs(logOdds) / FULL_LOG_ODDS, 1);
    image.data[4 * i + 3] = 255 * PEAK_OPACITY * share;
  });
  return image;
}

/** Returns the tints from the most against to the most for, as stops of a gradient. */
export function legendStops(): [number, string][] {
  const css = ([red, green, blue]: Colour, opacity: number) =>
    `rgba(${red}, ${green}, ${blue}, ${opacity})`;
  return [
    [0, css(AGAINST_COLOUR, PEAK_OPACITY)],
    [0.5, css(AGAINST_COLOUR, 0)],
    [0.5, css(FOR_COLOUR, 0)],
    [1, css(FOR_COLOUR, PEAK_OPACITY)],
  ];
}
