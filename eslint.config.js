// The account page's and the API page's scripts. They are loaded as they stand: no modules, no build.
import js from "@eslint/js";

const browser = ["document", "window", "fetch", "performance", "crypto", "location", "history", "navigator"]
  .concat(["confirm", "setInterval", "clearInterval", "setTimeout", "clearTimeout", "DOMParser", "Intl", "URL"])
  .concat(["FormData", "Event", "CustomEvent", "HTMLElement", "AbortController", "Response", "console"]);

export default [
  {
    ...js.configs.recommended,
    files: ["computehub_ext/**/*.js"],
    languageOptions: {
      ecmaVersion: 2022,
      sourceType: "script",
      globals: Object.fromEntries([...browser, "SwaggerUIBundle"].map((name) => [name, "readonly"])),
    },
    rules: { ...js.configs.recommended.rules, eqeqeq: "error", "no-var": "error", "prefer-const": "error" },
  },
  { files: ["*.js"], ...js.configs.recommended },
];
