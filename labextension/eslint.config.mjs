// The panel's sources, and the scripts of the server's own pages, which are loaded as they stand: no modules, no build.
import js from "@eslint/js";
import jsxA11y from "eslint-plugin-jsx-a11y";
import hooks from "eslint-plugin-react-hooks";
import ts from "typescript-eslint";

const browser = ["document", "window", "fetch", "performance", "crypto", "location", "history", "navigator"]
    .concat(["confirm", "setInterval", "clearInterval", "setTimeout", "clearTimeout", "DOMParser", "Intl", "URL"])
    .concat(["FormData", "Event", "CustomEvent", "HTMLElement", "AbortController", "Response", "console"]);
const everywhere = { eqeqeq: "error", "no-var": "error", "prefer-const": "error" };

export default [
    { ignores: ["**/lib/**", "**/node_modules/**", "**/src/api/schema.ts"] },
    {
        ...js.configs.recommended,
        files: ["**/api/static/*.js"],
        languageOptions: {
            ecmaVersion: 2022,
            sourceType: "script",
            globals: Object.fromEntries([...browser, "SwaggerUIBundle"].map((name) => [name, "readonly"])),
        },
        rules: { ...js.configs.recommended.rules, ...everywhere },
    },
    ...ts.configs.recommended.map((config) => ({ ...config, files: ["**/src/**/*.ts", "**/src/**/*.tsx"] })),
    {
        files: ["**/src/**/*.ts", "**/src/**/*.tsx"],
        plugins: { "jsx-a11y": jsxA11y, "react-hooks": hooks },
        rules: {
            ...jsxA11y.flatConfigs.strict.rules,
            ...hooks.configs.recommended.rules,
            ...everywhere,
            "@typescript-eslint/consistent-type-imports": "error",
        },
    },
];
