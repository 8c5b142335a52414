import type { JupyterFrontEndPlugin } from "@jupyterlab/application";

import { calendar } from "./plugins/calendar";
import { core } from "./plugins/core";
import { leases } from "./plugins/leases";
import { preferences } from "./plugins/preferences";
import { sidebar } from "./plugins/sidebar";
import { switching } from "./plugins/switch";

const plugins: JupyterFrontEndPlugin<unknown>[] = [calendar, core, leases, preferences, sidebar, switching];

export default plugins;
