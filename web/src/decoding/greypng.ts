/** Grey pixels as PNG: a quarter of the bytes of a canvas, and packed away from the page's thread. */
import { crc32 } from "./crc";

/** Returns 8-bit grey pixels as a PNG file. */
export async function greyPng(levels: Uint8Array, width: number, height: number): Promise<Blob> {
  const rows = new Uint8Array(height * (1 + width)); // each behind the number of its filter: none
  for (let y = 0; y < height; y++) {
    rows.set(levels.subarray(y * width, (y + 1) * width), y * (1 + width) + 1);
  }
  const packing = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
  const packed = new Uint8Array(await new Response(packing).arrayBuffer());
  const head = Uint8Array.of(...bigEndian(width), ...bigEndian(height), 8, 0, 0, 0, 0);
  const parts = [chunk("IHDR", head), chunk("IDAT", packed), chunk("IEND", new Uint8Array())];
  return new Blob([Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10), ...parts], { type: "image/png" });
}

function chunk(name: string, body: Uint8Array): Uint8Array<ArrayBuffer> {
  const found = new Uint8Array(body.length + 12);
  found.set(bigEndian(body.length), 0);
  found.set(new TextEncoder().encode(name), 4);
  found.set(body, 8);
  found.set(bigEndian(crc32(found.subarray(4, -4))), body.length + 8);
  return found;
}

function bigEndian(value: number): number[] {
  return [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
}
