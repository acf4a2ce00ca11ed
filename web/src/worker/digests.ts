/** SHA-256 of the build's files. Outside of HTTPS browsers offer it for what they fetch alone. */
import type { Build, BuiltFile } from "../release/records";

const ID_LENGTH = 16;

/** Returns whether content can be checked here; if not, `fetch` has to do it. */
export function canDigest(): boolean {
  return self.isSecureContext;
}

/** Returns whether a content is the file's; where no digest can be made, the browser has checked it. */
export async function fits(content: Uint8Array, file: BuiltFile): Promise<boolean> {
  return !canDigest() || (await hexDigest(content)) === file.sha256;
}

/** Returns what the name of a build has to be: as `dermfuse web build` makes it. */
export async function buildId({ build, shell, heavy }: Build): Promise<string> {
  if (!canDigest()) return build;
  const lines = [...shell, ...heavy].map(({ path, bytes, sha256 }) => `${sha256} ${bytes} ${path}\n`);
  return (await hexDigest(new TextEncoder().encode(lines.join("")))).slice(0, ID_LENGTH);
}

/** Returns a file's digest as `fetch` takes it. */
export function integrityOf({ sha256 }: BuiltFile): string {
  const bytes = sha256.match(/../g)!.map((pair) => parseInt(pair, 16));
  return `sha256-${btoa(String.fromCharCode(...bytes))}`;
}

async function hexDigest(content: Uint8Array): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content as BufferSource));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
