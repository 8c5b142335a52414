import type { IDisposable } from "@lumino/disposable";
import { DisposableDelegate } from "@lumino/disposable";
import type { ISignal } from "@lumino/signaling";
import { Signal } from "@lumino/signaling";

const TICK_MS = 1000;

/**
 * The control plane's time, as well as a browser can know it.
 *
 * Laptops' clocks are minutes off; the time left and the cost are counted from the server's. `tick` fires once a second
 * while somebody watches and the tab can be seen, and not at all otherwise.
 */
export class ServerClock implements IDisposable {
  constructor() {
    document.addEventListener("visibilitychange", this.adjust);
  }

  /** Emitted every second while watched and visible. */
  get tick(): ISignal<this, void> {
    return this._tick;
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  /** Milliseconds since the epoch by the server's clock. */
  now(): number {
    return Date.now() + this._offset;
  }

  /** Learn from an answer's `server_now`. */
  learn(serverNow: string): void {
    const heard = Date.parse(serverNow);
    if (!Number.isNaN(heard)) {
      this._offset = heard - Date.now();
    }
  }

  /** Keep the tick going until the answer is disposed. */
  watch(): IDisposable {
    this._watchers += 1;
    this.adjust();
    return new DisposableDelegate(() => {
      this._watchers -= 1;
      this.adjust();
    });
  }

  dispose(): void {
    if (this._isDisposed) {
      return;
    }
    this._isDisposed = true;
    document.removeEventListener("visibilitychange", this.adjust);
    this.adjust();
    Signal.clearData(this);
  }

  private adjust = (): void => {
    const wanted = this._watchers > 0 && !document.hidden && !this._isDisposed;
    if (wanted && this._timer === null) {
      this._timer = window.setInterval(() => this._tick.emit(), TICK_MS);
      this._tick.emit();
    } else if (!wanted && this._timer !== null) {
      window.clearInterval(this._timer);
      this._timer = null;
    }
  };

  private _isDisposed = false;
  private _offset = 0;
  private _tick = new Signal<this, void>(this);
  private _timer: number | null = null;
  private _watchers = 0;
}
