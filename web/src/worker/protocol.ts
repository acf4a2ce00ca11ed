/** What the page and its worker say to each other. */
import type { Analysis } from "../analysis/analysis";
import type { Looks } from "../analysis/looks";
import type { Release } from "../release/records";

export type Request =
  | { readonly kind: "load"; readonly threads: number; readonly base: string }
  | { readonly kind: "warm" }
  | {
      readonly kind: "analyse";
      readonly id: number;
      readonly file: Blob;
      readonly looks: Looks;
    };

/** How long the parts of an analysis took, in milliseconds. */
export interface Milliseconds {
  readonly decode: number;
  readonly classes: number;
  readonly masks: number;
  readonly rest: number;
  readonly total: number;
}

export type Reply =
  | { readonly kind: "progress"; readonly loaded: number; readonly total: number }
  | { readonly kind: "ready"; readonly release: Release; readonly milliseconds: number }
  | { readonly kind: "failed"; readonly message: string }
  | { readonly kind: "looking"; readonly id: number; readonly done: number; readonly all: number }
  | {
      readonly kind: "analysed";
      readonly id: number;
      readonly analysis: Analysis;
      readonly picture: ImageBitmap;
      readonly milliseconds: Milliseconds;
    }
  | { readonly kind: "refused"; readonly id: number; readonly message: string };
