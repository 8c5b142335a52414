import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ICommandPalette } from "@jupyterlab/apputils";
import { ILauncher } from "@jupyterlab/launcher";
import { ITranslator } from "@jupyterlab/translation";

import { CommandIDs } from "../commands";

/** Where commands are found beside the panel; the menu and the shortcuts themselves are in `schema/menus.json`. */
export const menus: JupyterFrontEndPlugin<void> = {
  id: "computehub:menus",
  description: "The GPU menu, its shortcuts, the palette's entries and the launcher's card.",
  autoStart: true,
  requires: [ITranslator],
  optional: [ICommandPalette, ILauncher],
  activate: (
    _: JupyterFrontEnd,
    translator: ITranslator,
    palette: ICommandPalette | null,
    launcher: ILauncher | null,
  ) => {
    const trans = translator.load("computehub");
    const category = trans.__("GPU");
    Object.values(CommandIDs).forEach((command, rank) => palette?.addItem({ command, category, rank }));
    launcher?.add({ command: CommandIDs.openCalendar, category, rank: 1 });
    launcher?.add({ command: CommandIDs.book, category, rank: 2 });
  },
};
