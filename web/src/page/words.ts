/** Numbers and names in the words of the page; style sheets and records take none of them. */

/** Returns a share as a percentage for people, the sign on the line of its number. */
export function percent(share: number, digits = 1): string {
  return `${(100 * share).toFixed(digits)}\u00a0%`;
}

/** Returns a share as a percentage for style sheets, which know no space before the sign. */
export function cssPercent(share: number): string {
  return `${100 * share}%`;
}

/** Returns an operating point's name as a person reads it: `sensitivity95` as Sensitivity 95 %. */
export function pointName(name: string): string {
  const [, word, number] = /^([a-z]+?)_?(\d+)?$/i.exec(name) ?? [null, name, undefined];
  const capital = word.charAt(0).toUpperCase() + word.slice(1);
  return number ? `${capital} ${number}\u00a0%` : capital;
}

/** Returns a size in megabytes. */
export function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}
