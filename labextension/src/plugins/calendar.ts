import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ILabShell, ILayoutRestorer } from "@jupyterlab/application";
import { MainAreaWidget, Notification, WidgetTracker } from "@jupyterlab/apputils";
import { INotebookTracker } from "@jupyterlab/notebook";
import { ITranslator } from "@jupyterlab/translation";
import type { ReadonlyPartialJSONObject } from "@lumino/coreutils";

import type { Booking } from "../api/types";
import { CommandIDs } from "../commands";
import { reasonInWords, wordsOf } from "../components/words";
import { gpuIcon } from "../icons";
import type { CalendarChoice } from "../models/calendar";
import type { ComputeHub } from "../models/hub";
import type { Preferences } from "../models/preferences";
import { IComputeHub, IPreferences } from "../tokens";
import { openBookingDialog } from "../widgets/bookingDialog";
import { CalendarWidget } from "../widgets/calendar";

export const calendar: JupyterFrontEndPlugin<void> = {
  id: "computehub:calendar",
  description: "The calendar of GPUs, and the form that books them.",
  autoStart: true,
  requires: [IComputeHub, IPreferences, ITranslator],
  optional: [ILabShell, ILayoutRestorer, INotebookTracker],
  activate: (
    app: JupyterFrontEnd,
    hub: ComputeHub,
    preferences: Preferences,
    translator: ITranslator,
    labShell: ILabShell | null,
    restorer: ILayoutRestorer | null,
    notebooks: INotebookTracker | null,
  ) => {
    const trans = translator.load("computehub");
    const words = wordsOf(trans, translator.languageCode);
    const tracker = new WidgetTracker<MainAreaWidget<CalendarWidget>>({ namespace: "computehub-calendar" });
    const paths = () => {
      const open: string[] = [];
      notebooks?.forEach(({ context }) => open.push(context.localPath));
      return open;
    };
    const openForm = (form: object) => openBookingDialog({ hub, words, preferences, notebooks: paths(), ...form });

    app.commands.addCommand(CommandIDs.openCalendar, {
      label: trans.__("GPU Calendar"),
      caption: trans.__("See what is free, and book, move or cancel"),
      icon: gpuIcon,
      execute: (args) => {
        const choice = choiceOf(args);
        let shown = tracker.find(() => true);
        if (shown) {
          shown.content.model.choose(choice);
        } else {
          // Notebook 7 has room for one thing in its main area, the notebook. Beside it there is room for a day.
          const seen = labShell ? choice : { view: "day" as const, ...choice };
          const content = new CalendarWidget({ hub, words, preferences, openForm, choice: seen });
          shown = new MainAreaWidget({ content });
          shown.id = "computehub-calendar";
          const { model } = content;
          const remember = shown;
          model.changed.connect(() => void tracker.save(remember));
          void tracker.add(shown);
          app.shell.add(shown, labShell ? "main" : "right", { type: "Calendar" });
        }
        app.shell.activateById(shown.id);
        return shown;
      },
    });
    app.commands.addCommand(CommandIDs.book, {
      label: trans.__("Book a GPU…"),
      caption: trans.__("Choose a GPU, a time and how often; see the price before you decide"),
      icon: gpuIcon,
      execute: async ({ booking_id, ...start }) => {
        let booking: Booking | undefined;
        try {
          booking = typeof booking_id === "string" ? await hub.client.getBooking(booking_id) : undefined;
        } catch (reason) {
          // Whoever clicked would hear nothing of a command that fails.
          Notification.error(reasonInWords(reason, words));
          return null;
        }
        const done = await openForm({ start, booking });
        if (done) {
          tracker.forEach(({ content }) => content.model.invalidate());
        }
        return done?.bookings ?? null;
      },
    });
    void restorer?.restore(tracker, {
      command: CommandIDs.openCalendar,
      name: () => "calendar",
      // The day is not kept: who comes back tomorrow wants to see tomorrow.
      args: ({ content }) => {
        const { view, poolIds } = content.model.choice;
        return { view, pool_ids: [...poolIds] };
      },
    });
  },
};

function choiceOf({ view, day, pool_ids }: ReadonlyPartialJSONObject): Partial<CalendarChoice> {
  return {
    ...(["week", "day", "list"].includes(String(view)) && { view: view as CalendarChoice["view"] }),
    ...(typeof day === "string" && { day }),
    ...(Array.isArray(pool_ids) && { poolIds: pool_ids.map(String) }),
  };
}
