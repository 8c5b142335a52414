import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ITranslator } from "@jupyterlab/translation";

import { CommandIDs } from "../commands";
import { wordsOf } from "../components/words";
import type { Stop } from "../models/tour";
import { Tour } from "../models/tour";
import { SIDEBAR_ID } from "../widgets/sidebar";
import { TourWidget } from "../widgets/tour";

export const tour: JupyterFrontEndPlugin<void> = {
  id: "computehub:tour",
  description: "A short tour of the panel, the button, the status bar and the menu.",
  autoStart: true,
  requires: [ITranslator],
  activate: ({ commands }: JupyterFrontEnd, translator: ITranslator) => {
    const words = wordsOf(translator.load("computehub"), translator.languageCode);
    const { trans } = words;
    let running: TourWidget | null = null;
    const stops: Stop[] = [
      {
        title: trans.__("GPUs and credits"),
        text: trans.__(
          "Your credits, what runs for you, which GPUs are free and at what price, and what you have booked.",
        ),
        find: () => seen(`#${SIDEBAR_ID}`),
      },
      {
        title: trans.__("Move this notebook"),
        text: trans.__(
          "To a GPU with its variables, and back when you say so. You see the price before anything happens.",
        ),
        find: () => seen(".ch-SwitchButton"),
      },
      {
        title: trans.__("Keep an eye on it"),
        text: trans.__("Where this notebook runs, what that costs, how long it lasts and what you have left."),
        find: () => seen(".ch-StatusItem"),
      },
      {
        title: trans.__("Book for later"),
        text: trans.__("The calendar, the booking form and all the rest are in this menu, and this tour as well."),
        find: () => [...document.querySelectorAll(".lm-MenuBar-item")].find(isOurs) ?? null,
      },
    ];
    // The menu's name comes from the schema, which is translated by the server with the same words.
    const isOurs = ({ textContent }: Element) => [trans._p("schema", "GPU"), "GPU"].includes(textContent ?? "");
    commands.addCommand(CommandIDs.startTour, {
      label: trans.__("Take the Tour of GPUs and Credits"),
      caption: trans.__("A few stops that show what is where"),
      execute: async () => {
        running?.dispose();
        if (commands.hasCommand(CommandIDs.showPanel)) {
          await commands.execute(CommandIDs.showPanel);
        }
        running = new TourWidget(new Tour(stops), words);
        running.start();
      },
    });
  },
};

/** What a person sees of a selector: the first that takes up room. */
function seen(selector: string): Element | null {
  return [...document.querySelectorAll(selector)].find((each) => each.getClientRects().length > 0) ?? null;
}
