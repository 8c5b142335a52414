import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { IToolbarWidgetRegistry } from "@jupyterlab/apputils";
import type { NotebookPanel } from "@jupyterlab/notebook";
import { INotebookTracker } from "@jupyterlab/notebook";
import { ITranslator } from "@jupyterlab/translation";
import type { ReadonlyPartialJSONObject } from "@lumino/coreutils";

import { CommandIDs } from "../commands";
import { wordsOf } from "../components/words";
import type { ComputeHub } from "../models/hub";
import { Moves } from "../models/moves";
import type { Preferences } from "../models/preferences";
import { IComputeHub, IMoves, IPreferences } from "../tokens";
import { MoveToasts } from "../widgets/moveToasts";
import { NotebookMoves } from "../widgets/notebookMoves";

/** The button beside the kernel's name, its dialog, and the cells that wait meanwhile. */
export const switching: JupyterFrontEndPlugin<Moves> = {
  id: "computehub:switch",
  description: "Moves notebooks to a GPU and back, from their toolbar.",
  autoStart: true,
  provides: IMoves,
  requires: [IComputeHub, IPreferences, ITranslator, INotebookTracker],
  optional: [IToolbarWidgetRegistry],
  activate: (
    { commands }: JupyterFrontEnd,
    hub: ComputeHub,
    preferences: Preferences,
    translator: ITranslator,
    tracker: INotebookTracker,
    toolbars: IToolbarWidgetRegistry | null,
  ): Moves => {
    const words = wordsOf(translator.load("computehub"), translator.languageCode);
    const moves = new Moves(hub);
    const notebooks = new NotebookMoves({ hub, moves, preferences, words, commands });
    new MoveToasts(moves, words, (kernelId) => notebooks.show(kernelId));
    tracker.widgetAdded.connect((_, panel) => notebooks.add(panel));
    toolbars?.addFactory<NotebookPanel>("Notebook", "computehub-switch", (panel) => notebooks.button(panel));

    /** The notebook that the arguments name by its kernel, or else the one before the person. */
    const wanted = ({ kernel_id }: ReadonlyPartialJSONObject) =>
      typeof kernel_id === "string"
        ? (tracker.find((panel) => panel.sessionContext.session?.kernel?.id === kernel_id) ?? null)
        : tracker.currentWidget;
    const byCommand = (id: string, label: string, caption: string, target: "gpu" | "cpu") =>
      commands.addCommand(id, {
        label,
        caption,
        isEnabled: (args) => !!wanted(args)?.sessionContext.session?.kernel,
        execute: (args) => notebooks.ask(wanted(args), target, args),
      });
    const { trans } = words;
    byCommand(
      CommandIDs.moveNotebook,
      trans.__("Move Notebook to a GPU…"),
      trans.__("See what it costs and what comes along, then move this notebook to a GPU"),
      "gpu",
    );
    byCommand(
      CommandIDs.returnNotebook,
      trans.__("Bring Notebook Back to the CPU…"),
      trans.__("Move this notebook back with its variables, and stop paying"),
      "cpu",
    );
    return moves;
  },
};
