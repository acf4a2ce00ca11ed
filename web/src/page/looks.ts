/** In how many orientations the networks see an image: the choice, and what is said of it. */
import type { Analysis } from "../analysis/analysis";
import { type Looks, LOOKS } from "../analysis/looks";
import type { Release } from "../release/records";
import { make } from "./elements";
import { percent } from "./words";

/**
 * Returns the field in which a person chooses; it begins with what the release was measured with.
 *
 * @param chosen - Is told of every choice.
 */
export function looksField(release: Release, chosen: (looks: Looks) => void): HTMLElement {
  const select = make("select", { id: "looks" });
  for (const looks of LOOKS) {
    const text = looks === release.looks ? `${looks}, as it was measured` : String(looks);
    select.append(make("option", { value: String(looks), selected: looks === release.looks }, text));
  }
  select.addEventListener("change", () => chosen(LOOKS[select.selectedIndex]));
  const label = make("label", { htmlFor: "looks" }, "Orientations of the image");
  return make("div", { className: "field" }, label, select);
}

/** Returns how far looks and networks agree; null where there is but one of each. */
export function uncertaintySentence({ uncertainty, looks, scores }: Analysis): string | null {
  if (uncertainty === null) return null;
  const networks = Object.keys(scores).length;
  const over = [
    ...(looks > 1 ? [`${looks} orientations`] : []),
    ...(networks > 1 ? [`${networks} networks`] : []),
  ];
  return (
    `Over ${over.join(" and ")} the probability varies by ${percent(uncertainty)} ` +
    "(standard deviation)."
  );
}

/** Returns what a person must know of other looks than the release's own; null for those. */
export function looksNote(looks: Looks, release: Release): string | null {
  if (looks === release.looks) return null;
  return (
    `The networks saw the image in ${orientations(looks)}. Probability and operating points were ` +
    `measured with ${orientations(release.looks)}.`
  );
}

function orientations(looks: Looks): string {
  return looks === 1 ? "1 orientation" : `${looks} orientations`;
}
