/** In how many orientations the networks see an image: the choice, and how far they agree. */
import type { Analysis } from "../analysis/analysis";
import { describeLooks, type Looks, LOOKS } from "../analysis/looks";
import type { Release } from "../release/records";
import { make } from "./elements";
import { percent } from "./words";

const LEAST_SHOWN = 5e-4; // less would be rounded to nothing

/**
 * Returns the field in which a person chooses; it begins with what the release was measured with.
 *
 * @param chosen - Called with every choice.
 */
export function looksField(release: Release, chosen: (looks: Looks) => void): HTMLElement {
  const select = make("select", { id: "looks" });
  for (const looks of LOOKS) {
    const measured = looks === release.looks;
    const remark = measured ? "as measured" : looks < release.looks ? "faster" : "slower";
    const text = `${looks}, ${remark}`;
    select.append(make("option", { value: String(looks), selected: measured }, text));
  }
  select.addEventListener("change", () => chosen(LOOKS[select.selectedIndex]));
  const label = make("label", { htmlFor: "looks" }, "Orientations that the networks see");
  return make("div", { className: "field" }, label, select);
}

/** Returns how far looks and networks agree; null where there is but one of each. */
export function uncertaintySentence({ uncertainty, looks, scores }: Analysis): string | null {
  if (uncertainty === null) return null;
  const networks = Object.keys(scores).length;
  const over = [
    ...(looks > 1 ? [describeLooks(looks)] : []),
    ...(networks > 1 ? [`${networks} networks`] : []),
  ];
  const varies = uncertainty < LEAST_SHOWN ? `less than ${percent(2 * LEAST_SHOWN)}` : percent(uncertainty);
  return `Over ${over.join(" and ")} the probability varies by ${varies} (standard deviation).`;
}
