import type { Event } from "@jupyterlab/services";
import type { IDisposable } from "@lumino/disposable";
import type { ISignal, Signal as SignalType } from "@lumino/signaling";
import { Signal } from "@lumino/signaling";

const PREFIX = "urn:computehub:event:";

/** An event of ours: a hint that something changed, to be fetched again. Never evidence, and it names no amounts. */
export interface Hint {
  noun: "approval" | "booking" | "lease" | "notice" | "person" | "switch";
  action: string;
  occurred_at: string;
  approval_id?: string;
  booking_id?: string;
  kernel_id?: string;
  lease_id?: string;
  reason?: string;
  switch_id?: string;
}

/** Our events out of the server's event stream, and the moments at which some may have been missed. */
export class Live implements IDisposable {
  constructor(private readonly events: Event.IManager) {
    events.stream.connect(this.hear, this);
    document.addEventListener("visibilitychange", this.look);
    window.addEventListener("online", this.look);
  }

  /** One of our events. */
  get hint(): ISignal<this, Hint> {
    return this._hint;
  }

  /** The tab is seen again or the network is back: what was missed meanwhile is unknown. */
  get gap(): ISignal<this, void> {
    return this._gap;
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  dispose(): void {
    if (this._isDisposed) {
      return;
    }
    this._isDisposed = true;
    this.events.stream.disconnect(this.hear, this);
    document.removeEventListener("visibilitychange", this.look);
    window.removeEventListener("online", this.look);
    Signal.clearData(this);
  }

  private hear(_: unknown, emission: Event.Emission): void {
    const { schema_id: schema, ...payload } = emission as unknown as Record<string, unknown>;
    if (typeof schema === "string" && schema.startsWith(PREFIX)) {
      const noun = schema.slice(PREFIX.length).split(":")[0];
      this._hint.emit({ ...payload, noun } as unknown as Hint);
    }
  }

  private look = (): void => {
    if (!document.hidden) {
      this._gap.emit();
    }
  };

  private _gap: SignalType<this, void> = new Signal<this, void>(this);
  private _hint: SignalType<this, Hint> = new Signal<this, Hint>(this);
  private _isDisposed = false;
}
