import type { JupyterFrontEndPlugin } from "@jupyterlab/application";

import { calendar } from "./plugins/calendar";
import { core } from "./plugins/core";
import { leases } from "./plugins/leases";
import { preferences } from "./plugins/preferences";
import { sidebar } from "./plugins/sidebar";

const plugins: JupyterFrontEndPlugin<unknown>[] = [calendar, core, leases, preferences, sidebar];

export default plugins;
