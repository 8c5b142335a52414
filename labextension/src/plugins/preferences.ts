import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ISettingRegistry } from "@jupyterlab/settingregistry";
import { ITranslator, nullTranslator } from "@jupyterlab/translation";

import { Preferences } from "../models/preferences";
import { translatedSchema } from "../models/schemaWords";
import { IPreferences } from "../tokens";

const ID = "computehub:preferences";

/** A person's settings, from the settings editor. */
export const preferences: JupyterFrontEndPlugin<Preferences> = {
  id: ID,
  description: "How ComputeHub shows GPUs, and what it proposes.",
  autoStart: true,
  provides: IPreferences,
  optional: [ISettingRegistry, ITranslator],
  activate: (_: JupyterFrontEnd, registry: ISettingRegistry | null, translator: ITranslator | null): Preferences => {
    const preferences = new Preferences();
    const trans = (translator ?? nullTranslator).load("computehub");
    registry?.transform(ID, { fetch: (plugin) => ({ ...plugin, schema: translatedSchema(plugin.schema, trans) }) });
    registry
      ?.load(ID)
      .then((settings) => preferences.follow(settings))
      .catch((reason) => console.warn("ComputeHub goes on with its own defaults:", reason));
    return preferences;
  },
};
