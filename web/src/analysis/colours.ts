/** CIE L*a*b* of sRGB pixels, and the six colours of dermoscopy (`dermfuse.imaging.colours`). */
import { median } from "./statistics";

type Rgb = readonly [number, number, number];

/** L*, a* and b* of pixels, one array each. */
export interface Lab {
  readonly lightness: Float64Array;
  readonly a: Float64Array;
  readonly b: Float64Array;
}

const REFERENCES: Readonly<Record<string, readonly Rgb[]>> = {
  white: [[245, 225, 215]],
  red: [[195, 110, 105], [165, 60, 55]],
  "light brown": [
    [139, 79, 53], [134, 59, 34], [151, 102, 74], [164, 99, 67], [166, 126, 102],
    [174, 87, 46], [178, 126, 89], [200, 124, 80],
  ],
  "dark brown": [[83, 43, 35], [105, 45, 30], [110, 64, 48]],
  "blue-grey": [[75, 70, 82], [98, 85, 95], [142, 121, 132]],
  black: [[25, 20, 20], [52, 35, 32]],
};
const LARGEST_DISTANCE = 20;
const SKIN: Rgb = [191, 173, 164];
const MIN_SKIN_PX = 50;
const MIN_SKIN_LIGHT = 0.03;
const TO_XYZ = [
  [0.4124, 0.3576, 0.1805],
  [0.2126, 0.7152, 0.0722],
  [0.0193, 0.1192, 0.9505],
] as const;
const WHITE = TO_XYZ.map((row) => row[0] + row[1] + row[2]);
const LINEAR = Float64Array.from({ length: 256 }, (_, value) => {
  const share = value / 255;
  return Math.fround(share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4);
});

/** Returns sRGB pixels, three bytes each, in CIE L*a*b* (1976, D65), the linear light scaled. */
export function toLab(rgb: ArrayLike<number>, gains: Rgb = [1, 1, 1]): Lab {
  const count = rgb.length / 3;
  const lab: Lab = {
    lightness: new Float64Array(count),
    a: new Float64Array(count),
    b: new Float64Array(count),
  };
  const rows = TO_XYZ.map((row, i) => row.map((value, c) => (value / WHITE[i]) * gains[c]));
  for (let i = 0, at = 0; i < count; i++, at += 3) {
    const red = LINEAR[rgb[at]];
    const green = LINEAR[rgb[at + 1]];
    const blue = LINEAR[rgb[at + 2]];
    const x = bend(rows[0][0] * red + rows[0][1] * green + rows[0][2] * blue);
    const y = bend(rows[1][0] * red + rows[1][1] * green + rows[1][2] * blue);
    const z = bend(rows[2][0] * red + rows[2][1] * green + rows[2][2] * blue);
    lab.lightness[i] = 116 * y - 16;
    lab.a[i] = 500 * (x - y);
    lab.b[i] = 200 * (y - z);
  }
  return lab;
}

/** Returns the gains that give skin its usual tint and leave its lightness alone. */
export function skinGains(skin: ArrayLike<number>): Rgb {
  const lit: [number[], number[], number[]] = [[], [], []];
  for (let at = 0; at < skin.length; at += 3) {
    const light: Rgb = [LINEAR[skin[at]], LINEAR[skin[at + 1]], LINEAR[skin[at + 2]]];
    if (luminance(light) > MIN_SKIN_LIGHT) light.forEach((value, c) => lit[c].push(value));
  }
  if (lit[0].length < MIN_SKIN_PX) return [1, 1, 1];
  const found = lit.map((values) => Math.max(median(values), 1e-3)) as unknown as Rgb;
  const usual = SKIN.map((value) => LINEAR[value]) as unknown as Rgb;
  const brightness = luminance(found) / luminance(usual);
  return usual.map((value, c) => (value / found[c]) * brightness) as unknown as Rgb;
}

/** Returns the pixels at some places. */
export function pick(lab: Lab, places: ArrayLike<number>): Lab {
  const take = (values: Float64Array) => {
    const taken = new Float64Array(places.length);
    for (let i = 0; i < taken.length; i++) taken[i] = values[places[i]];
    return taken;
  };
  return { lightness: take(lab.lightness), a: take(lab.a), b: take(lab.b) };
}

const NAMES = Object.keys(REFERENCES);
const SHADES = toLab(Object.values(REFERENCES).flat(2));
const OWNERS = Object.values(REFERENCES).flatMap((shades, owner) => shades.map(() => owner));

/** Returns the share of a lesion that has each of the six colours; the rest has none. */
export function colourShares(lesion: Lab, skin: Lab): Record<string, number> {
  const around = skin.lightness.length
    ? [median(skin.lightness), median(skin.a), median(skin.b)]
    : labOf(SKIN);
  const counts = NAMES.map(() => 0);
  const total = lesion.lightness.length;
  for (let i = 0; i < total; i++) {
    const owner = ownerOf(lesion.lightness[i], lesion.a[i], lesion.b[i], around);
    if (owner >= 0) counts[owner] += 1;
  }
  return Object.fromEntries(NAMES.map((name, i) => [name, counts[i] / total]));
}

/** Returns the index of a pixel's colour, -1 for none. */
function ownerOf(lightness: number, a: number, b: number, around: readonly number[]): number {
  let owner = -1;
  let least = Infinity;
  for (let shade = 0; shade < OWNERS.length; shade++) {
    const squared =
      (lightness - SHADES.lightness[shade]) ** 2 +
      (a - SHADES.a[shade]) ** 2 +
      (b - SHADES.b[shade]) ** 2;
    if (squared < least) {
      owner = OWNERS[shade];
      least = squared;
    }
  }
  const toSkin = (lightness - around[0]) ** 2 + (a - around[1]) ** 2 + (b - around[2]) ** 2;
  if (toSkin < least || least > LARGEST_DISTANCE ** 2) return -1;
  return NAMES[owner] === "white" && lightness <= around[0] ? -1 : owner;
}

function labOf(rgb: Rgb): number[] {
  const { lightness, a, b } = toLab(rgb);
  return [lightness[0], a[0], b[0]];
}

function luminance(light: Rgb): number {
  return TO_XYZ[1][0] * light[0] + TO_XYZ[1][1] * light[1] + TO_XYZ[1][2] * light[2];
}

function bend(value: number): number {
  return value > 216 / 24389 ? Math.cbrt(value) : value * (841 / 108) + 4 / 29;
}
