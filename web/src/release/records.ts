/** What `release.json` and the networks' cards say, as far as the app reads them. */
import type { Looks } from "../analysis/looks";

export interface Rate {
  readonly value: number;
  readonly low: number;
  readonly high: number;
}

/** A threshold with what it finds and what it costs. */
export interface OperatingPoint {
  readonly name: string;
  readonly threshold: number;
  readonly sensitivity: Rate;
  readonly specificity: Rate;
}

/** A network of a fusion, and the weight of its answer. */
export interface Member {
  readonly name: string;
  readonly weight: number;
}

/** A line in logits. */
export interface Calibration {
  readonly temperature: number;
  readonly bias: number;
}

export interface Release {
  readonly format: number;
  readonly name: string;
  readonly classes: {
    readonly members: readonly Member[];
    readonly calibration: Calibration;
    readonly operating_points: readonly OperatingPoint[];
    readonly default_point: string;
  };
  readonly masks: { readonly members: readonly Member[]; readonly threshold: number };
  readonly gate: { readonly threshold: number } | null;
  /** Calibration, operating points and gate hold for so many. */
  readonly looks: Looks;
  readonly notice: string;
}

/** A network's card. */
export interface Card {
  readonly name: string;
  readonly file: string;
  readonly precision: string;
  readonly input: { readonly name: string; readonly size: number };
  readonly outputs: Readonly<Record<string, string>>;
  readonly weights_licence: string;
}

/** One file of the build. */
export interface BuiltFile {
  readonly path: string;
  readonly bytes: number;
  readonly sha256: string;
}

/** What the build wrote: the page's own files, and the large ones that the worker fetches. */
export interface Build {
  readonly build: string;
  readonly shell: readonly BuiltFile[];
  readonly heavy: readonly BuiltFile[];
}
