/** How far an image lies from those learnt from (`dermfuse.release.gate`). */

const APPEARANCE_WEIGHT = 0.5;
const RIDGE = 0.1; // of the unit variance of a standardised feature

/** An array as the build writes it: little-endian single precision in base64. */
export interface PackedArray {
  readonly shape: readonly number[];
  readonly float32: string;
}

const PARTS = ["mean", "scale", "axes", "variance", "rest", "typical"] as const;

type CloudPart = (typeof PARTS)[number];

/** What dermoscopy looks like, as the build writes it. */
export interface PackedDermoscopy {
  readonly embedding: Readonly<Record<CloudPart, PackedArray>>;
  readonly appearance: Readonly<Record<CloudPart, PackedArray>>;
}

type Cloud = Readonly<Record<CloudPart, Float32Array>>;

/** What dermoscopy looks like, to the networks and to plain statistics. */
export interface Dermoscopy {
  readonly embedding: Cloud;
  readonly appearance: Cloud;
}

/** Returns numbers from base64. */
export function unpackFloats(base64: string): Float32Array {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

/** Returns the arrays of a release's gate; refuses others. */
export function unpackDermoscopy(packed: unknown): Dermoscopy {
  const { embedding, appearance } = (packed ?? {}) as Partial<PackedDermoscopy>;
  return {
    embedding: unpackCloud(embedding, "embedding"),
    appearance: unpackCloud(appearance, "appearance"),
  };
}

/** Returns how far an image lies from dermoscopy; about 1 is typical of it. */
export function dermoscopyDistance(
  found: Dermoscopy,
  embeddings: readonly Float32Array[],
  appearance: Float32Array,
): number {
  const seen = cloudDistance(found.embedding, joinEmbeddings(embeddings));
  const looks = cloudDistance(found.appearance, appearance);
  return Math.hypot(seen, APPEARANCE_WEIGHT * looks) / Math.hypot(1, APPEARANCE_WEIGHT);
}

/** Returns the embeddings of several networks, each of length 1, end to end. */
export function joinEmbeddings(embeddings: readonly Float32Array[]): Float32Array {
  return Float32Array.from(
    embeddings.flatMap((one) => {
      const length = Math.max(Math.sqrt(one.reduce((sum, value) => sum + value * value, 0)), 1e-12);
      return Array.from(one, (value) => value / length);
    }),
  );
}

/** Returns the Mahalanobis distance of features, 1 where it is typical. */
export function cloudDistance(cloud: Cloud, features: Float32Array): number {
  const count = features.length;
  if (count !== cloud.mean.length) {
    throw new Error(`the gate is for ${cloud.mean.length} features, and there are ${count}`);
  }
  const z = Float64Array.from(features, (value, i) => (value - cloud.mean[i]) / cloud.scale[i]);
  let outside = z.reduce((sum, value) => sum + value * value, 0);
  let squared = 0;
  cloud.variance.forEach((variance, k) => {
    let along = 0;
    for (let i = 0; i < count; i++) along += z[i] * cloud.axes[k * count + i];
    squared += along ** 2 / (variance + RIDGE);
    outside -= along ** 2;
  });
  squared += Math.max(outside, 0) / (cloud.rest[0] + RIDGE);
  return Math.sqrt(squared / count) / cloud.typical[0];
}

function unpackCloud(packed: PackedDermoscopy["embedding"] | undefined, name: string): Cloud {
  const arrays = PARTS.map((part) => [part, unpackPart(packed?.[part], `${name}.${part}`)] as const);
  const cloud = Object.fromEntries(arrays) as Record<CloudPart, Float32Array>;
  const [features, axes] = [cloud.mean.length, cloud.variance.length];
  const lengths = { mean: features, scale: features, axes: axes * features, variance: axes };
  const isCloud =
    features > 0 &&
    Object.entries({ ...lengths, rest: 1, typical: 1 }).every(
      ([part, length]) => cloud[part as CloudPart].length === length,
    ) &&
    [...cloud.scale, ...cloud.typical].every((value) => value > 0) &&
    [...cloud.variance, ...cloud.rest].every((value) => value >= 0);
  if (!isCloud) throw refusal(name);
  return cloud;
}

function unpackPart(packed: PackedArray | undefined, name: string): Float32Array {
  try {
    const values = unpackFloats(packed!.float32);
    const length = packed!.shape.reduce((product, side) => product * side, 1);
    if (values.length === length && values.every(Number.isFinite)) return values;
  } catch {
    // No base64, or no array at all: as good as other numbers.
  }
  throw refusal(name);
}

function refusal(name: string): Error {
  return new Error(
    `dermoscopy.json: ${name} does not hold what a gate of dermfuse does. ` +
      "Build the app with another release.",
  );
}
