import type { JupyterFrontEndPlugin } from "@jupyterlab/application";

import { calendar } from "./plugins/calendar";
import { core } from "./plugins/core";
import { defaults } from "./plugins/defaults";
import { leases } from "./plugins/leases";
import { menus } from "./plugins/menus";
import { notices } from "./plugins/notices";
import { preferences } from "./plugins/preferences";
import { sidebar } from "./plugins/sidebar";
import { statusBar } from "./plugins/statusBar";
import { switching } from "./plugins/switch";
import { terminal } from "./plugins/terminal";
import { tour } from "./plugins/tour";

const plugins: JupyterFrontEndPlugin<unknown>[] = [
  calendar,
  core,
  defaults,
  leases,
  menus,
  notices,
  preferences,
  sidebar,
  statusBar,
  switching,
  terminal,
  tour,
];

export default plugins;
