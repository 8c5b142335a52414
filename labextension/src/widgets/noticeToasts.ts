import { Notification } from "@jupyterlab/apputils";
import { PathExt } from "@jupyterlab/coreutils";
import type { CommandRegistry } from "@lumino/commands";
import type { IDisposable } from "@lumino/disposable";

import type { Lease, Offer } from "../api/types";
import { CommandIDs } from "../commands";
import { devicesOf } from "../components/moveWords";
import { roomWords } from "../components/room";
import type { Words } from "../components/words";
import { reasonInWords } from "../components/words";
import { Actions } from "../models/actions";
import type { ComputeHub } from "../models/hub";
import type { Moves } from "../models/moves";
import type { Notice, Notices } from "../models/notices";
import type { Preferences } from "../models/preferences";

export interface NoticeToastsOptions {
  hub: ComputeHub;
  /** Without the switch button moves are asked for all the same, and followed by nobody. */
  moves: Moves | null;
  notices: Notices;
  preferences: Preferences;
  words: Words;
  commands: CommandRegistry;
}

type Toast = { message: string; type: Notification.TypeOptions; actions: Notification.IAction[] };

/** Shows notices as JupyterLab's notifications, with answers of one click; takes them away when they hold no more. */
export class NoticeToasts implements IDisposable {
  constructor(private readonly options: NoticeToastsOptions) {
    this.actions = new Actions(options.hub);
    options.notices.changed.connect(this.update, this);
    options.preferences.changed.connect(this.update, this);
    this.update();
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  dispose(): void {
    this._isDisposed = true;
    this.options.notices.changed.disconnect(this.update, this);
    this.options.preferences.changed.disconnect(this.update, this);
  }

  private update(): void {
    const { notices } = this.options;
    for (const [id, notice] of notices.current) {
      if (!this.shown.has(id) && this.isWanted(notice)) {
        const { message, type, actions } = this.toastOf(notice);
        // It stays until it is answered or no longer true: some read slowly, some are away.
        this.shown.set(id, Notification.emit(message, type, { autoClose: false, actions }));
      }
    }
    for (const [id, toast] of this.shown) {
      const notice = notices.current.get(id);
      if (!notice || (notice.kind !== "failed" && !this.isWanted(notice))) {
        Notification.dismiss(toast);
        this.shown.delete(id);
      }
    }
  }

  private isWanted(notice: Notice): boolean {
    if (notice.kind === "failed") {
      // One that this tab follows is told by its dialog or its own notification.
      const mine = this.options.moves?.of(notice.move.kernel_id);
      return !mine || (mine.isEnded && mine.value?.id !== notice.move.id);
    }
    return notice.kind === "approval" || this.options.preferences.get("showWarnings");
  }

  private toastOf(notice: Notice): Toast {
    const { words, hub } = this.options;
    const { trans, formats } = words;
    switch (notice.kind) {
      case "ending": {
        const { lease, isUrgent, extraSeconds } = notice;
        const [where, what, at] = [nameOf(words, lease), devicesOf(words, lease), formats.time(lease.ends_at)];
        const longer = trans.__("%1 more", formats.duration(extraSeconds));
        const message = extraSeconds
          ? trans.__("%1 leaves %2 at %3. Before that it moves back to the CPU with its variables.", where, what, at)
          : trans.__("%1 leaves %2 at %3, and your credits do not last for longer.", where, what, at);
        const extend = this.answer(notice, longer, () => this.actions.extendLease(lease.id, extraSeconds), "accent");
        return {
          message,
          type: isUrgent ? "error" : "warning",
          actions: [...(extraSeconds ? [extend] : []), this.bringBack(notice, lease)],
        };
      }
      case "idle": {
        const { lease, place, givesBackAt } = notice;
        const [where, what, at] = [nameOf(words, lease), devicesOf(words, lease), formats.time(givesBackAt)];
        return {
          message: trans.__("No cell runs in %1. %2 is given back at %3, unless you keep it.", where, what, at),
          type: "warning",
          actions: [
            this.answer(notice, trans.__("Keep it"), () => this.keep(place.kernel_id), "accent"),
            this.bringBack(notice, lease),
          ],
        };
      }
      case "approval": {
        const { approval } = notice;
        const [where, amount] = [nameOf(words, approval), formats.credits(approval.amount_microcredits)];
        return {
          message: trans.__("%1 asks to spend %2: %3.", where, amount, formats.withTimes(approval.purpose)),
          type: "warning",
          actions: [
            this.answer(notice, trans.__("Approve"), () => this.actions.approve(approval), "accent"),
            this.answer(notice, trans.__("Decline"), () => this.actions.decline(approval)),
          ],
        };
      }
      case "ended": {
        const { lease } = notice;
        const cost = formats.credits(lease.cost_microcredits);
        const [where, what] = [nameOf(words, lease), devicesOf(words, lease)];
        const why = lease.end_message ?? "";
        const show = this.answer(notice, trans.__("Show the panel"), () => this.showPanel());
        const { roomier } = lease;
        if (!roomier) {
          const message = trans.__("%1 left %2 (%3 in all). %4", where, what, cost, why);
          return { message, type: "info", actions: [show] };
        }
        // JupyterLab cuts a longer message off, so what there is instead is the button's.
        const label = trans.__("Move to %1…", roomier.model);
        const move = this.answer(notice, label, () => this.moveOn(lease, roomier), "accent");
        const caption = [...roomWords(words, roomier), formats.rate(roomier.rate_microcredits_per_hour)].join(", ");
        return {
          message: trans.__("%1 left %2. %3", where, what, why),
          type: "warning",
          actions: [{ ...move, caption }, show],
        };
      }
      case "failed": {
        const { move } = notice;
        const follow = async () => {
          hub.places.invalidate(move.kernel_id);
          this.options.moves?.follow(move);
        };
        return {
          message: trans.__("%1 was not moved: %2", nameOf(words, move), move.error?.message ?? ""),
          type: "error",
          actions: this.options.moves ? [this.answer(notice, trans.__("Show"), follow)] : [],
        };
      }
    }
  }

  /** A button that does its thing once; what goes wrong is told, and then what it answers stands there again. */
  private answer(
    { id }: Notice,
    label: string,
    act: () => Promise<unknown>,
    displayType: Notification.ActionDisplayType = "default",
  ): Notification.IAction {
    const callback = () =>
      void act().catch((reason) => {
        Notification.error(reasonInWords(reason, this.options.words));
        this.shown.delete(id);
        this.update();
      });
    return { label, callback, displayType };
  }

  private bringBack(notice: Notice, lease: Lease): Notification.IAction {
    const { moves, words } = this.options;
    const act = async () =>
      moves ? moves.begin(lease.kernel_id, { target: "cpu", keep: "all" }) : this.actions.bringBack(lease);
    return this.answer(notice, words.trans.__("Back to the CPU now"), act);
  }

  private async keep(kernelId: string): Promise<void> {
    const { hub } = this.options;
    await hub.client.keepKernel(kernelId);
    hub.places.invalidate(kernelId);
  }

  /** Ask about a move to where there is more room; where the notebook is not open, at least show what there is. */
  private async moveOn({ kernel_id: kernelId, count }: Lease, { model }: Offer): Promise<void> {
    const { commands } = this.options;
    const args = { kernel_id: kernelId, model, count };
    if (commands.hasCommand(CommandIDs.moveNotebook) && commands.isEnabled(CommandIDs.moveNotebook, args)) {
      // Its dialog stays open for as long as a person likes.
      void commands.execute(CommandIDs.moveNotebook, args);
    } else {
      await this.showPanel();
    }
  }

  private async showPanel(): Promise<void> {
    const { commands } = this.options;
    if (commands.hasCommand(CommandIDs.showPanel)) {
      await commands.execute(CommandIDs.showPanel);
    }
  }

  private readonly actions: Actions;
  private _isDisposed = false;
  private shown = new Map<string, string>();
}

/** The notebook that it is about, as people call it. */
export function nameOf({ trans }: Words, { notebook_path: path }: { notebook_path: string | null }): string {
  return path ? trans.__("“%1”", PathExt.basename(path)) : trans.__("A notebook");
}
