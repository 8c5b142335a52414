import type { IDisposable } from "@lumino/disposable";
import type { ISignal } from "@lumino/signaling";
import { Signal } from "@lumino/signaling";

import { ApiError, asApiError } from "../api/errors";
import type { Person } from "../api/types";
import type { ComputeHub } from "./hub";
import type { Preferences } from "./preferences";
import type { ResourceState } from "./resource";

/** The settings that hold in cells and in the shell too: what the API calls them, and how many of its units one is. */
const SHARED = {
  durationMinutes: { field: "duration_seconds", units: 60 },
  idleMinutes: { field: "idle_timeout_seconds", units: 60 },
  maxCreditsPerHour: { field: "max_rate_microcredits_per_hour", units: 1_000_000 },
} as const;

type Name = keyof typeof SHARED;

const NAMES = Object.keys(SHARED) as Name[];

/**
 * Keeps some settings of this browser tab and the person's defaults on the server the same.
 *
 * What is changed here goes there at once. Else what the server has is shown here: it heard the last change, from
 * whichever window, shell or Jupyter server that came. The file of settings is no evidence of what somebody chose, since
 * all who share a Jupyter server share it; so it is sent without a change in one case alone: everybody on this server is
 * its owner, who has not told ComputeHub anything yet.
 */
export class SharedDefaults implements IDisposable {
  constructor(
    private readonly hub: ComputeHub,
    private readonly preferences: Preferences,
  ) {
    this.using = hub.me.use();
    hub.me.changed.connect(this.look, this);
    preferences.changed.connect(this.hear, this);
    this.hear();
  }

  /** Emitted when `failure` changed. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** Why the last change is not on the server, while it is not. */
  get failure(): ApiError | null {
    return [...this.failures.values()][0] ?? null;
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  /** Send again what could not be sent. */
  tryAgain(): void {
    this.refused.clear();
    this.settleSoon();
  }

  dispose(): void {
    if (this._isDisposed) {
      return;
    }
    this._isDisposed = true;
    this.using.dispose();
    this.hub.me.changed.disconnect(this.look, this);
    this.preferences.changed.disconnect(this.hear, this);
    Signal.clearData(this);
  }

  private hear(): void {
    if (!this.preferences.isLoaded) {
      return;
    }
    for (const name of NAMES) {
      const value = this.preferences.get(name);
      if (this.seen.has(name) && this.seen.get(name) !== value) {
        this.touched.add(name);
      }
      this.seen.set(name, value);
    }
    this.settleSoon();
  }

  private look(_: unknown, { error, isFetching }: ResourceState<Person>): void {
    if (!error && !isFetching) {
      this.settleSoon();
    }
  }

  private settleSoon(): void {
    this.isWanted = true;
    this.running ??= this.settle().finally(() => {
      this.running = null;
    });
  }

  private async settle(): Promise<void> {
    while (this.isWanted && !this._isDisposed && this.preferences.isLoaded) {
      this.isWanted = false;
      for (const name of NAMES) {
        await this.settleOne(name);
      }
    }
  }

  private async settleOne(name: Name): Promise<void> {
    const me = this.hub.me.value;
    if (me?.identity === "owner" && me.defaults?.changed_at === null) {
      // Of all at once: after the first is sent the server was told something, and its nulls would take the others.
      NAMES.filter((each) => this.here(each) !== this.there(each)).forEach((each) => this.touched.add(each));
    }
    const value = this.preferences.get(name);
    const [here, there] = [this.here(name), this.there(name)];
    if (here === there) {
      this.touched.delete(name);
      this.tell(name, null);
    } else if (this.refused.get(name) === value) {
      // The same again would be refused again; what was typed stays to be corrected.
    } else if (this.touched.has(name)) {
      await this.send(name, value, here);
    } else if (there !== undefined) {
      await this.show(name, there);
    }
  }

  /** What is set here, as the server has it; null follows the administrator. */
  private here(name: Name): number | null {
    const value = this.preferences.get(name);
    return value ? Math.round(value * SHARED[name].units) : null;
  }

  /** What the server has; undefined while that is not known. */
  private there(name: Name): number | null | undefined {
    return this.hub.me.value?.defaults?.[SHARED[name].field];
  }

  private async send(name: Name, value: number, here: number | null): Promise<void> {
    try {
      const defaults = await this.hub.client.setDefaults({ [SHARED[name].field]: here });
      if (this.preferences.get(name) === value) {
        this.touched.delete(name);
      }
      this.tell(name, null);
      const me = this.hub.me.value;
      if (me) {
        this.hub.me.set({ ...me, defaults });
      } else {
        this.hub.touched("person");
      }
    } catch (reason) {
      const error = asApiError(reason);
      if (!error.isTransient) {
        this.refused.set(name, value);
      }
      this.tell(name, error);
    }
  }

  /** Take over what the server has. Nobody changed it here, so it is not sent back. */
  private async show(name: Name, there: number | null): Promise<void> {
    const value = settingOf(name, there);
    if (value === this.preferences.get(name)) {
      return;
    }
    this.seen.set(name, value);
    try {
      await this.preferences.set(name, value);
    } catch (reason) {
      this.tell(name, new ApiError("unsaved", reason instanceof Error ? reason.message : String(reason)));
    }
  }

  private tell(name: Name, error: ApiError | null): void {
    const known = this.failures.get(name) ?? null;
    if (error) {
      this.failures.set(name, error);
    } else {
      this.failures.delete(name);
    }
    if (known?.message !== error?.message) {
      this._changed.emit();
    }
  }

  private _changed = new Signal<this, void>(this);
  private _isDisposed = false;
  private failures = new Map<Name, ApiError>();
  private isWanted = false;
  /** What the server did not allow, so that it is told once. */
  private refused = new Map<Name, number>();
  private running: Promise<void> | null = null;
  private seen = new Map<Name, number>();
  /** Changed in this tab, or an owner's from before the server was told of any; and not on the server yet. */
  private touched = new Set<Name>();
  private readonly using: IDisposable;
}

/** What the settings show of what the server has; 0 follows the administrator. */
function settingOf(name: Name, there: number | null): number {
  const value = (there ?? 0) / SHARED[name].units;
  // A shell may have set half a minute, and the settings know whole ones alone.
  return value && name !== "maxCreditsPerHour" ? Math.max(1, Math.round(value)) : value;
}
