/** What a file is that is not read, and what to do about it: by its first bytes (`dermfuse.imaging.formats`). */

const SAVE = "Save the image as JPEG or PNG.";
const PHONE =
  "Save the image as JPEG or PNG (an iPhone sends JPEG with Settings, Camera, Formats, Most " +
  "Compatible).";
const ARCHIVE = "Unpack it and choose an image in it.";
const LIBRARY = "Save it as JPEG or PNG, or use: dermfuse analyze.";

const BRANDS: Readonly<Record<string, string>> = {
  avif: "an AVIF image", avis: "an AVIF image sequence",
  heic: "a HEIC image", heix: "a HEIC image", heim: "a HEIC image", heis: "a HEIC image",
  hevc: "a HEIC image sequence", hevx: "a HEIC image sequence",
  mif1: "a HEIF image", msf1: "a HEIF image sequence",
  "crx ": "a Canon raw photograph (CR3)",
  "jp2 ": "a JPEG 2000 image", "jpx ": "a JPEG 2000 image", "jph ": "a JPEG 2000 image",
  "jxl ": "a JPEG XL image",
};
const MAGIC: readonly (readonly [string, string])[] = [
  ["II*\0", "a TIFF image"], ["MM\0*", "a TIFF image"], ["II+\0", "a TIFF image"], ["MM\0+", "a TIFF image"],
  ["\0\0\0\x0cjP  ", "a JPEG 2000 image"], ["\xff\x4f\xff\x51", "a JPEG 2000 image"],
  ["\0\0\0\x0cJXL ", "a JPEG XL image"], ["\xff\x0a", "a JPEG XL image"],
  ["II\xbc\x01", "a JPEG XR image"],
  ["8BPS", "a Photoshop document"],
  ["FUJIFILMCCD-RAW", "a Fujifilm raw photograph"],
  ["IIRO", "an Olympus raw photograph"],
  ["IIU\0", "a Panasonic raw photograph"],
  ["v/1\x01", "an OpenEXR image"],
  ["#?RADIANCE", "a Radiance HDR image"],
  ["SIMPLE  =", "a FITS image"],
  ["\0\0\x01\0", "an icon"],
  ["%PDF", "a PDF document"],
  ["PK\x03\x04", "a ZIP archive"], ["\x1f\x8b", "a gzip archive"],
  ["Rar!", "a RAR archive"], ["7z\xbc\xaf", "a 7-Zip archive"],
  ["\x89HDF", "an HDF5 file"],
  ["\x93NUMPY", "a NumPy array"],
];

/** Returns what a file is and what to do about it, or null if its first bytes do not tell. */
export function nameKind(bytes: Uint8Array): readonly [found: string, action: string] | null {
  const head = String.fromCharCode(...bytes.subarray(0, 132));
  if (head.startsWith("ftyp", 4)) return nameByBrands(head.slice(0, 64));
  if (isDicom(head)) return ["a DICOM file", LIBRARY];
  const magic = MAGIC.find(([start]) => head.startsWith(start));
  if (magic) {
    const [, found] = magic;
    if (found === "a TIFF image") return [found, LIBRARY];
    return [found, found.endsWith("archive") ? ARCHIVE : SAVE];
  }
  if (/^P[1-7]\s/.test(head)) return ["a Netpbm image", SAVE];
  if (/^\s*(<\?xml|<svg |<html|<!doc)/i.test(head)) return ["a text document (XML, SVG or HTML)", SAVE];
  return null;
}

/** Returns whether a file has DICOM's preamble, or begins with file meta information without it. */
function isDicom(head: string): boolean {
  if (head.startsWith("DICM", 128)) return true;
  return head.startsWith("\x02\0") && ["UL", "OB", "UI"].includes(head.slice(4, 6));
}

/** Names a file of boxes by its major brand, else by the first compatible one that is known. */
function nameByBrands(head: string): readonly [string, string] {
  const length = Math.min(
    [...head.slice(0, 4)].reduce((sum, letter) => 256 * sum + letter.charCodeAt(0), 0),
    head.length,
  );
  const brands = [head.slice(8, 12)];
  for (let at = 16; at < length - 3; at += 4) brands.push(head.slice(at, at + 4));
  const saysPicture = (brand: string) => Number(["mif1", "msf1"].includes(brand)); // and no more
  brands.sort((one, other) => saysPicture(one) - saysPicture(other));
  const found = brands.map((brand) => BRANDS[brand]).find(Boolean);
  if (!found) return ["a film or a sound (MPEG-4 or QuickTime)", "Export one frame of it as PNG."];
  return [found, found.includes("HEI") ? PHONE : SAVE];
}
