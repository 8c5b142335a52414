import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { Notification } from "@jupyterlab/apputils";
import { ITranslator } from "@jupyterlab/translation";

import { reasonInWords, wordsOf } from "../components/words";
import type { ComputeHub } from "../models/hub";
import type { Preferences } from "../models/preferences";
import { SharedDefaults } from "../models/sharedDefaults";
import { IComputeHub, IPreferences } from "../tokens";

/** The settings that hold in cells and in the shell too. */
export const defaults: JupyterFrontEndPlugin<void> = {
  id: "computehub:defaults",
  description:
    "Keeps idle time, usual length and price limit on the server, so that they hold in cells and the shell too.",
  autoStart: true,
  requires: [IComputeHub, IPreferences, ITranslator],
  activate: ({ restored }: JupyterFrontEnd, hub: ComputeHub, preferences: Preferences, translator: ITranslator) => {
    const words = wordsOf(translator.load("computehub"), translator.languageCode);
    let told: string | null = null;
    const tell = (shared: SharedDefaults) => {
      if (told) {
        Notification.dismiss(told);
        told = null;
      }
      const { failure } = shared;
      if (failure) {
        const why = reasonInWords(failure, words);
        const again = { label: words.trans.__("Try again"), callback: () => shared.tryAgain() };
        told = Notification.error(words.trans.__("The server did not keep your setting. %1", why), {
          autoClose: false,
          actions: failure.isTransient ? [again] : [],
        });
      }
    };
    // The page comes first.
    void restored.then(() => new SharedDefaults(hub, preferences).changed.connect(tell));
  },
};
