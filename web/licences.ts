/** What the app is bundled with, and the licence that each came under: `licences.txt` beside it. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Plugin } from "vite";

/** Writes the licences of all packages of `dependencies`, those that they need included. */
export function licences(root: string): Plugin {
  return {
    name: "licences",
    apply: "build",
    generateBundle() {
      const packages = [...shipped(root)].sort();
      const source = packages.map(licenceOf).join(`\n\n${"-".repeat(78)}\n\n`);
      this.emitFile({ type: "asset", fileName: "licences.txt", source: `${source}\n` });
    },
  };
}

/** Returns the folders of the packages that a package needs to run, and of what those need. */
function shipped(folder: string, found = new Set<string>()): Set<string> {
  const { dependencies = {} } = read(folder);
  for (const name of Object.keys(dependencies)) {
    const place = placeOf(name, folder);
    if (!found.has(place)) shipped(place, found.add(place));
  }
  return found;
}

function placeOf(name: string, from: string): string {
  for (let folder = from; ; folder = dirname(folder)) {
    const place = join(folder, "node_modules", name);
    if (existsSync(place)) return place;
    if (folder === dirname(folder)) throw new Error(`${name} is not installed: run npm ci`);
  }
}

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly license?: string;
  readonly author?: string | { readonly name: string };
  readonly dependencies?: Readonly<Record<string, string>>;
}

function read(folder: string): Manifest {
  return JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
}

function licenceOf(folder: string): string {
  const { name, version, license, author } = read(folder);
  if (!license) throw new Error(`${name} names no licence`);
  const by = typeof author === "string" ? author : author?.name;
  const texts = readdirSync(folder).filter((file) => /^(licen[cs]e|notice|third)/i.test(file));
  return [
    `${name} ${version}\n${license}${by ? `, ${by}` : ""}`,
    ...texts.map((file) => readFileSync(join(folder, file), "utf8").trim()),
  ].join("\n\n");
}
