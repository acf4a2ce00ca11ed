/** The page on paper: what stands on every sheet, and what is opened for it. */

/** Returns the line at the head of every sheet: the image, what became of it, and when. */
export function sheetLine(name: string, outcome: string, when = new Date()): string {
  const two = (value: number) => String(value).padStart(2, "0");
  const day = [when.getFullYear(), two(when.getMonth() + 1), two(when.getDate())].join("-");
  const time = `${two(when.getHours())}:${two(when.getMinutes())}`;
  return `${name} \u00b7 ${day} ${time} \u00b7 ${outcome}`;
}

/** Opens what is folded in a panel while the page is printed. */
export function openForPrint(panel: HTMLElement): void {
  let opened: HTMLDetailsElement[] = [];
  addEventListener("beforeprint", () => {
    opened = [...panel.querySelectorAll("details")].filter((each) => !each.open);
    for (const each of opened) each.open = true;
  });
  addEventListener("afterprint", () => {
    for (const each of opened) each.open = false;
    opened = [];
  });
}
