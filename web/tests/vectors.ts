/** The test vectors that `dermfuse export --vectors` writes, of a release with tiny networks. */
import { readFileSync } from "node:fs";
import { inflateSync } from "node:zlib";
import { type PackedArray, type PackedDermoscopy, unpackFloats } from "../src/analysis/gate";
import type { Answers } from "../src/analysis/fusion";
import type { Looks } from "../src/analysis/looks";
import type { Mask, Raster } from "../src/analysis/raster";
import type { Release } from "../src/release/records";

export interface PackedBytes {
  readonly shape: readonly number[];
  readonly zlib: string;
}

interface PackedImage {
  readonly name: string;
  readonly rgb: PackedBytes;
  readonly squeezed: Readonly<Record<string, PackedBytes>>;
  readonly answers: Readonly<Record<string, Readonly<Record<string, PackedArray>>>>;
  readonly malignant_by_look: Readonly<Record<string, PackedArray>>;
  readonly reduced_sha256: string;
  readonly appearance: readonly number[];
  readonly mask: PackedBytes;
  readonly activation: PackedArray;
  readonly analysis: Readonly<Record<string, unknown>>;
}

interface Vectors {
  readonly release: Release;
  readonly looks: Looks;
  readonly dermoscopy: PackedDermoscopy;
  readonly features: readonly string[];
  readonly images: readonly PackedImage[];
}

export const vectors: Vectors = JSON.parse(
  readFileSync(new URL("vectors.json", import.meta.url), "utf8"),
);

export function bytesOf(packed: PackedBytes): Uint8Array {
  return Uint8Array.from(inflateSync(Buffer.from(packed.zlib, "base64")));
}

export function rasterOf(packed: PackedBytes): Raster {
  const [height, width, channels] = packed.shape;
  return { width, height, channels, data: bytesOf(packed) };
}

export function maskOf(packed: PackedBytes): Mask {
  const [height, width] = packed.shape;
  return { width, height, data: bytesOf(packed) };
}

/** Returns the answers of the class networks, then of the mask networks. */
export function answersOf(image: PackedImage): Answers[] {
  const { classes, masks } = vectors.release;
  return [...classes.members, ...masks.members].map(({ name }) => {
    const malignant = image.malignant_by_look[name];
    const packed = { ...image.answers[name], ...(malignant && { malignant }) };
    return Object.fromEntries(
      Object.entries(packed).map(([output, { shape, float32 }]) => [
        output,
        { shape, data: unpackFloats(float32) },
      ]),
    );
  });
}

/** Returns an image as a canvas has it: four channels, the last opaque. */
export function withAlpha(image: Raster): Raster {
  const data = new Uint8Array(image.width * image.height * 4).fill(255);
  for (let i = 0, at = 0; i < image.data.length; i++) {
    data[at++] = image.data[i];
    if (i % 3 === 2) at++;
  }
  return { ...image, channels: 4, data };
}
