/** Every way an image comes in: dropped, pasted, chosen, photographed. */
import { byId } from "./elements";

/** Calls `take` with each image that a person gives. */
export function listen(take: (file: File) => void): void {
  for (const id of ["file", "camera"]) {
    const input = byId<HTMLInputElement>(id);
    input.addEventListener("change", () => {
      const file = input.files?.[0];
      input.value = ""; // so that the same file can be chosen again
      if (file) take(file);
    });
  }
  document.addEventListener("paste", (event) => {
    const file = event.clipboardData?.files[0];
    if (file) take(file);
  });
  listenForDrops(take);
}

function listenForDrops(take: (file: File) => void): void {
  let depth = 0; // enter and leave come for every element on the way
  const show = () => document.body.classList.toggle("dropping", depth > 0);
  document.addEventListener("dragenter", () => {
    depth += 1;
    show();
  });
  document.addEventListener("dragleave", () => {
    depth = Math.max(0, depth - 1);
    show();
  });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    show();
    const file = event.dataTransfer?.files[0];
    if (file) take(file);
  });
}
