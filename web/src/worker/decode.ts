/** From a file to upright, opaque pixels: as `dermfuse.preprocess` reads it, as near as can be. */
import type { Raster } from "../analysis/raster";
import { checkFile, checkSize, Refusal } from "./sniff";

/** An image's pixels, and the same for the screen. */
export interface Decoded {
  readonly pixels: Raster;
  readonly picture: ImageBitmap;
}

/**
 * Returns the pixels of a file: EXIF orientation applied, colour profiles left alone,
 * transparency laid on white.
 */
export async function decode(file: Blob): Promise<Decoded> {
  checkFile(new Uint8Array(await file.arrayBuffer()));
  const bitmap = await bitmapOf(file);
  const { width, height } = bitmap;
  checkSize(width, height);
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
  if (!context) throw tooLarge(width, height);
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const data = new Uint8Array(readPixels(context, width, height).data.buffer);
  return { pixels: { width, height, channels: 4, data }, picture: canvas.transferToImageBitmap() };
}

async function bitmapOf(file: Blob): Promise<ImageBitmap> {
  try {
    return await createImageBitmap(file, {
      colorSpaceConversion: "none",
      premultiplyAlpha: "none",
      imageOrientation: "from-image",
    });
  } catch {
    throw new Refusal(
      "The image is damaged, or of a kind that this browser cannot decode. Save it as PNG.",
    );
  }
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
