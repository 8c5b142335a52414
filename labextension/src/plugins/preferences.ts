import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ISettingRegistry } from "@jupyterlab/settingregistry";

import { Preferences } from "../models/preferences";
import { IPreferences } from "../tokens";

const ID = "computehub:preferences";

/** A person's settings, from the settings editor. */
export const preferences: JupyterFrontEndPlugin<Preferences> = {
  id: ID,
  description: "How ComputeHub shows GPUs, and what it proposes.",
  autoStart: true,
  provides: IPreferences,
  optional: [ISettingRegistry],
  activate: (_: JupyterFrontEnd, registry: ISettingRegistry | null): Preferences => {
    const preferences = new Preferences();
    registry
      ?.load(ID)
      .then((settings) => preferences.follow(settings))
      .catch((reason) => console.warn("ComputeHub goes on with its own defaults:", reason));
    return preferences;
  },
};
