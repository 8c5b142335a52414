import type { IDisposable } from "@lumino/disposable";
import { DisposableDelegate } from "@lumino/disposable";
import { Poll } from "@lumino/polling";
import type { ISignal } from "@lumino/signaling";
import { Signal } from "@lumino/signaling";

import type { ApiError } from "../api/errors";
import { asApiError } from "../api/errors";

const INTERVAL_MS = 60_000;
const LONGEST_MS = 10 * 60_000;
/** What was asked so shortly before, the poll does not ask again. */
const JUST_NOW_MS = 1000;
/** A server restarts within seconds: what may work in a moment is tried again so soon at first, and at last. */
const AGAIN_FIRST_MS = 4000;
const AGAIN_LAST_MS = 60_000;

/** What a view shows of a resource: its value, the last failure, or both (an old value beside a new failure). */
export interface ResourceState<Value> {
  readonly value: Value | undefined;
  readonly error: ApiError | null;
  readonly isFetching: boolean;
}

export interface ResourceOptions<Value> {
  name: string;
  /** How often to look without being told, in milliseconds. Events tell most; this is for what they miss. */
  intervalMs?: number;
  /** How soon to look again after this value, where that is before the next look; 0 where there is no hurry. */
  soonMs?: (value: Value) => number;
}

/**
 * One thing of the server that views share: fetched while somebody uses it, kept fresh by events, and by polling with
 * backoff behind them. Hidden tabs ask nothing; what went stale meanwhile is fetched when the tab is seen again.
 */
export class Resource<Value> implements IDisposable {
  constructor(
    private readonly fetchValue: () => Promise<Value>,
    { name, intervalMs = INTERVAL_MS, soonMs = () => 0 }: ResourceOptions<Value>,
  ) {
    this.soonMs = soonMs;
    this.poll = new Poll({
      auto: false,
      name: `computehub:${name}`,
      factory: () => this.fetchOrThrow(),
      frequency: { interval: intervalMs, backoff: true, max: Math.max(LONGEST_MS, intervalMs) },
      standby: () => this.users === 0 || document.hidden,
    });
  }

  get changed(): ISignal<this, ResourceState<Value>> {
    return this._changed;
  }

  get state(): ResourceState<Value> {
    return this._state;
  }

  get value(): Value | undefined {
    return this._state.value;
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  /** Keep this fresh until the answer is disposed. The first user makes it fetch. */
  use(): IDisposable {
    this.users += 1;
    if (this.users === 1) {
      // At once: the poll would wait for the next frame, which a page that is being drawn has in its own time.
      this.invalidate();
      void this.poll.start();
    }
    return new DisposableDelegate(() => {
      this.users -= 1;
      if (this.users === 0 && !this._isDisposed) {
        void this.poll.stop();
      }
    });
  }

  /** Fetch now, and wait for it. What is asked for while a fetch is under way is answered by a second one after it. */
  async refresh(): Promise<void> {
    if (this._isDisposed) {
      return;
    }
    this.isWanted = true;
    this.running ??= this.fetchWanted().finally(() => {
      this.running = null;
    });
    return this.running;
  }

  /** Something changed there: fetch at once if anybody looks, else when somebody does. */
  invalidate(): void {
    this.isStale = true;
    if (this.users > 0 && !document.hidden) {
      void this.refresh();
    }
  }

  /** Show what the answer to a write already told. What is being fetched was asked before it, and is asked again. */
  set(value: Value): void {
    this.isOutdated = this.running !== null;
    this.show({ ...this._state, value, error: null });
  }

  /** The tab is seen again, the network is back, or it is time to try again. */
  look(): void {
    if (this.users > 0 && !document.hidden && (this.isStale || this._state.error)) {
      void this.refresh();
    }
  }

  dispose(): void {
    if (this._isDisposed) {
      return;
    }
    this._isDisposed = true;
    window.clearTimeout(this.again);
    this.poll.dispose();
    Signal.clearData(this);
  }

  private async fetchWanted(): Promise<void> {
    while (this.isWanted && !this._isDisposed) {
      this.isWanted = false;
      this.isOutdated = false;
      this.isStale = false;
      this.askedAt = Date.now();
      this.show({ ...this._state, isFetching: true });
      try {
        const value = await this.fetchValue();
        this.failures = 0;
        if (this.isOutdated) {
          this.isWanted = true;
        } else {
          this.show({ value, error: null, isFetching: false });
          this.lookSoon(this.soonMs(value));
        }
      } catch (reason) {
        this.isStale = true;
        const error = asApiError(reason);
        this.tryAgain(error);
        this.show({ ...this._state, error, isFetching: false });
      }
    }
  }

  /** Well before the next look, later each time, and not with everybody else at one moment. */
  private tryAgain({ isTransient, retryAfterSeconds }: ApiError): void {
    window.clearTimeout(this.again);
    if (isTransient && !this._isDisposed) {
      const wait = Math.min(AGAIN_LAST_MS, AGAIN_FIRST_MS * 2 ** this.failures);
      const least = 1000 * (retryAfterSeconds ?? 0);
      this.failures += 1;
      this.again = window.setTimeout(() => this.look(), Math.max(wait, least) * (1 + Math.random() / 4));
    }
  }

  /** What is on its way is not told by events. */
  private lookSoon(ms: number): void {
    window.clearTimeout(this.again);
    if (ms && !this._isDisposed) {
      this.again = window.setTimeout(() => this.invalidate(), ms * (1 + Math.random() / 4));
    }
  }

  /** For the poll, whose backoff is told by a rejection. */
  private async fetchOrThrow(): Promise<void> {
    if (this.running || Date.now() - this.askedAt > JUST_NOW_MS) {
      await (this.running ?? this.refresh());
    }
    if (this._state.error) {
      throw this._state.error;
    }
  }

  private show(state: ResourceState<Value>): void {
    if (!this._isDisposed) {
      this._state = state;
      this._changed.emit(state);
    }
  }

  private readonly poll: Poll;
  private readonly soonMs: (value: Value) => number;
  private _changed = new Signal<this, ResourceState<Value>>(this);
  private _isDisposed = false;
  private _state: ResourceState<Value> = { value: undefined, error: null, isFetching: false };
  private again = 0;
  private askedAt = 0;
  private failures = 0;
  /** A write was answered since the fetch under way was asked. */
  private isOutdated = false;
  private isStale = false;
  private isWanted = false;
  private running: Promise<void> | null = null;
  private users = 0;
}
