import type { NotebookPanel } from "@jupyterlab/notebook";
import { PathExt } from "@jupyterlab/coreutils";
import type { CommandRegistry } from "@lumino/commands";
import type { ReadonlyPartialJSONObject } from "@lumino/coreutils";
import type { Widget } from "@lumino/widgets";

import { CommandIDs } from "../commands";
import type { Words } from "../components/words";
import type { ComputeHub } from "../models/hub";
import type { MoveDraft } from "../models/moveDraft";
import type { Moves } from "../models/moves";
import { isUnderWay } from "../models/moves";
import { NotebookPlace } from "../models/notebookPlace";
import type { Preferences } from "../models/preferences";
import { SwitchButtonWidget } from "./switchButton";
import { openMoveDialog } from "./moveDialog";
import { WaitingCells } from "./waitingCells";

export interface NotebookMovesOptions {
  hub: ComputeHub;
  moves: Moves;
  preferences: Preferences;
  words: Words;
  commands: CommandRegistry;
}

/** What each open notebook has of ours: its place, its button, its waiting cells, and the dialog that moves it. */
export class NotebookMoves {
  constructor(private readonly options: NotebookMovesOptions) {}

  /** Follow a notebook until it is closed. */
  add(panel: NotebookPanel): NotebookPlace {
    const known = this.places.get(panel);
    if (known) {
      return known;
    }
    const { hub, moves, words } = this.options;
    const place = new NotebookPlace(hub, panel.sessionContext);
    this.places.set(panel, place);
    const phase = () => this.phaseOf(place);
    const cells = new WaitingCells(panel, place, phase, words.trans.__("Waits for the move"));
    const mark = () => cells.mark();
    moves.changed.connect(mark);
    panel.disposed.connect(() => {
      moves.changed.disconnect(mark);
      cells.dispose();
      place.dispose();
      this.places.delete(panel);
    });
    return place;
  }

  button(panel: NotebookPanel): Widget {
    const { hub, moves, words } = this.options;
    const onClick = () => void this.ask(panel);
    return new SwitchButtonWidget({ hub, moves, words, notebook: this.add(panel), onClick });
  }

  /** Open the dialog for the notebook with this kernel; false where it is not open here. */
  show(kernelId: string): boolean {
    for (const [panel, place] of this.places) {
      if (place.kernelId === kernelId) {
        void this.open(panel);
        return true;
      }
    }
    return false;
  }

  /** Ask where to move a notebook; without a target it shows where the notebook is first. */
  async ask(panel: NotebookPanel | null, target?: "gpu" | "cpu", args: ReadonlyPartialJSONObject = {}): Promise<void> {
    if (panel) {
      const { kernelId } = this.add(panel);
      if (kernelId) {
        // Who asks anew does not want to read how the last move ended.
        this.options.moves.forget(kernelId);
      }
      await this.open(panel, target, args);
    }
  }

  private async open(
    panel: NotebookPanel,
    target?: "gpu" | "cpu",
    args: ReadonlyPartialJSONObject = {},
  ): Promise<void> {
    if (this.isAsking) {
      return;
    }
    const { hub, moves, words, commands } = this.options;
    this.isAsking = true;
    try {
      await openMoveDialog({
        hub,
        moves,
        words,
        target,
        notebook: this.add(panel),
        name: PathExt.basename(panel.context.path),
        defaults: this.defaults(args),
        onBook: ({ model, count, starts_at, ends_at }, startsAt) => {
          const duration_seconds = (Date.parse(ends_at) - Date.parse(starts_at)) / 1000;
          const notebook_path = panel.context.path;
          void commands.execute(CommandIDs.book, {
            model,
            count,
            starts_at: startsAt,
            duration_seconds,
            notebook_path,
          });
        },
        onExtend: (lease_id) => void commands.execute(CommandIDs.extendLease, { lease_id }),
        onLog: (lease_id) => void commands.execute(CommandIDs.showLog, { lease_id }),
      });
    } finally {
      this.isAsking = false;
    }
  }

  /** What a person usually chooses, and what the command was given. */
  private defaults({ count, model, duration_seconds: seconds }: ReadonlyPartialJSONObject): Partial<MoveDraft> {
    const { preferences } = this.options;
    const [usual, minutes] = [preferences.get("model"), preferences.get("durationMinutes")];
    return {
      ...(typeof count === "number" && { count }),
      model: typeof model === "string" ? model : usual || null,
      durationSeconds: typeof seconds === "number" ? seconds : minutes ? minutes * 60 : null,
      keep: preferences.get("keep"),
    };
  }

  private phaseOf({ kernelId, value }: NotebookPlace): "waiting" | "moving" | null {
    const mine = kernelId ? this.options.moves.of(kernelId)?.value : null;
    const move = mine && isUnderWay(mine) ? mine : (value?.switch ?? null);
    if (!move) {
      return null;
    }
    return ["requested", "waiting"].includes(move.state) ? "waiting" : "moving";
  }

  private isAsking = false;
  private places = new Map<NotebookPanel, NotebookPlace>();
}
