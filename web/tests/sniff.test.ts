/** Files are told by their first bytes, and what cannot be analysed is refused with a reason. */
import { describe, expect, test } from "vitest";
import { crc32 } from "../src/decoding/crc";
import { checkFile, checkSize } from "../src/worker/sniff";

const text = (letters: string) => Array.from(letters, (letter) => letter.charCodeAt(0));
const big = (value: number) => [value >>> 24, (value >> 16) & 255, (value >> 8) & 255, value & 255];
const chunk = (name: string, ...body: number[]) => {
  const content = [...text(name), ...body];
  return [...big(body.length), ...content, ...big(crc32(Uint8Array.from(content)))];
};
const png = (width: number, height: number, ...chunks: number[][]) =>
  Uint8Array.from([
    ...text("\x89PNG\r\n\x1a\n"),
    ...chunk("IHDR", ...big(width), ...big(height), 8, 2, 0, 0, 0),
    ...chunks.flat(),
    ...chunk("IDAT", 0),
  ]);
const control = (frames: number) => chunk("acTL", ...big(frames), ...big(0));
const frameControl = chunk("fcTL", ...Array(26).fill(0));
const jpeg = (width: number, height: number) =>
  Uint8Array.from([
    0xff, 0xd8,
    0xff, 0xe1, 0, 4, 9, 9, // a segment to skip
    0xff, 0xc2, 0, 17, 8, height >> 8, height & 255, width >> 8, width & 255, 3,
    1, 0x22, 0, 2, 0x11, 0, 3, 0x11, 0,
  ]);
const webp = (frames: number) =>
  Uint8Array.from([
    ...text("RIFF0000WEBPVP8X"), 10, 0, 0, 0, 2, ...Array(9).fill(0),
    ...Array.from({ length: frames }, () => [...text("ANMF"), 3, 0, 0, 0, 1, 2, 3, 0]).flat(),
  ]);
const bmp = (width: number, height: number) => {
  const view = new DataView(new ArrayBuffer(54));
  text("BM").forEach((letter, i) => view.setUint8(i, letter));
  view.setUint32(14, 40, true);
  view.setInt32(18, width, true);
  view.setInt32(22, height, true);
  return new Uint8Array(view.buffer);
};
const frame = [0x2c, 0, 0, 0, 0, 20, 0, 20, 0, 0, 2, 1, 0, 0];
const gif = (frames: number, width = 20) =>
  Uint8Array.from([
    ...text("GIF89a"), width, 0, 20, 0, 0, 0, 0,
    ...Array.from({ length: frames }, () => frame).flat(),
    ...Array(12).fill(0x3b),
  ]);

/** A grey JPEG of 20 x 20 pixels, in several passes. */
const jpegOf = (segments: number[][]) =>
  Uint8Array.from([
    0xff, 0xd8, 0xff, 0xc2, 0, 11, 8, 0, 20, 0, 20, 1, 1, 0x11, 0, ...segments.flat(), 0xff, 0xd9,
  ]);
const TABLES = [[0xff, 0xc4, 0, 20, 0, 1, ...Array(16).fill(0)]];
const REFINING = [0xff, 0xda, 0, 8, 1, 1, 0, 0, 0, 0x10, 0, 0]; // nine blocks, one bit each
const RESTARTED = [0xff, 0xda, 0, 8, 1, 1, 0, 0, 0, 0, ...Array(1_000).fill([0xff, 0xd0]).flat()];
const longGif = new Uint8Array(2_000_100);
longGif.set([...text("GIF89a"), 20, 0, 20, 0, 0, 0, 0, 0x21, 0xfe]);
for (let at = 15; at < longGif.length; at += 2) longGif[at] = 1;

describe("what can be analysed passes", () => {
  test.each([
    ["PNG", png(20, 20)],
    ["a PNG of one frame", png(20, 20, control(1), frameControl)],
    ["GIF of one frame", gif(1)],
    ["WebP of one frame", webp(1)],
    ["BMP from the bottom", bmp(20, 20)],
    ["BMP from the top", bmp(20, -20)],
  ])("%s", (_, bytes) => expect(() => checkFile(bytes)).not.toThrow());
});

describe("what cannot is refused", () => {
  test.each([
    ["an empty file", new Uint8Array(), /empty/],
    ["text", Uint8Array.from(text("# dermfuse")), /not an image/],
    ["TIFF", Uint8Array.from(text("II*\0....")), /TIFF.*dermfuse analyze/],
    ["TIFF of more than 4 GB", Uint8Array.from(text("MM\0+....")), /TIFF.*dermfuse analyze/],
    ["HEIC", Uint8Array.from([0, 0, 0, 24, ...text("ftypheic")]), /HEIC image.*Most Compatible/],
    [
      "HEIC that calls itself a picture first",
      Uint8Array.from([0, 0, 0, 24, ...text("ftypmif1\0\0\0\0mif1heic")]),
      /HEIC/,
    ],
    ["AVIF", Uint8Array.from([0, 0, 0, 24, ...text("ftypavif")]), /AVIF/],
    ["a film", Uint8Array.from([0, 0, 0, 24, ...text("ftypqt  ")]), /film.*one frame/],
    ["JPEG 2000", Uint8Array.from(text("\0\0\0\x0cjP  \r\n")), /JPEG 2000/],
    ["a codestream", Uint8Array.of(0xff, 0x4f, 0xff, 0x51), /JPEG 2000/],
    ["an archive", Uint8Array.from(text("PK\x03\x04")), /ZIP archive.*Unpack/],
    ["a drawing", Uint8Array.from(text("<svg xmlns=''>")), /text document/],
    ["DICOM", Uint8Array.from([...Array(128).fill(0), ...text("DICM")]), /DICOM/],
    ["DICOM without its preamble", Uint8Array.from(text("\x02\0\0\0UL")), /DICOM/],
    ["an animated PNG", png(20, 20, control(2), frameControl), /animated/],
    ["a PNG of one frame behind another image", png(20, 20, control(1)), /animated/],
    ["an animated GIF", gif(2), /animated/],
    ["a GIF that is larger than the image in it", gif(1, 30), /part of its frame/],
    ["an animated WebP", webp(2), /animated/],
    ["a huge PNG", png(20_000, 20_000), /20000 × 20000 pixels: too many/],
    ["a huge BMP", bmp(20_000, -20_000), /20000 × 20000 pixels: too many/],
    ["a JPEG of many segments", jpegOf(Array(2_001).fill([0xff, 0xe1, 0, 2])), /more than 2000 segments/],
    ["a JPEG of many scans", jpegOf([...TABLES, ...Array(101).fill(REFINING)]), /more than 100 scans/],
    ["a JPEG of many restart markers", jpegOf([...TABLES, RESTARTED]), /one too many/],
    ["a PNG of many chunks", png(20, 20, ...Array(100_001).fill(chunk("juNK"))), /more than 100000 chunks/],
    ["a WebP of many chunks", webp(100_001), /more than 100000 chunks/],
    ["a GIF of many blocks", longGif, /more than 1000000 blocks/],
    ["a thin JPEG", jpeg(300, 15), /300 × 15 pixels: too few/],
  ])("%s", (_, bytes, reason) => expect(() => checkFile(bytes)).toThrow(reason));
});

test("the limits are those of the library", () => {
  expect(() => checkSize(10_000, 3_700)).not.toThrow();
  expect(() => checkSize(10_000, 3_701)).toThrow(/too many/);
  expect(() => checkSize(4_000, 4_000, 16)).not.toThrow(); // a half of 37 million
  expect(() => checkSize(5_000, 4_000, 16)).toThrow(/too many/);
  expect(() => checkSize(16, 16)).not.toThrow();
  expect(() => checkSize(15, 16)).toThrow(/too few/);
  expect(() => checkSize(16, 320)).not.toThrow();
  expect(() => checkSize(321, 16)).toThrow(/too thin/);
});
