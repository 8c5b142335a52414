import { Notification } from "@jupyterlab/apputils";
import { PathExt } from "@jupyterlab/coreutils";

import { stepWords } from "../components/moveWords";
import type { Words } from "../components/words";
import { reasonInWords } from "../components/words";
import type { Move, Moves } from "../models/moves";

/** What a move is told by while its dialog is closed: its steps, then its result. */
export class MoveToasts {
  constructor(
    private readonly moves: Moves,
    private readonly words: Words,
    /** Open the dialog of the notebook with this kernel; false where it is not open here. */
    private readonly show: (kernelId: string) => boolean,
  ) {
    moves.changed.connect(this.update, this);
  }

  private update(_: Moves, move: Move): void {
    const isGone = this.moves.of(move.kernelId) !== move;
    if (isGone || this.moves.isAttended(move.kernelId)) {
      this.dismiss(move);
    } else if (move.isEnded) {
      this.tellEnd(move);
    } else {
      this.tellStep(move);
    }
  }

  private tellStep(move: Move): void {
    const { trans } = this.words;
    const { value, wish, isCancelling } = move;
    const to =
      wish.target === "gpu"
        ? trans.__("Moving %1 to a GPU", this.name(move))
        : trans.__("Moving %1 back", this.name(move));
    const step = isCancelling ? trans.__("Cancelling…") : stepWords(trans, value?.state ?? "requested");
    const message = trans.__("%1: %2", to, step);
    const actions = [
      this.showing(move),
      {
        label: trans.__("Cancel the move"),
        callback: (event: MouseEvent) => {
          event.preventDefault();
          void move.cancel();
        },
      },
    ];
    this.put(move, message, "in-progress", { actions, progress: value?.progress ?? 0, autoClose: false });
  }

  private tellEnd(move: Move): void {
    const { trans } = this.words;
    const { phase, value, error } = move;
    const name = this.name(move);
    const lost = value?.result?.lost?.length ?? 0;
    const actions = [this.showing(move)];
    if (phase === "done") {
      const message = lost
        ? trans._n("%2 has moved; %1 name stayed behind.", "%2 has moved; %1 names stayed behind.", lost, name)
        : this.doneInWords(move, name);
      this.put(move, message, lost ? "warning" : "success", { actions, autoClose: lost ? false : 8000 });
    } else if (phase === "cancelled") {
      this.put(move, trans.__("The move of %1 was cancelled; nothing was charged.", name), "info", {
        actions: [],
        autoClose: 8000,
      });
    } else {
      const why = value?.error?.message ?? (error ? reasonInWords(error, this.words) : "");
      this.put(move, trans.__("%1 was not moved: %2", name, why), "error", { actions, autoClose: false });
    }
  }

  private doneInWords({ value }: Move, name: string): string {
    const { trans } = this.words;
    const isBack = value?.target === "cpu";
    if (!value?.result?.restored?.length) {
      return isBack ? trans.__("%1 is back on the CPU.", name) : trans.__("%1 is on the GPU now.", name);
    }
    return isBack
      ? trans.__("%1 is back on the CPU, with its variables.", name)
      : trans.__("%1 is on the GPU now, with its variables.", name);
  }

  private put(
    move: Move,
    message: string,
    type: Notification.TypeOptions,
    options: { actions: Notification.IAction[]; progress?: number; autoClose: number | false },
  ): void {
    const known = this.toasts.get(move);
    if (known && Notification.manager.has(known.id)) {
      const said = JSON.stringify([message, type, options.progress]);
      if (said !== known.said) {
        known.said = said;
        Notification.update({ id: known.id, message, type, ...options });
      }
    } else if (!known || move.isEnded) {
      // Steps that a person has put away do not come back; the end is told.
      const id = Notification.emit(message, type, options);
      this.toasts.set(move, { id, said: "" });
    }
  }

  private showing(move: Move): Notification.IAction {
    return {
      label: this.words.trans.__("Show"),
      callback: (event) => {
        if (!this.show(move.kernelId)) {
          event.preventDefault();
        }
      },
    };
  }

  private dismiss(move: Move): void {
    const known = this.toasts.get(move);
    if (known) {
      Notification.dismiss(known.id);
      this.toasts.delete(move);
    }
  }

  private name({ value }: Move): string {
    const { trans } = this.words;
    return value?.notebook_path ? trans.__("“%1”", PathExt.basename(value.notebook_path)) : trans.__("the notebook");
  }

  private toasts = new Map<Move, { id: string; said: string }>();
}
