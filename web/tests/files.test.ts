/** Files of every kind are refused, turned and decoded as the library does it. */
import { readFileSync } from "node:fs";
import { deflateSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { plainJpeg, plainWebp, readOrientation, turned } from "../src/decoding/orientation";
import { decodePng, readPng } from "../src/decoding/png";
import { checkFile } from "../src/worker/sniff";
import { type PackedBytes, rasterOf, withAlpha } from "./vectors";

interface FileVector {
  readonly name: string;
  readonly file: string;
  readonly refused: boolean;
  readonly orientation?: number;
  readonly rgb?: PackedBytes;
}

const files: FileVector[] = JSON.parse(
  readFileSync(new URL("./files.json", import.meta.url), "utf8"),
);
const named = (start: string) =>
  files.filter(({ name }) => name.startsWith(start)).map((each) => [each.name, each] as const);
const contentOf = ({ file }: FileVector) => new Uint8Array(Buffer.from(file, "base64"));

/** Returns a PNG's pixels as the app reads them. */
async function read(file: Uint8Array) {
  checkFile(file);
  const png = readPng(file);
  return turned(await decodePng(png), readOrientation(png.exif));
}

test.each(named("PNG"))("%s", async (_, vector) => {
  if (vector.refused) {
    await expect(read(contentOf(vector))).rejects.toThrow();
    return;
  }
  const found = await read(contentOf(vector));
  const expected = withAlpha(rasterOf(vector.rgb!));
  expect([found.width, found.height]).toEqual([expected.width, expected.height]);
  expect(Buffer.from(found.data).equals(expected.data)).toBe(true);
});

test.each(named("JPEG"))("%s", (_, vector) => {
  const file = contentOf(vector);
  if (vector.refused) {
    expect(() => checkFile(file)).toThrow(/^(The JPEG image is damaged inside: |This is a JPEG image )/);
    return;
  }
  expect(checkFile(file)).toBe("JPEG");
  if (vector.orientation) expect(plainJpeg(file).orientation).toBe(vector.orientation);
});

test.each(named("WebP"))("%s", (_, vector) => {
  expect(checkFile(contentOf(vector))).toBe("WebP");
  expect(plainWebp(contentOf(vector)).orientation).toBe(vector.orientation);
});

describe("what would turn an image is blanked before a browser sees it", () => {
  test.each([...named("JPEG, XMP"), ...named("WebP, XMP")])("%s", (_, vector) => {
    const plain = vector.name.startsWith("JPEG") ? plainJpeg : plainWebp;
    const { bytes } = plain(contentOf(vector));
    expect(bytes.length).toBe(contentOf(vector).length);
    const text = Buffer.from(bytes).toString("latin1");
    expect(text).not.toMatch(/Exif|tiff:Orientation/);
    expect(plain(bytes).orientation).toBe(1);
  });
});

test("an image is turned to each side", () => {
  const data = Uint8Array.from([1, 2, 3, 4, 5, 6].flatMap((value) => [value, 0, 0, 255]));
  const stored = { width: 3, height: 2, channels: 4, data }; // 1 2 3 / 4 5 6
  const rows = (orientation: number) => {
    const { width, height, data: found } = turned(stored, orientation);
    const reds = [...found].filter((_, i) => i % 4 === 0);
    return Array.from({ length: height }, (_, y) => reds.slice(y * width, (y + 1) * width).join(""));
  };
  expect([1, 2, 3, 4].map(rows)).toEqual([
    ["123", "456"], ["321", "654"], ["654", "321"], ["456", "123"],
  ]);
  expect([5, 6, 7, 8].map(rows)).toEqual([
    ["14", "25", "36"], ["41", "52", "63"], ["63", "52", "41"], ["36", "25", "14"],
  ]);
});

test("an inflated stream may be longer than the picture", async () => {
  const vector = files.find(({ name }) => name === "PNG, colour type 0, 8 bits")!;
  const png = readPng(contentOf(vector));
  const rows = (1 + png.width) * png.height;
  const longer = { ...png, data: [new Uint8Array(deflateSync(Buffer.alloc(rows + 999)))] };
  expect((await decodePng(longer)).data.length).toBe(4 * png.width * png.height);
});
