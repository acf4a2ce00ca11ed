/**
 * Fetches the page's script or style past every cache if it is not the file of the build (its
 * `integrity` tells), and says so if that does not help.
 */
const isAgain = location.search === "?again"; // before the page's script takes it away
addEventListener("error", ({ target }) => void (target.integrity && mend(target.src || target.href)), true);

async function mend(address) {
  const response = await fetch(address, { cache: "reload" }).catch(() => null);
  if (response?.ok && !isAgain) {
    location.replace("?again");
    return;
  }
  if (document.readyState === "loading") await new Promise((go) => addEventListener("DOMContentLoaded", go));
  const path = address.slice(new URL("./", document.baseURI).href.length);
  const said = document.getElementById("loading") ?? document.body;
  said.textContent = `${path} could not be loaded as it was built. Reload the page to try again.`;
  document.body.dataset.state = "failed";
}
