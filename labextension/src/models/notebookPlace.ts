import type { ISessionContext } from "@jupyterlab/apputils";
import type { IDisposable } from "@lumino/disposable";
import type { ISignal } from "@lumino/signaling";
import { Signal } from "@lumino/signaling";

import type { KernelPlace } from "../api/types";
import type { ComputeHub } from "./hub";
import type { ResourceState } from "./resource";

/** Where the kernel of one open notebook runs; follows the notebook to another kernel. Fetched only while watched. */
export class NotebookPlace implements IDisposable {
  constructor(
    private readonly hub: ComputeHub,
    private readonly session: ISessionContext,
  ) {
    session.kernelChanged.connect(this.follow, this);
    session.sessionChanged.connect(this.follow, this);
  }

  /** Where it runs changed, or which kernel it is. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get kernelId(): string | null {
    return this.session.session?.kernel?.id ?? null;
  }

  /** What is known; null without a kernel, or while nobody watches. */
  get state(): ResourceState<KernelPlace> | null {
    return this.opened?.place.state ?? null;
  }

  get value(): KernelPlace | null {
    return this.state?.value ?? null;
  }

  /** Ask again, such as after a failure. */
  refresh(): void {
    void this.opened?.place.refresh();
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  /** Keep it fresh until the answer is disposed. */
  watch(): IDisposable {
    this.watchers += 1;
    this.follow();
    let isDisposed = false;
    return {
      get isDisposed() {
        return isDisposed;
      },
      dispose: () => {
        if (!isDisposed) {
          isDisposed = true;
          this.watchers -= 1;
          this.follow();
        }
      },
    };
  }

  dispose(): void {
    if (this._isDisposed) {
      return;
    }
    this._isDisposed = true;
    this.session.kernelChanged.disconnect(this.follow, this);
    this.session.sessionChanged.disconnect(this.follow, this);
    this.close();
    Signal.clearData(this);
  }

  private follow(): void {
    const wanted = this.watchers > 0 && !this._isDisposed ? this.kernelId : null;
    if (wanted !== (this.opened?.kernelId ?? null)) {
      this.close();
      if (wanted) {
        const { place, release } = this.hub.places.open(wanted);
        this.opened = { kernelId: wanted, place, release };
        place.changed.connect(this.emit, this);
      }
    }
    this.emit();
  }

  private close(): void {
    this.opened?.place.changed.disconnect(this.emit, this);
    this.opened?.release.dispose();
    this.opened = null;
  }

  private emit(): void {
    if (!this._isDisposed) {
      this._changed.emit();
    }
  }

  private _changed = new Signal<this, void>(this);
  private _isDisposed = false;
  private opened: ({ kernelId: string } & ReturnType<ComputeHub["places"]["open"]>) | null = null;
  private watchers = 0;
}
