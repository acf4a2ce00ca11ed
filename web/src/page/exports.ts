/** Files to keep: the overlay and the mask as PNG, the record as JSON. */
import type { Analysis } from "../analysis/analysis";
import { greyPng } from "../decoding/greypng";
import { make } from "./elements";
import { AGAINST_WORDS, FOR_WORDS, legendStops } from "./tint";
import type { Viewer } from "./viewer";

const LINE_SHARE = 1 / 320; // of the longer side
const BAND_SHARE = 1 / 26;
const INK = "#13242a";

/** Gives a file to the person. */
export function save(content: Blob, name: string): void {
  const link = make("a", { href: URL.createObjectURL(content), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** Returns a record as a JSON file. */
export function jsonFile(record: object): Blob {
  return new Blob([`${JSON.stringify(record, null, 2)}\n`], { type: "application/json" });
}

/** Returns the mask as the challenge and `dermfuse.imaging.preprocess.write_mask` have it: 0 and 255, grey. */
export function maskFile({ mask }: Analysis): Promise<Blob> {
  const levels = new Uint8Array(mask.data.length);
  for (let i = 0; i < levels.length; i++) levels[i] = 255 * mask.data[i];
  return greyPng(levels, mask.width, mask.height);
}

/** Returns the image with the overlays that are shown, their legend and the notice below it. */
export function overlayFile({ analysis, picture, shown, tinted }: Viewer): Promise<Blob> {
  const { width, height } = analysis;
  const longer = Math.max(width, height);
  const band = Math.max(16, Math.round(longer * BAND_SHARE));
  const bottom = height + (shown.activation > 0 ? band : 0);
  const canvas = make("canvas", { width, height: bottom + band });
  const context = canvas.getContext("2d")!;
  context.drawImage(picture, 0, 0);
  context.imageSmoothingQuality = "high";
  context.globalAlpha = shown.activation;
  context.drawImage(tinted, 0, 0, width, height);
  context.globalAlpha = shown.contour;
  const line = Math.max(1, Math.round(longer * LINE_SHARE));
  stroke(context, analysis, "#fff", line + 2 * Math.max(1, Math.floor(line / 2)));
  stroke(context, analysis, "rgb(0, 90, 200)", line);
  context.globalAlpha = 1;
  context.fillStyle = "#fff";
  context.fillRect(0, height, width, canvas.height - height);
  context.textBaseline = "middle";
  context.font = `${Math.round(band * 0.5)}px sans-serif`;
  if (bottom > height) drawLegend(context, { top: height, width, band });
  context.fillStyle = INK;
  context.fillText(analysis.notice, band / 3, bottom + band / 2, width - (2 * band) / 3);
  return pngOf(canvas);
}

function drawLegend(
  context: CanvasRenderingContext2D,
  { top, width, band }: { top: number; width: number; band: number },
): void {
  const third = width / 3;
  const edge = band / 3;
  const room = third - 2 * edge;
  const gradient = context.createLinearGradient(third, 0, 2 * third, 0);
  for (const [at, colour] of legendStops()) gradient.addColorStop(at, colour);
  context.fillStyle = gradient;
  context.fillRect(third, top + band / 4, third, band / 2);
  context.fillStyle = INK;
  context.textAlign = "right";
  context.fillText(AGAINST_WORDS, third - edge, top + band / 2, room);
  context.textAlign = "left";
  context.fillText(FOR_WORDS, 2 * third + edge, top + band / 2, room);
}

function stroke(
  context: CanvasRenderingContext2D,
  { outline }: Analysis,
  colour: string,
  width: number,
): void {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.lineJoin = "round";
  for (const ring of outline) {
    context.beginPath();
    for (const [x, y] of ring) context.lineTo(x, y);
    context.closePath();
    context.stroke();
  }
}

function pngOf(canvas: HTMLCanvasElement): Promise<Blob> {
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => {
      if (blob) resolve(blob);
      else reject(new Error("the image is too large for a PNG file"));
    }, "image/png");
  });
}
