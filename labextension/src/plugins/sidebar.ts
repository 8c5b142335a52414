import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ILayoutRestorer } from "@jupyterlab/application";
import { IStateDB } from "@jupyterlab/statedb";
import { ITranslator } from "@jupyterlab/translation";

import { CommandIDs } from "../commands";
import { wordsOf } from "../components/words";
import { gpuIcon } from "../icons";
import { Actions } from "../models/actions";
import { History } from "../models/history";
import type { ComputeHub } from "../models/hub";
import { Remembered } from "../models/remembered";
import { IComputeHub } from "../tokens";
import { askToCancel } from "../widgets/leaseDialogs";
import { SIDEBAR_ID, Sidebar } from "../widgets/sidebar";
import { SIDEBAR_STATE } from "../widgets/sidebarParts";

export const sidebar: JupyterFrontEndPlugin<void> = {
  id: "computehub:sidebar",
  description: "Balance, running GPUs, offers, bookings and history in the right sidebar.",
  autoStart: true,
  requires: [IComputeHub, ITranslator],
  optional: [ILayoutRestorer, IStateDB],
  activate: (
    app: JupyterFrontEnd,
    hub: ComputeHub,
    translator: ITranslator,
    restorer: ILayoutRestorer | null,
    store: IStateDB | null,
  ) => {
    const { commands, shell } = app;
    const words = wordsOf(translator.load("computehub"), translator.languageCode);
    const actions = new Actions(hub);
    const remembered = new Remembered(SIDEBAR_STATE, SIDEBAR_ID, store);
    void remembered.load();
    const widget = new Sidebar(
      {
        hub,
        actions,
        remembered,
        commands,
        history: new History(hub),
        askToCancel: (booking) => askToCancel({ hub, actions, words }, booking),
      },
      words,
    );
    shell.add(widget, "right", { rank: 900, type: "Sidebar" });
    restorer?.add(widget, widget.id);
    commands.commandExecuted.connect((_, { id }) => {
      if (id === CommandIDs.startTour) {
        remembered.set({ isTourOffered: false });
      }
    });

    commands.addCommand(CommandIDs.showPanel, {
      label: words.trans.__("Show GPUs and Credits"),
      caption: words.trans.__("Your balance, running GPUs, offers, bookings and history"),
      icon: gpuIcon,
      execute: () => shell.activateById(widget.id),
    });
  },
};
