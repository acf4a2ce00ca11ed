import { resolve } from "node:path";
import { defineConfig } from "vite";
import { licences } from "./licences";

/** The page and its service worker; the networks are laid beside them by `dermfuse web build`. */
export default defineConfig({
  base: "./",
  plugins: [licences(import.meta.dirname)],
  resolve: { conditions: ["onnxruntime-web-use-extern-wasm", "import", "module", "browser"] },
  worker: { format: "es" },
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: false,
    rollupOptions: {
      input: {
        index: resolve(import.meta.dirname, "index.html"),
        sw: resolve(import.meta.dirname, "src/service-worker.ts"),
      },
      output: {
        entryFileNames: ({ name }) => (name === "sw" ? "sw.js" : "assets/[name]-[hash].js"),
      },
    },
  },
});
