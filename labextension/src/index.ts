import type { JupyterFrontEndPlugin } from "@jupyterlab/application";

import { core } from "./plugins/core";
import { sidebar } from "./plugins/sidebar";

const plugins: JupyterFrontEndPlugin<unknown>[] = [core, sidebar];

export default plugins;
