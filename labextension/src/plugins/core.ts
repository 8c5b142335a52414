import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";

import { PageConfig } from "@jupyterlab/coreutils";

import { ComputeHub } from "../models/hub";
import { IComputeHub } from "../tokens";

/** What all the others stand on. Nothing is fetched before one of them shows something. */
export const core: JupyterFrontEndPlugin<ComputeHub> = {
  id: "computehub:core",
  description: "The connection to ComputeHub's control plane.",
  autoStart: true,
  provides: IComputeHub,
  activate: (app: JupyterFrontEnd): ComputeHub =>
    // The server part writes its version into the page. Asking a server that has none would only fill the console.
    new ComputeHub(app.serviceManager, PageConfig.getOption("computehub") !== ""),
};
