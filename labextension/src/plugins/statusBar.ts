import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { INotebookTracker } from "@jupyterlab/notebook";
import { IStatusBar } from "@jupyterlab/statusbar";
import { ITranslator } from "@jupyterlab/translation";
import { Signal } from "@lumino/signaling";

import { CommandIDs } from "../commands";
import { wordsOf } from "../components/words";
import type { ComputeHub } from "../models/hub";
import type { Preferences } from "../models/preferences";
import { IComputeHub, IPreferences } from "../tokens";
import { StatusItemWidget } from "../widgets/statusItem";

/** Place, rate, time left and balance in the status bar; where there is none, as in Notebook 7, nothing. */
export const statusBar: JupyterFrontEndPlugin<void> = {
  id: "computehub:status-bar",
  description: "Where the notebook runs, what it costs and how long it can, in the status bar.",
  autoStart: true,
  requires: [IComputeHub, IPreferences, ITranslator],
  optional: [IStatusBar, INotebookTracker],
  activate: (
    { commands, restored }: JupyterFrontEnd,
    hub: ComputeHub,
    preferences: Preferences,
    translator: ITranslator,
    bar: IStatusBar | null,
    tracker: INotebookTracker | null,
  ) => {
    if (!bar) {
      return;
    }
    const words = wordsOf(translator.load("computehub"), translator.languageCode);
    const onClick = () => {
      // The panel is a plugin of its own, which can be switched off.
      if (commands.hasCommand(CommandIDs.showPanel)) {
        void commands.execute(CommandIDs.showPanel);
      }
    };
    const activeStateChanged = new Signal<object, void>({});
    preferences.changed.connect(() => activeStateChanged.emit());
    // The page comes first.
    void restored.then(() =>
      bar.registerStatusItem("computehub:status", {
        item: new StatusItemWidget({ hub, tracker, words, onClick }),
        align: "left",
        rank: 2,
        isActive: () => preferences.get("showStatusBar"),
        activeStateChanged,
      }),
    );
  },
};
