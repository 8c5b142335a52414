import type { IStateDB } from "@jupyterlab/statedb";
import type { ReadonlyPartialJSONValue } from "@lumino/coreutils";
import type { ISignal } from "@lumino/signaling";
import { Signal } from "@lumino/signaling";

/** How a person left a view: what is folded, filtered and sorted. Kept with the workspace, where one is there. */
export class Remembered<State extends object> {
  constructor(
    initial: State,
    private readonly key: string,
    private readonly store: Pick<IStateDB, "fetch" | "save"> | null,
  ) {
    this._state = initial;
  }

  get state(): State {
    return this._state;
  }

  get changed(): ISignal<this, State> {
    return this._changed;
  }

  /** What was saved is known, or that nothing was. */
  get isLoaded(): boolean {
    return this._isLoaded;
  }

  /** Take up what was saved. What a person has set meanwhile stays. */
  async load(): Promise<void> {
    const before = this._state;
    const saved = await this.store?.fetch(this.key).catch(() => undefined);
    if (saved && typeof saved === "object" && this._state === before) {
      this._state = { ...before, ...(saved as Partial<State>) };
    }
    this._isLoaded = true;
    this._changed.emit(this._state);
  }

  set(part: Partial<State>): void {
    this._state = { ...this._state, ...part };
    this._changed.emit(this._state);
    // Losing a fold is no reason to complain.
    this.store?.save(this.key, this._state as ReadonlyPartialJSONValue).catch(() => undefined);
  }

  private _changed = new Signal<this, State>(this);
  private _isLoaded = false;
  private _state: State;
}
