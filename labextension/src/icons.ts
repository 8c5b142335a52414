import { LabIcon } from "@jupyterlab/ui-components";

/** A graphics card seen from above: the sign of everything that is ours. */
export const gpuIcon = new LabIcon({
  name: "computehub:gpu",
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
  <g class="jp-icon3" fill="#616161" fill-rule="evenodd">
    <path d="M2 4h2v1.5h17A1.5 1.5 0 0 1 22.500 7v9a1.500 1.500 0 0 1-1.500 1.500h-4V19h-8v-1.500H4V20H2zm2 3.500v8h16.500v-8z"/>
    <path d="M12.250 8.500a3 3 0 1 1 0 6 3 3 0 0 1 0-6zm0 1.750a1.250 1.250 0 1 0 0 2.500 1.250 1.250 0 0 0 0-2.500z"/>
    <path d="M5.500 9.500h2V11h-2zm0 2.500h2v1.500h-2zm11.500-2.500h2V11h-2zm0 2.500h2v1.500h-2z"/>
  </g></svg>`,
});
