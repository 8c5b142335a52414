const jestJupyterLab = require("@jupyterlab/testing/lib/jest-config");

// These ship as ES modules alone.
const esModules = ["@jupyterlab/", "@jupyter/", "@lumino/", "lib0", "y-protocols", "y-websocket", "yjs", "nanoid"]
  .concat(["@fullcalendar/", "preact", "uplot", "internmap", "d3-", "vscode-", "@microsoft/", "exenv-es6", "uuid"])
  .join("|");
const base = jestJupyterLab(__dirname);

module.exports = {
  ...base,
  preset: "ts-jest/presets/js-with-babel",
  transform: {
    ...base.transform,
    "\\.(ts|tsx)$": ["ts-jest", { tsconfig: "tsconfig.test.json" }],
    "\\.(js|mjs)$": "babel-jest",
  },
  transformIgnorePatterns: [`/node_modules/(?!(${esModules})).+`],
  reporters: ["default"],
  testRegex: "src/__tests__/.*\\.(spec|test)\\.tsx?$",
  collectCoverage: false,
  setupFilesAfterEnv: ["<rootDir>/src/__tests__/setup.ts"],
};
