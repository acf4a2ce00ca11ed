/** A stretch of a JPEG's coded data, read bit by bit; ones follow the last. */
import { Damage } from "./damage";

/** How coded data that does not last is called. */
export const CUT = "its coded data is damaged, or ends before the picture does";
const SLACK_BYTES = 8;

export class Bits {
  /** The next bit. */
  at = 0;
  /** The data without the zeros that keep it apart from markers, and with slack behind it. */
  readonly data: Uint8Array;
  /** How many bytes of it are the file's own. */
  readonly length: number;

  constructor(coded: Uint8Array) {
    const data = new Uint8Array(coded.length + SLACK_BYTES);
    let length = 0;
    for (let i = 0; i < coded.length; i++) {
      data[length++] = coded[i];
      if (coded[i] === 0xff && coded[i + 1] === 0) i += 1;
    }
    data.fill(0xff, length, length + SLACK_BYTES);
    this.data = data;
    this.length = length;
  }

  /** Returns the next 16 bits, and stays. */
  window(): number {
    const byte = this.at >> 3;
    if (byte > this.length) throw new Damage(CUT);
    const { data } = this;
    const three = (data[byte] << 16) | (data[byte + 1] << 8) | data[byte + 2];
    return (three >> (8 - (this.at & 7))) & 0xffff;
  }

  /** Returns the next bits, 14 at most, as a number. */
  take(count: number): number {
    const taken = this.window() >> (16 - count);
    this.at += count;
    return taken;
  }
}
