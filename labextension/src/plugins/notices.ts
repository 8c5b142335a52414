import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ITranslator } from "@jupyterlab/translation";

import { wordsOf } from "../components/words";
import type { ComputeHub } from "../models/hub";
import type { Moves } from "../models/moves";
import { Notices } from "../models/notices";
import type { Preferences } from "../models/preferences";
import { IComputeHub, IMoves, IPreferences } from "../tokens";
import { NoticeToasts } from "../widgets/noticeToasts";

/** Warnings before a GPU is taken back, and what asks for an answer. */
export const notices: JupyterFrontEndPlugin<void> = {
  id: "computehub:notices",
  description: "Warns before idle time, booked time or money ends, and asks for approvals.",
  autoStart: true,
  requires: [IComputeHub, IPreferences, ITranslator],
  optional: [IMoves],
  activate: (
    { commands, restored }: JupyterFrontEnd,
    hub: ComputeHub,
    preferences: Preferences,
    translator: ITranslator,
    moves: Moves | null,
  ) => {
    const words = wordsOf(translator.load("computehub"), translator.languageCode);
    // The page comes first.
    void restored.then(() => new NoticeToasts({ hub, moves, notices: new Notices(hub), preferences, words, commands }));
  },
};
