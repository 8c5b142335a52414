import type { IDisposable } from "@lumino/disposable";
import type { ISignal } from "@lumino/signaling";
import { Signal } from "@lumino/signaling";

/** A thing to be shown, and what is said of it. */
export interface Stop {
  title: string;
  text: string;
  /** Where it is; a stop that is nowhere is left out. */
  find: () => Element | null;
}

/** A walk past what is there, forth and back. */
export class Tour implements IDisposable {
  constructor(stops: readonly Stop[]) {
    this.stops = stops.filter(({ find }) => find() !== null);
  }

  readonly stops: readonly Stop[];

  /** Emitted when another stop is shown, and at the end. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  /** Counted from 0. */
  get at(): number {
    return this._at;
  }

  get stop(): Stop | null {
    return this._isDisposed ? null : (this.stops[this._at] ?? null);
  }

  get isLast(): boolean {
    return this._at >= this.stops.length - 1;
  }

  /** The next stop; after the last one it is over. */
  next(): void {
    if (this.isLast) {
      this.dispose();
    } else {
      this._at += 1;
      this._changed.emit();
    }
  }

  back(): void {
    this._at = Math.max(0, this._at - 1);
    this._changed.emit();
  }

  dispose(): void {
    if (this._isDisposed) {
      return;
    }
    this._isDisposed = true;
    this._changed.emit();
    Signal.clearData(this);
  }

  private _at = 0;
  private _changed = new Signal<this, void>(this);
  private _isDisposed = false;
}
