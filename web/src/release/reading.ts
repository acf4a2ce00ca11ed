/** A release as the app uses it, from what `release.json` says. */
import { checkLooks } from "../analysis/looks";
import type { Release } from "./records";

/** Returns the release of a record; refuses one that asks for what the app does not do. */
export function readRelease(record: Omit<Release, "looks"> & { readonly looks?: unknown }): Release {
  return { ...record, looks: checkLooks(record.looks) };
}
