/** Files are told by their first bytes, and what cannot be analysed is refused with a reason. */
import { describe, expect, test } from "vitest";
import { checkFile, checkSize } from "../src/worker/sniff";

const text = (letters: string) => Array.from(letters, (letter) => letter.charCodeAt(0));
const big = (value: number) => [value >>> 24, (value >> 16) & 255, (value >> 8) & 255, value & 255];
const png = (width: number, height: number, ...chunks: number[][]) =>
  Uint8Array.from([
    ...text("\x89PNG\r\n\x1a\n"),
    ...big(13), ...text("IHDR"), ...big(width), ...big(height), 8, 2, 0, 0, 0, ...big(0),
    ...chunks.flat(),
  ]);
const control = (frames: number) =>
  [...big(8), ...text("acTL"), ...big(frames), ...big(0), ...big(0)];
const jpeg = (width: number, height: number) =>
  Uint8Array.from([
    0xff, 0xd8,
    0xff, 0xe1, 0, 4, 9, 9, // a segment to skip
    0xff, 0xc2, 0, 17, 8, height >> 8, height & 255, width >> 8, width & 255, 3, 0, 0,
  ]);
const frame = [0x2c, 0, 0, 0, 0, 20, 0, 20, 0, 0, 2, 1, 0, 0];
const gif = (frames: number) =>
  Uint8Array.from([
    ...text("GIF89a"), 20, 0, 20, 0, 0, 0, 0,
    ...Array.from({ length: frames }, () => frame).flat(),
    ...Array(12).fill(0x3b),
  ]);

describe("what can be analysed passes", () => {
  test.each([
    ["PNG", png(20, 20)],
    ["a PNG of one frame", png(20, 20, control(1))],
    ["JPEG", jpeg(20, 20)],
    ["GIF of one frame", gif(1)],
    ["BMP", Uint8Array.from(text("BM123456"))],
  ])("%s", (_, bytes) => expect(() => checkFile(bytes)).not.toThrow());
});

describe("what cannot is refused", () => {
  test.each([
    ["an empty file", new Uint8Array(), /empty/],
    ["text", Uint8Array.from(text("# dermfuse")), /not an image/],
    ["TIFF", Uint8Array.from(text("II*\0....")), /TIFF.*dermfuse analyze/],
    ["HEIC", Uint8Array.from([0, 0, 0, 24, ...text("ftypheic")]), /HEIC/],
    ["DICOM", Uint8Array.from([...Array(128).fill(0), ...text("DICM")]), /DICOM/],
    ["an animated PNG", png(20, 20, control(2)), /animated/],
    ["an animated GIF", gif(2), /animated/],
    ["an animated WebP", Uint8Array.from([...text("RIFF0000WEBPVP8X0000"), 2]), /animated/],
    ["a huge PNG", png(20_000, 20_000), /20000 × 20000 pixels: too many/],
    ["a thin JPEG", jpeg(300, 15), /300 × 15 pixels: too few/],
  ])("%s", (_, bytes, reason) => expect(() => checkFile(bytes)).toThrow(reason));
});

test("the limits are those of the library", () => {
  expect(() => checkSize(10_000, 10_000)).not.toThrow();
  expect(() => checkSize(10_001, 10_000)).toThrow(/too many/);
  expect(() => checkSize(16, 16)).not.toThrow();
  expect(() => checkSize(15, 16)).toThrow(/too few/);
});
