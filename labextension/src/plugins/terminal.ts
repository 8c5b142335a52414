import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { IThemeManager, Notification, WidgetTracker } from "@jupyterlab/apputils";
import type { MainAreaWidget } from "@jupyterlab/apputils";
import { INotebookTracker } from "@jupyterlab/notebook";
import type { Terminal } from "@jupyterlab/terminal";
import { ITranslator } from "@jupyterlab/translation";
import { terminalIcon } from "@jupyterlab/ui-components";

import { CommandIDs } from "../commands";
import { reasonInWords, wordsOf } from "../components/words";
import type { ComputeHub } from "../models/hub";
import { leaseWanted } from "../models/leaseWanted";
import { IComputeHub } from "../tokens";
import { connect, newTerminal } from "../widgets/leaseTerminal";

/** A terminal beside the kernel on the GPU, where the administrator allows it. */
export const terminal: JupyterFrontEndPlugin<void> = {
  id: "computehub:terminal",
  description: "Opens terminals beside the kernels of leases.",
  autoStart: true,
  requires: [IComputeHub, ITranslator],
  optional: [INotebookTracker, IThemeManager],
  activate: (
    { commands, serviceManager, shell }: JupyterFrontEnd,
    hub: ComputeHub,
    translator: ITranslator,
    notebooks: INotebookTracker | null,
    themes: IThemeManager | null,
  ) => {
    const words = wordsOf(translator.load("computehub"), translator.languageCode);
    const { trans, formats } = words;
    // Not JupyterLab's tracker of terminals: what is in that is opened again with the page, at Jupyter's own address.
    const open = new WidgetTracker<MainAreaWidget<Terminal>>({ namespace: "computehub-terminal" });
    themes?.themeChanged.connect(() => open.forEach(({ content }) => content.setOption("theme", "inherit")));

    /** The lease named; else that of the notebook before the person; else the one that began last. */
    const wanted = async (id: unknown) => {
      const kernelId = notebooks?.currentWidget?.sessionContext.session?.kernel?.id;
      const ofNotebook = hub.leases.value?.find((lease) => lease.kernel_id === kernelId);
      return leaseWanted(hub, id ?? ofNotebook?.id);
    };

    const begin = async (id: unknown) => {
      const lease = await wanted(id);
      if (!lease) {
        Notification.info(trans.__("No GPU runs for you."), { autoClose: 5000 });
      } else if (!lease.terminal) {
        Notification.info(trans.__("No terminal can be opened beside this kernel."), { autoClose: 5000 });
      } else {
        const devices = formats.devices(lease.model, lease.count);
        const connection = connect(serviceManager.serverSettings, lease.id);
        try {
          const title = trans.__("%1 at %2", devices, lease.place.name);
          const caption = trans.__("Terminal beside the kernel of %1", lease.notebook_path ?? devices);
          const widget = await newTerminal(connection, title, caption, translator);
          void open.add(widget);
          shell.add(widget, "main", { type: "Terminal" });
          if (!widget.isAttached) {
            // Notebook 7 has one document in its main area, and room below it.
            shell.add(widget, "down", { type: "Terminal" });
          }
          shell.activateById(widget.id);
          // Before it is drawn it can't take the keyboard.
          void widget.content.ready.then(() => {
            if (shell.currentWidget === widget) {
              widget.activate();
            }
          });
        } catch (reason) {
          connection.dispose();
          throw reason;
        }
      }
    };
    commands.addCommand(CommandIDs.openTerminal, {
      label: trans.__("Open a Terminal beside the GPU Kernel"),
      caption: trans.__("A shell where the notebook's kernel runs, as its user; it ends with the kernel"),
      icon: terminalIcon,
      execute: ({ lease_id }) =>
        begin(lease_id).catch((reason) => void Notification.error(reasonInWords(reason, words))),
    });
  },
};
