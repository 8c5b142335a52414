import type { JupyterFrontEndPlugin } from "@jupyterlab/application";

import { core } from "./plugins/core";
import { preferences } from "./plugins/preferences";
import { sidebar } from "./plugins/sidebar";

const plugins: JupyterFrontEndPlugin<unknown>[] = [core, preferences, sidebar];

export default plugins;
