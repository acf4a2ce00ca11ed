/** JPEG's Huffman tables as look-ups of 16 bits: how far one symbol, or several, reach. */
import { Damage } from "./damage";

/** Added to the places a step moves on by if it ends the block: more than any step from a block. */
export const END = 128;
const INVALID = 255; // the places where no code fits
const MOST_PLACES = 48; // from here on no code is joined: a step from place 63 stays below END
const WINDOWS = 2 ** 16;
const ZERO_RUN = 0xf0; // sixteen zeros

/** Bits that a step takes, and coefficients that it moves on by, for the next 16 bits. */
export interface Steps {
  readonly bits: Uint8Array;
  readonly places: Uint8Array;
}

/** A Huffman table, by the next 16 bits; each look-up is made when it is used. */
export class Table {
  /** Bits of the code; 0 where none fits. */
  readonly lengths = new Uint8Array(WINDOWS);
  /** What the code stands for. */
  readonly symbols = new Uint8Array(WINDOWS);
  private dc: Uint8Array | null = null;
  private one: Steps | null = null;
  private many: Steps | null = null;

  /**
   * @param counts - How many codes there are of 1 to 16 bits.
   * @param values - What they stand for, shortest codes first.
   */
  constructor(counts: Uint8Array, values: Uint8Array) {
    let [at, next] = [0, 0];
    counts.forEach((count, i) => {
      const span = 2 ** (15 - i);
      for (let k = 0; k < count; k++, at += span) {
        this.lengths.fill(i + 1, at, at + span);
        this.symbols.fill(values[next++], at, at + span);
      }
    });
    if (at > WINDOWS) throw new Damage("a Huffman table has more codes than fit");
  }

  /** Bits of a DC code and its value; 0 where none fits. */
  get categories(): Uint8Array {
    const { symbols } = this;
    return (this.dc ??= this.lengths.map((length, i) =>
      length && symbols[i] <= 15 ? length + symbols[i] : 0,
    ));
  }

  /** The steps of one AC code with its value. */
  get single(): Steps {
    const { lengths, symbols } = this;
    return (this.one ??= {
      bits: lengths.map((length, i) => (length ? length + (symbols[i] & 15) : 0)),
      places: lengths.map((length, i) => {
        if (!length) return INVALID;
        return symbols[i] & 15 || symbols[i] === ZERO_RUN ? (symbols[i] >> 4) + 1 : END;
      }),
    });
  }

  /** The steps of as many AC codes as lie within the 16 bits. */
  get several(): Steps {
    return (this.many ??= join(this.lengths, this.single));
  }
}

function join(lengths: Uint8Array, single: Steps): Steps {
  const [bits, places] = [single.bits.slice(), single.places.slice()];
  for (let window = 0; window < WINDOWS; window++) {
    while (places[window] < MOST_PLACES && bits[window] < 16) {
      const rest = (window << bits[window]) & (WINDOWS - 1);
      if (!lengths[rest] || bits[window] + lengths[rest] > 16) break;
      bits[window] += single.bits[rest];
      places[window] += single.places[rest];
    }
  }
  return { bits, places };
}
