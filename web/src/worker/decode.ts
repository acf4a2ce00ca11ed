/** From a file to upright, opaque pixels: as `dermfuse.imaging.preprocess` reads it. */
import type { Raster } from "../analysis/raster";
import { Damage } from "../decoding/damage";
import { plainJpeg, plainWebp, readOrientation, turned } from "../decoding/orientation";
import { decodePng, readPng } from "../decoding/png";
import { checkBytes, checkFile, checkSize, damaged, type Format, Refusal } from "./sniff";

/** An image's pixels, and the same for the screen. */
export interface Decoded {
  readonly pixels: Raster;
  readonly picture: ImageBitmap;
}

const JPEG_END = Uint8Array.of(0xff, 0xd9); // some files lack it, and Pillow does not miss it

/**
 * Returns the pixels of a file: EXIF orientation applied, colour profiles left alone,
 * transparency laid on white.
 */
export async function decode(file: Blob): Promise<Decoded> {
  checkBytes(file.size);
  const bytes = new Uint8Array(await file.arrayBuffer());
  const format = checkFile(bytes);
  const pixels = await (format === "PNG" ? readOwn(bytes) : readByBrowser(bytes, format));
  return { pixels, picture: pictureOf(pixels) };
}

async function readOwn(bytes: Uint8Array): Promise<Raster> {
  const png = readPng(bytes);
  try {
    return turned(await decodePng(png), readOrientation(png.exif));
  } catch (error) {
    if (error instanceof RangeError) throw tooLarge(png.width, png.height);
    throw error instanceof Damage ? damaged("PNG", error.message) : error;
  }
}

async function readByBrowser(bytes: Uint8Array, format: Format): Promise<Raster> {
  const plain =
    format === "JPEG" ? plainJpeg(bytes)
    : format === "WebP" ? plainWebp(bytes)
    : { bytes, orientation: 1 };
  const bitmap = await bitmapOf(new Blob([plain.bytes as BlobPart, ...(format === "JPEG" ? [JPEG_END] : [])]));
  const { width, height } = bitmap;
  checkSize(width, height);
  const context = drawingOf(width, height);
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const data = new Uint8Array(readPixels(context, width, height).data.buffer);
  return turned({ width, height, channels: 4, data }, plain.orientation);
}

/** Returns a blob's image, as stored: nothing in it turns it any more. */
async function bitmapOf(blob: Blob): Promise<ImageBitmap> {
  try {
    return await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new Refusal(
      "The image is damaged, or of a kind that this browser cannot decode. Save it as PNG.",
    );
  }
}

function pictureOf({ width, height, data }: Raster): ImageBitmap {
  const context = drawingOf(width, height);
  const pixels = new Uint8ClampedArray(data.buffer as ArrayBuffer, data.byteOffset, data.length);
  context.putImageData(new ImageData(pixels, width, height), 0, 0);
  return context.canvas.transferToImageBitmap();
}

function drawingOf(width: number, height: number): OffscreenCanvasRenderingContext2D {
  const context = new OffscreenCanvas(width, height).getContext("2d", {
    willReadFrequently: true,
    colorSpace: "srgb",
  });
  if (!context) throw tooLarge(width, height);
  return context;
}

function readPixels(
  context: OffscreenCanvasRenderingContext2D,
  width: number,
  height: number,
): ImageData {
  try {
    return context.getImageData(0, 0, width, height);
  } catch {
    throw tooLarge(width, height);
  }
}

function tooLarge(width: number, height: number): Refusal {
  return new Refusal(
    `The image has ${width} × ${height} pixels, more than this browser can hold. Shrink it.`,
  );
}
