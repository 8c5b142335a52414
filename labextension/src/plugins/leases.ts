import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { Notification } from "@jupyterlab/apputils";
import { ITranslator } from "@jupyterlab/translation";
import type { ReadonlyPartialJSONObject } from "@lumino/coreutils";

import { CommandIDs } from "../commands";
import { reasonInWords, wordsOf } from "../components/words";
import { Actions } from "../models/actions";
import type { ComputeHub } from "../models/hub";
import { leaseWanted } from "../models/leaseWanted";
import { IComputeHub } from "../tokens";
import { download } from "../widgets/download";
import { askForAllowance, askForLength, askHowToEnd, showLog } from "../widgets/leaseDialogs";

type Args = ReadonlyPartialJSONObject;

export const leases: JupyterFrontEndPlugin<void> = {
  id: "computehub:leases",
  description: "Commands that move a lease's end, set the allowance, export the history and look anew.",
  autoStart: true,
  requires: [IComputeHub, ITranslator],
  activate: ({ commands }: JupyterFrontEnd, hub: ComputeHub, translator: ITranslator) => {
    const words = wordsOf(translator.load("computehub"), translator.languageCode);
    const { trans } = words;
    const actions = new Actions(hub);
    const asking = { hub, actions, words };

    /** A command of which a failure is told, since nobody waits for its outcome. */
    const add = (id: string, label: string, caption: string, execute: (args: Args) => Promise<unknown>) =>
      commands.addCommand(id, {
        label,
        caption,
        execute: (args) => execute(args).catch((reason) => void Notification.error(reasonInWords(reason, words))),
      });

    const changeLength = async (change: "extend" | "shorten", { lease_id, seconds }: Args) => {
      const lease = await leaseWanted(hub, lease_id);
      if (!lease) {
        Notification.info(trans.__("No GPU runs for you."), { autoClose: 5000 });
      } else if (typeof seconds === "number") {
        await (change === "extend" ? actions.extendLease(lease.id, seconds) : actions.shortenLease(lease.id, seconds));
      } else {
        await askForLength(asking, change, lease);
      }
    };

    add(
      CommandIDs.extendLease,
      trans.__("Keep the GPU Longer…"),
      trans.__("Move the end of the running GPU's time, with the price of it"),
      (args) => changeLength("extend", args),
    );
    add(
      CommandIDs.shortenLease,
      trans.__("Give the GPU Back Earlier…"),
      trans.__("Take time off the running GPU's end and get its price back"),
      (args) => changeLength("shorten", args),
    );
    add(
      CommandIDs.endLease,
      trans.__("End the GPU Now…"),
      trans.__("Give the running GPU back at once, with or without the notebook's variables"),
      async ({ lease_id }) => {
        const lease = await leaseWanted(hub, lease_id);
        if (!lease) {
          Notification.info(trans.__("No GPU runs for you."), { autoClose: 5000 });
          return;
        }
        const ending = await askHowToEnd(words, lease);
        const { kernel_id } = lease;
        if (ending === "end") {
          await actions.endLease(lease.id);
        } else if (ending === "bring-back") {
          const isOpen = commands.isEnabled(CommandIDs.returnNotebook, { kernel_id });
          if (isOpen) {
            await commands.execute(CommandIDs.returnNotebook, { kernel_id });
          } else {
            await actions.bringBack(lease);
            Notification.info(trans.__("The notebook moves back with its variables."), { autoClose: 5000 });
          }
        }
      },
    );
    add(
      CommandIDs.showLog,
      trans.__("Show the GPU Kernel's Log"),
      trans.__("What the kernel on the GPU wrote outside its cells: how its start went, warnings, why it died"),
      async ({ lease_id }) => {
        const open = await leaseWanted(hub, lease_id);
        // One that was named may have ended, such as with its start: why is in its log.
        const lease = open ?? (typeof lease_id === "string" ? await hub.client.getLease(lease_id) : undefined);
        if (!lease) {
          Notification.info(trans.__("No GPU runs for you."), { autoClose: 5000 });
        } else {
          await showLog(words, lease, () => hub.client.getLog(lease.id));
        }
      },
    );
    add(
      CommandIDs.setAllowance,
      trans.__("Set What Notebooks May Spend…"),
      trans.__("The credits that a notebook may spend in a day without asking you"),
      async () => askForAllowance(asking, hub.me.value ?? (await hub.client.getMe())),
    );
    add(
      CommandIDs.exportHistory,
      trans.__("Download the History of Credits"),
      trans.__("Every credit that came or went, as a CSV file for a spreadsheet"),
      async () => download(hub.client.historyFile("none")),
    );
    add(
      CommandIDs.refresh,
      trans.__("Refresh GPUs and Credits"),
      trans.__("Ask the server anew for all that is shown"),
      async () => hub.touched("person", "lease", "booking", "approval"),
    );
  },
};
