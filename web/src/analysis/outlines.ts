/** Outlines of masks as simplified polygons (`dermfuse.imaging.outlines`). */
import type { Mask } from "./raster";

export type Point = readonly [number, number];
export type Ring = readonly Point[];

/** Returns the closed outlines of a mask as polygons, the largest first; holes have their own. */
export function outline(mask: Mask, tolerancePx = 1): Ring[] {
  const traced = traceContours(mask);
  const sizes = new Map(traced.map((loop) => [loop, enclosed(loop)]));
  traced.sort((a, b) => sizes.get(b)! - sizes.get(a)!);
  return traced.map((loop) => simplify(loop, tolerancePx)).filter((loop) => loop.length > 2);
}

/** Returns polygons as the `d` of an SVG path. */
export function toPath(rings: readonly Ring[]): string {
  return rings.map((ring) => `M${ring.map(([x, y]) => `${x} ${y}`).join("L")}Z`).join("");
}

/** Returns the closed outlines of a mask as the corners of its pixels' edges. */
export function traceContours(mask: Mask): Point[][] {
  const rows = mask.height + 1; // a corner's key is x * rows + y: they sort by x, then y
  const ends = edges(mask, rows);
  const loops: Point[][] = [];
  for (const start of Float64Array.from(ends.keys()).sort()) {
    while (ends.has(start)) loops.push(corners(follow(ends, start, rows)));
  }
  return loops;
}

/** Returns one closed walk along the edges, which it takes away. */
function follow(ends: Map<number, number[]>, start: number, rows: number): Point[] {
  const walk: Point[] = [];
  let [at, x, y] = [start, Math.floor(start / rows), start % rows];
  let [headX, headY] = [1, 0];
  do {
    walk.push([x, y]);
    const open = ends.get(at)!;
    // Where two pixels touch at a corner, turn right: they stay two outlines.
    const right = open.indexOf((x - headY) * rows + y + headX);
    const [next] = open.splice(Math.max(right, 0), 1);
    if (!open.length) ends.delete(at);
    const [nextX, nextY] = [Math.floor(next / rows), next % rows];
    [headX, headY, at, x, y] = [nextX - x, nextY - y, next, nextX, nextY];
  } while (at !== start);
  return walk;
}

/** Returns the directed unit edges between lesion and skin, clockwise: start to ends. */
function edges({ width, height, data }: Mask, rows: number): Map<number, number[]> {
  const ends = new Map<number, number[]>();
  const add = (x: number, y: number, toX: number, toY: number) => {
    const key = x * rows + y;
    const end = toX * rows + toY;
    const known = ends.get(key);
    if (known) known.push(end);
    else ends.set(key, [end]);
  };
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      if (!data[at]) continue;
      if (y === 0 || !data[at - width]) add(x, y, x + 1, y);
      if (x === width - 1 || !data[at + 1]) add(x + 1, y, x + 1, y + 1);
      if (y === height - 1 || !data[at + width]) add(x + 1, y + 1, x, y + 1);
      if (x === 0 || !data[at - 1]) add(x, y + 1, x, y);
    }
  }
  return ends;
}

/** Returns the points at which a closed walk turns. */
function corners(walk: readonly Point[]): Point[] {
  return walk.filter(([x, y], i) => {
    const [fromX, fromY] = walk[(i + walk.length - 1) % walk.length];
    const [toX, toY] = walk[(i + 1) % walk.length];
    return x - fromX !== toX - x || y - fromY !== toY - y;
  });
}

function enclosed(loop: Ring): number {
  let doubled = 0;
  loop.forEach(([x, y], i) => {
    const [fromX, fromY] = loop[(i + loop.length - 1) % loop.length];
    doubled += x * fromY - y * fromX;
  });
  return Math.abs(doubled) / 2;
}

/** Returns the points of a closed outline that Douglas and Peucker's rule keeps. */
function simplify(loop: Ring, tolerancePx: number): Ring {
  const [x0, y0] = loop[0];
  const far = argmax(loop.length, (i) => (loop[i][0] - x0) ** 2 + (loop[i][1] - y0) ** 2);
  const kept = new Set([0, far]);
  const spans: Point[] = [[0, far], [far, loop.length]];
  while (spans.length) {
    const [first, last] = spans.pop()!;
    if (last - first < 2) continue;
    const [fromX, fromY] = loop[first];
    const [toX, toY] = loop[last % loop.length];
    const away = (i: number) => {
      const [x, y] = loop[first + 1 + i];
      return Math.abs((x - fromX) * (toY - fromY) - (y - fromY) * (toX - fromX));
    };
    const split = argmax(last - first - 1, away);
    if (away(split) > tolerancePx * Math.hypot(toX - fromX, toY - fromY)) {
      const at = first + 1 + split;
      kept.add(at);
      spans.push([first, at], [at, last]);
    }
  }
  return [...kept].sort((a, b) => a - b).map((i) => loop[i]);
}

function argmax(count: number, value: (index: number) => number): number {
  let [best, highest] = [0, -Infinity];
  for (let i = 0; i < count; i++) {
    const found = value(i);
    if (found > highest) [best, highest] = [i, found];
  }
  return best;
}
