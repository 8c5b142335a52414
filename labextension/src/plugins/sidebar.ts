import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ILayoutRestorer } from "@jupyterlab/application";
import { ITranslator } from "@jupyterlab/translation";

import { wordsOf } from "../components/words";
import type { ComputeHub } from "../models/hub";
import { IComputeHub } from "../tokens";
import { Sidebar } from "../widgets/sidebar";

export const sidebar: JupyterFrontEndPlugin<void> = {
  id: "computehub:sidebar",
  description: "Balance, running lease, offers, bookings and history in the right sidebar.",
  autoStart: true,
  requires: [IComputeHub, ITranslator],
  optional: [ILayoutRestorer],
  activate: (app: JupyterFrontEnd, hub: ComputeHub, translator: ITranslator, restorer: ILayoutRestorer | null) => {
    const words = wordsOf(translator.load("computehub"), translator.languageCode);
    const widget = new Sidebar(hub, words);
    app.shell.add(widget, "right", { rank: 900, type: "Sidebar" });
    restorer?.add(widget, widget.id);
  },
};
