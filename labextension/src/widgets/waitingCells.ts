import type { Notebook, NotebookPanel } from "@jupyterlab/notebook";
import { NotebookActions } from "@jupyterlab/notebook";
import type { Kernel, KernelMessage } from "@jupyterlab/services";
import type { IDisposable } from "@lumino/disposable";

import type { NotebookPlace } from "../models/notebookPlace";

const WAITS = "ch-mod-waits";

type Cell = Notebook["widgets"][number];
/** What of a code cell is looked at here; other cells have none of it. */
type Sent = { outputArea?: { future?: Kernel.IShellFuture | null }; model: { executionState?: string } };

/**
 * Marks the cells that were sent while their notebook moves, so that `[*]` is not taken for running.
 *
 * Until the cell that ran when the move was asked for has ended, it is told from the others by the kernel's own word
 * that it began; after that no cell runs before the move is over.
 */
export class WaitingCells implements IDisposable {
  constructor(
    private readonly panel: NotebookPanel,
    private readonly notebook: NotebookPlace,
    private readonly isMoving: () => "waiting" | "moving" | null,
    private readonly words: string,
  ) {
    notebook.changed.connect(this.mark, this);
    NotebookActions.executionScheduled.connect(this.markSoon, this);
    panel.sessionContext.iopubMessage.connect(this.hear, this);
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  /** Look at all cells; called whenever a move goes on. */
  mark(): void {
    const phase = this._isDisposed ? null : this.isMoving();
    if (phase === null && !this.marked.size) {
      return;
    }
    const waiting = new Set(phase ? this.panel.content.widgets.filter((cell) => this.waits(cell, phase)) : []);
    this.marked.forEach((cell) => !waiting.has(cell) && this.show(cell, false));
    waiting.forEach((cell) => this.show(cell, true));
    this.marked = waiting;
  }

  dispose(): void {
    if (this._isDisposed) {
      return;
    }
    this._isDisposed = true;
    this.notebook.changed.disconnect(this.mark, this);
    NotebookActions.executionScheduled.disconnect(this.markSoon, this);
    this.panel.sessionContext.iopubMessage.disconnect(this.hear, this);
    this.marked.clear();
  }

  private hear(_: unknown, message: KernelMessage.IMessage): void {
    if (message.header.msg_type === "execute_input") {
      this.running = (message.parent_header as { msg_id?: string }).msg_id ?? null;
      this.mark();
    }
  }

  /** It is told before the cell has become `[*]`. */
  private markSoon(_: unknown, { notebook }: { notebook: Notebook }): void {
    if (notebook === this.panel.content) {
      window.requestAnimationFrame(() => this.mark());
    }
  }

  private waits(cell: Cell, phase: "waiting" | "moving"): boolean {
    const { model, outputArea } = cell as unknown as Sent;
    if (model.executionState !== "running") {
      return false;
    }
    const future = outputArea?.future;
    // Another person's cell, which has no future here, is told only once nothing runs any more.
    return phase === "moving" || (!!future && future.msg.header.msg_id !== this.running);
  }

  private show(cell: Cell, waits: boolean): void {
    if (cell.isDisposed) {
      return;
    }
    cell.toggleClass(WAITS, waits);
    // Seen and read out by way of the style sheet: an element of ours would have no place in the cell's layout.
    const wrapper = cell.node.querySelector<HTMLElement>(".jp-Cell-inputWrapper");
    const prompt = cell.node.querySelector<HTMLElement>(".jp-InputArea-prompt");
    if (waits) {
      wrapper?.setAttribute("data-ch-waits", this.words);
      prompt?.setAttribute("title", this.words);
    } else {
      wrapper?.removeAttribute("data-ch-waits");
      prompt?.removeAttribute("title");
    }
  }

  private _isDisposed = false;
  private marked = new Set<Cell>();
  private running: string | null = null;
}
