/** A mask's file is read back as it was. */
import { expect, test } from "vitest";
import { greyPng } from "../src/decoding/greypng";
import { decodePng, readPng } from "../src/decoding/png";
import { checkFile } from "../src/worker/sniff";

test("grey pixels come back from their PNG", async () => {
  const levels = Uint8Array.from({ length: 23 * 17 }, (_, i) => (i % 5 === 0 ? 255 : 0));
  const file = await greyPng(levels, 23, 17);
  expect(file.type).toBe("image/png");
  const bytes = new Uint8Array(await file.arrayBuffer());
  expect(checkFile(bytes)).toBe("PNG");
  const png = readPng(bytes);
  expect([png.width, png.height, png.depth, png.colour]).toEqual([23, 17, 8, 0]);
  const { data } = await decodePng(png);
  expect([...data].filter((_, i) => i % 4 === 0)).toEqual([...levels]);
});
