/** Measures of a lesion's shape, border and colours (`dermfuse.imaging.measures`). */
import { medianBorderStep } from "./border";
import { colourShares, type Lab, pick, skinGains, toLab } from "./colours";
import { largestPiece } from "./pieces";
import { area, crop, cropMask, type Box, type Mask, type Raster } from "./raster";
import { reduceMask, resizeInSteps, smallSize } from "./reduction";
import { type Fold, foldBoth, longestExtent, perimeter, places, principalAxes, solidity } from "./shapes";

const PATCH_SIDE_PX = 96;
const MIN_AREA_PX = 100;
const MAX_FRAME_CONTACT = 0.1;
const MIN_COLOUR_SHARE = 0.05;
const MARGIN = 0.15; // around the lesion's bounding box, of its longer side

/** What a mask and its pixels say of the largest lesion; null where a measure is not defined. */
export interface Measures {
  readonly pieces: number;
  readonly cut_by_frame: boolean;
  readonly kept_share: number | null;
  readonly frame_contact: number | null;
  readonly centroid_px: readonly [number, number] | null;
  readonly equivalent_diameter_px: number | null;
  readonly longest_diameter_px: number | null;
  readonly axes_px: readonly [number, number] | null;
  readonly angle_degrees: number | null;
  readonly asymmetry_longer: number | null;
  readonly asymmetry_shorter: number | null;
  readonly colour_asymmetry: number | null;
  readonly compactness: number | null;
  readonly solidity: number | null;
  readonly border_step: number | null;
  readonly colour_shares: Readonly<Record<string, number>> | null;
  readonly colour_count: number | null;
  readonly asymmetry: number | null;
}

const UNDEFINED: Measures = {
  pieces: 0, cut_by_frame: false, kept_share: null, frame_contact: null,
  centroid_px: null, equivalent_diameter_px: null, longest_diameter_px: null, axes_px: null,
  angle_degrees: null, asymmetry_longer: null, asymmetry_shorter: null, colour_asymmetry: null,
  compactness: null, solidity: null, border_step: null, colour_shares: null, colour_count: null,
  asymmetry: null,
};

/** Returns the measures of the largest lesion of a mask as large as the image. */
export function measureLesion(image: Raster, mask: Mask): Measures {
  const piece = largestPiece(reduceMask(mask));
  if (!piece) return UNDEFINED;
  const small = piece.mask;
  const scale = Math.max(mask.width, mask.height) / Math.max(small.width, small.height);
  const axes = principalAxes(small);
  const contact = frameContact(small);
  return {
    ...UNDEFINED,
    pieces: piece.count,
    cut_by_frame: contact > MAX_FRAME_CONTACT,
    kept_share: piece.keptShare,
    frame_contact: contact,
    centroid_px: [axes.x * scale, axes.y * scale],
    equivalent_diameter_px: diameter(small) * scale,
    longest_diameter_px: longestExtent(small) * scale,
    axes_px: [axes.major * scale, axes.minor * scale],
    angle_degrees: (axes.angle * 180) / Math.PI,
    ...closeUp(image, mask, small, contact <= MAX_FRAME_CONTACT),
  };
}

/** Returns the share of a mask's outline that lies on the frame; 0 for an empty mask. */
export function frameContact({ width, height, data }: Mask): number {
  let [onFrame, inside] = [0, 0];
  for (let x = 0; x < width; x++) onFrame += data[x] + data[(height - 1) * width + x];
  for (let y = 0; y < height; y++) onFrame += data[y * width] + data[(y + 1) * width - 1];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const here = data[y * width + x];
      if (y > 0) inside += here ^ data[(y - 1) * width + x];
      if (x > 0) inside += here ^ data[y * width + x - 1];
    }
  }
  return onFrame / Math.max(onFrame + inside, 1);
}

/** Returns the diameter of the disc with a mask's area. */
export function diameter(mask: Mask): number {
  return 2 * Math.sqrt(area(mask) / Math.PI);
}

/** Returns what is measured at the lesion's own scale. */
function closeUp(image: Raster, mask: Mask, small: Mask, shaped: boolean): Partial<Measures> {
  const cut = cutOut(image, mask, small);
  const piece = largestPiece(cut.lesion);
  if (!piece) return {}; // thinner than half a cell of the patch
  const lesion = piece.mask;
  const inside = places(lesion);
  const outside = places({ ...lesion, data: lesion.data.map((value) => 1 - value) });
  const lab = toLab(cut.patch.data, skinGains(pixelsAt(cut.patch, outside)));
  const shares = colourShares(pick(lab, inside), pick(lab, outside));
  const found: Partial<Measures> = {
    border_step: medianBorderStep(lab.lightness, lesion),
    colour_shares: shares,
    colour_count: Object.values(shares).filter((share) => share >= MIN_COLOUR_SHARE).length,
  };
  if (!shaped || inside.length < MIN_AREA_PX) return found;
  const folds = foldBoth(lesion);
  const [longer, shorter] = [folds[0].uncovered, folds[1].uncovered];
  return {
    ...found,
    asymmetry_longer: longer,
    asymmetry_shorter: shorter,
    asymmetry: (longer + shorter) / 2,
    colour_asymmetry: colourAsymmetry(lab, inside, folds),
    compactness: Math.max(1, perimeter(lesion) ** 2 / (4 * Math.PI * inside.length)),
    solidity: solidity(lesion),
  };
}

/** Returns image and mask around the lesion, at most `PATCH_SIDE_PX` long. */
function cutOut(image: Raster, mask: Mask, small: Mask): { patch: Raster; lesion: Mask } {
  const box = bounds(small);
  const [tall, wide] = [box.bottom - box.top, box.right - box.left];
  const margin = 1 + MARGIN * Math.max(tall, wide);
  const [factorX, factorY] = [mask.width / small.width, mask.height / small.height];
  const part = {
    left: Math.max(0, Math.floor((box.left - margin) * factorX)),
    top: Math.max(0, Math.floor((box.top - margin) * factorY)),
    right: Math.min(mask.width, Math.ceil((box.right + margin) * factorX)),
    bottom: Math.min(mask.height, Math.ceil((box.bottom + margin) * factorY)),
  };
  const lesion = cropMask(mask, part);
  const [width, height] = smallSize(lesion.height, lesion.width, PATCH_SIDE_PX);
  return {
    patch: resizeInSteps(crop(image, part), width, height, "bilinear", 1),
    lesion: reduceMask(lesion, PATCH_SIDE_PX),
  };
}

function bounds(mask: Mask): Box {
  let [left, top, right, bottom] = [mask.width, mask.height, 0, 0];
  for (const at of places(mask)) {
    const [x, y] = [at % mask.width, Math.floor(at / mask.width)];
    [left, right] = [Math.min(left, x), Math.max(right, x + 1)];
    [top, bottom] = [Math.min(top, y), Math.max(bottom, y + 1)];
  }
  return { left, top, right, bottom };
}

function pixelsAt({ data }: Raster, at: Int32Array): Uint8Array {
  const pixels = new Uint8Array(at.length * 3);
  at.forEach((place, i) => pixels.set(data.subarray(place * 3, place * 3 + 3), i * 3));
  return pixels;
}

/** Returns the mean ΔE between pixels that meet in either fold, over 100, at most 1. */
function colourAsymmetry(lab: Lab, inside: Int32Array, folds: readonly Fold[]): number {
  let [sum, count] = [0, 0];
  for (const { met, partner } of folds) {
    inside.forEach((own, i) => {
      if (!met[i]) return;
      const other = partner[i];
      sum += Math.hypot(
        lab.lightness[own] - lab.lightness[other],
        lab.a[own] - lab.a[other],
        lab.b[own] - lab.b[other],
      );
      count += 1;
    });
  }
  return count ? Math.min(1, sum / count / 100) : 1;
}
