/** An activation map in viridis, the more opaque the higher (`dermfuse.analysis.overlays`). */
import type { FloatMap } from "../analysis/raster";
import { resizeProbability } from "../analysis/resample";

const VIRIDIS = [
  [68, 1, 84], [72, 26, 108], [71, 47, 125], [65, 68, 135],
  [57, 86, 140], [49, 104, 142], [42, 120, 142], [35, 136, 142],
  [31, 152, 139], [34, 168, 132], [53, 183, 121], [84, 197, 104],
  [122, 209, 81], [165, 219, 54], [210, 226, 27], [253, 231, 37],
] as const;
const PEAK_OPACITY = 0.65;

/** Returns the map at a size, what is not above 0 fully transparent. */
export function tint(activation: FloatMap, width: number, height: number): ImageData {
  const shares = resizeProbability(activation, width, height).data;
  const image = new ImageData(width, height);
  shares.forEach((share, i) => {
    const place = share * (VIRIDIS.length - 1);
    const [below, above] = [VIRIDIS[Math.floor(place)], VIRIDIS[Math.ceil(place)]];
    const rest = place - Math.floor(place);
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = below[c] + (above[c] - below[c]) * rest;
    image.data[4 * i + 3] = 255 * PEAK_OPACITY * share;
  });
  return image;
}
