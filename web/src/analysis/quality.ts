/** Whether an image is good enough to be looked at (`dermfuse.imaging.quality`). */
import { cornerPieces } from "./pieces";
import { area, crop, toGrey, type Raster } from "./raster";
import { percentiles } from "./statistics";

/** One check of an image's quality. */
export interface QualityFlag {
  readonly value: number;
  readonly threshold: number;
  readonly raised: boolean;
  readonly sentence: string;
}

interface Limit {
  readonly threshold: number;
  readonly fails: "below" | "above";
  readonly sentence: string;
  readonly passed: string;
}

const LIMITS: Readonly<Record<string, Limit>> = {
  too_small: {
    threshold: 224,
    fails: "below",
    sentence: "The image is smaller than what the networks look at: details are missing.",
    passed: "The image is large enough.",
  },
  blurred: {
    threshold: 0.6,
    fails: "below",
    sentence: "The image is blurred: fine structures cannot be seen.",
    passed: "The image is in focus.",
  },
  too_dark: {
    threshold: 95,
    fails: "below",
    sentence: "The image is very dark.",
    passed: "The image is not too dark.",
  },
  too_bright: {
    threshold: 236,
    fails: "above",
    sentence: "The image is very bright: pale structures may be lost.",
    passed: "The image is not too bright.",
  },
  low_contrast: {
    threshold: 20,
    fails: "below",
    sentence: "The image has very little contrast: the lesion hardly differs from the skin.",
    passed: "The image has enough contrast.",
  },
  dark_corners: {
    threshold: 0.14,
    fails: "above",
    sentence: "Much of the image is dark corners, the edge of the lens.",
    passed: "The image has few dark corners or none.",
  },
  lesion_cut: {
    threshold: 0.3,
    fails: "above",
    sentence: "The lesion runs out of the image: its shape cannot be judged.",
    passed: "The lesion lies within the image, or nearly.",
  },
};
const CORNER_DARKNESS = 0.4; // of the median of the middle

/** Returns every check of an image by name, raised or not.
 *
 * @param reduced - The image's working copy.
 * @param shorterSidePx - Of the image itself.
 * @param frameContact - The share of the lesion's outline on the frame; null without a lesion.
 */
export function assessQuality(
  reduced: Raster,
  shorterSidePx: number,
  frameContact: number | null,
): Record<string, QualityFlag> {
  const grey = toGrey(reduced);
  const [low, middle, high] = percentiles(middleOf(grey), [5, 50, 95]);
  const values: Record<string, number> = {
    too_small: shorterSidePx,
    blurred: sharpness(grey),
    too_dark: middle,
    too_bright: middle,
    low_contrast: high - low,
    dark_corners: darkCorners(grey, CORNER_DARKNESS * middle),
    ...(frameContact === null ? {} : { lesion_cut: frameContact }),
  };
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => [name, check(LIMITS[name], value)]),
  );
}

/** Returns how fine the strongest edges are: 0 for none, about 1 in focus. */
export function sharpness({ width, height, data }: Raster): number {
  const count = (width - 2) * (height - 2);
  const [laplacians, gradients] = [new Float64Array(count), new Float64Array(count)];
  for (let y = 1, to = 0; y < height - 1; y++) {
    for (let x = 1; x < width - 1; x++, to++) {
      const at = y * width + x;
      const left = data[at - 1];
      const right = data[at + 1];
      const above = data[at - width];
      const below = data[at + width];
      laplacians[to] = Math.abs(4 * data[at] - left - right - above - below);
      gradients[to] = Math.sqrt((right - left) ** 2 + (below - above) ** 2);
    }
  }
  const [steep] = percentiles(gradients, [99]);
  return steep > 0 ? percentiles(laplacians, [99])[0] / steep : 0;
}

function check(limit: Limit, value: number): QualityFlag {
  const raised = limit.fails === "below" ? value < limit.threshold : value > limit.threshold;
  const sentence = raised ? limit.sentence : limit.passed;
  return { value, threshold: limit.threshold, raised, sentence };
}

/** Returns the pixels without a sixth of the frame on either side. */
function middleOf(image: Raster): Uint8Array {
  const [top, left] = [Math.floor(image.height / 6), Math.floor(image.width / 6)];
  return crop(image, { left, top, right: image.width - left, bottom: image.height - top }).data;
}

function darkCorners({ width, height, data }: Raster, limit: number): number {
  const [columns, rows] = [Math.ceil(width / 2), Math.ceil(height / 2)];
  const dark = new Uint8Array(columns * rows);
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      dark[y * columns + x] = Number(data[2 * y * width + 2 * x] < limit);
    }
  }
  return area(cornerPieces({ width: columns, height: rows, data: dark })) / dark.length;
}
