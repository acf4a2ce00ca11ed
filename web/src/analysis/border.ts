/** How sharply a lesion ends (`border_step` of `dermfuse.imaging.measures`). */
import { area, type Mask } from "./raster";
import { principalAxes } from "./shapes";
import { median, roundHalfEven } from "./statistics";

const RING = 0.06; // width of the rings beside the border, of the equivalent diameter
const SECTORS = 8; // as the ABCD rule divides the border
const MIN_SECTORS = 4;
const MIN_RING_PX = 3; // of each ring in a sector

/** Returns the median over the eighths of the border of L* outside less L* inside, or null. */
export function medianBorderStep(lightness: Float64Array, lesion: Mask): number | null {
  const diameter = 2 * Math.sqrt(area(lesion) / Math.PI);
  const width = Math.max(1, roundHalfEven(RING * diameter));
  const skin = { ...lesion, data: lesion.data.map((value) => 1 - value) };
  const axes = principalAxes(lesion);
  const outer = sectorMeans(lightness, common(skin, grown(lesion, width)), axes.x, axes.y);
  const inner = sectorMeans(lightness, common(lesion, grown(skin, width)), axes.x, axes.y);
  const steps = outer.map((value, i) => value - inner[i]).filter((step) => !Number.isNaN(step));
  return steps.length >= MIN_SECTORS ? median(steps) : null;
}

/** Returns the mean over a ring in each eighth of the directions from (x, y); NaN where few. */
function sectorMeans(values: Float64Array, ring: Mask, x: number, y: number): number[] {
  const [counts, sums] = [new Float64Array(SECTORS), new Float64Array(SECTORS)];
  ring.data.forEach((inside, at) => {
    if (!inside) return;
    const [u, v] = [at % ring.width, Math.floor(at / ring.width)];
    const turn = Math.atan2(v + 0.5 - y, u + 0.5 - x) / (2 * Math.PI);
    const sector = (Math.floor(turn * SECTORS) + SECTORS) % SECTORS;
    counts[sector] += 1;
    sums[sector] += values[at];
  });
  return Array.from(counts, (count, i) => (count >= MIN_RING_PX ? sums[i] / count : NaN));
}

/** Returns a mask grown by so many pixels (an octagon); beyond the frame there is nothing. */
function grown(mask: Mask, steps: number): Mask {
  let now = mask;
  for (let step = 0; step < steps; step++) {
    const down = spread(now, now.width);
    now = step % 2 ? either(down, spread(now, 1)) : spread(down, 1);
  }
  return now;
}

/** Returns a mask or-ed with itself moved by one pixel both ways, across (1) or down (width). */
function spread({ width, height, data }: Mask, step: number): Mask {
  const moved = Uint8Array.from(data);
  for (let at = 0; at < data.length; at++) {
    if (!data[at]) continue;
    const [x, y] = [at % width, Math.floor(at / width)];
    if (step === 1 ? x > 0 : y > 0) moved[at - step] = 1;
    if (step === 1 ? x < width - 1 : y < height - 1) moved[at + step] = 1;
  }
  return { width, height, data: moved };
}

function either(a: Mask, b: Mask): Mask {
  return { ...a, data: a.data.map((value, i) => value | b.data[i]) };
}

function common(a: Mask, b: Mask): Mask {
  return { ...a, data: a.data.map((value, i) => value & b.data[i]) };
}
