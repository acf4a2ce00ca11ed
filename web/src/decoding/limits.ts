/** How many parts a file may have, as in the library: a picture needs fewer. */
import { Damage } from "./damage";

export const MAX_PIXELS = 37_000_000;
/** What decoding may take in memory for each pixel; what takes more may have fewer. */
export const PIXEL_BYTES = 8;

const MOST = {
  segments: 2_000, // of a JPEG
  scans: 100,
  chunks: 100_000, // of a PNG or WebP
  blocks: 1_000_000, // of a GIF
} as const;

/** Returns a function that is called for each part of a file, and throws where they are too many. */
export function counter(what: keyof typeof MOST): () => void {
  let count = 0;
  return () => {
    if (++count > MOST[what]) throw new Damage(`it has more than ${MOST[what]} ${what}`);
  };
}
