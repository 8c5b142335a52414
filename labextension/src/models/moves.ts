import type { IDisposable } from "@lumino/disposable";
import { DisposableDelegate } from "@lumino/disposable";
import type { ISignal } from "@lumino/signaling";
import { Signal } from "@lumino/signaling";

import type { ApiError } from "../api/errors";
import { asApiError } from "../api/errors";
import { newKey } from "../api/request";
import type { Switch, SwitchRequest } from "../api/types";
import type { ComputeHub } from "./hub";
import type { Hint, Live } from "./live";
import { Resource } from "./resource";

/** Events tell each step; this is for those that were missed. */
const LOOK_EVERY_MS = 2000;

/**
 * How far a wish to move has come, as this tab knows it.
 *
 * `refused` means that the server said no and nothing began; `failed` that it began and the notebook stayed where it
 * was; `lost`, that the server no longer knows of it, since it was restarted.
 */
export type MovePhase = "asking" | "refused" | "moving" | "done" | "failed" | "cancelled" | "lost";

export function isUnderWay({ state }: Switch): boolean {
  return !["done", "failed", "cancelled"].includes(state);
}

/** One wish to move a notebook: asked for once, however often it is tried, and followed to its end. */
export class Move implements IDisposable {
  constructor(
    private readonly hub: ComputeHub,
    readonly kernelId: string,
    readonly wish: SwitchRequest,
    /** Whether it was asked for here. Of one that began elsewhere `wish` says only where to, not which GPU or how long. */
    readonly isAskedHere = true,
  ) {}

  /** A move that was begun elsewhere, such as by `%gpu on` in a cell. */
  static follow(hub: ComputeHub, value: Switch): Move {
    const move = new Move(hub, value.kernel_id, { target: value.target, kernel_id: value.kernel_id }, false);
    move.accept(value);
    return move;
  }

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get phase(): MovePhase {
    return this._phase;
  }

  /** The server's own account of it, once it began. */
  get value(): Switch | null {
    return this.resource?.value ?? null;
  }

  /** Why it was refused, or why it could not be looked at. */
  get error(): ApiError | null {
    return this._error;
  }

  get isCancelling(): boolean {
    return this._isCancelling;
  }

  get isEnded(): boolean {
    return ["refused", "done", "failed", "cancelled", "lost"].includes(this._phase);
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  /** Ask for it. A second call for an answer that was lost asks with the same key, so that it begins once. */
  async begin(): Promise<void> {
    if (this.resource || this.isAsking) {
      return;
    }
    this.isAsking = true;
    this._error = null;
    this.enter("asking");
    try {
      const value = await this.hub.client.requestSwitch(this.wish, this.key);
      this.accept(value);
    } catch (reason) {
      this._error = asApiError(reason);
      this.enter("refused");
    } finally {
      this.isAsking = false;
    }
  }

  /** Stop it. Too late is no failure: then it goes on to its end. */
  async cancel(): Promise<void> {
    const { value } = this;
    if (!value || this._isCancelling || this.isEnded) {
      return;
    }
    this._isCancelling = true;
    this.emit();
    try {
      this.resource?.set(await this.hub.client.cancelSwitch(value.id));
    } catch (reason) {
      this._error = asApiError(reason);
      await this.resource?.refresh();
    } finally {
      this._isCancelling = false;
      this.emit();
    }
  }

  dispose(): void {
    if (this._isDisposed) {
      return;
    }
    this._isDisposed = true;
    this.leave();
    this.resource?.dispose();
    Signal.clearData(this);
  }

  private accept(value: Switch): void {
    if (this._isDisposed) {
      return;
    }
    const resource = new Resource(() => this.hub.client.getSwitch(value.id), {
      name: `switch:${value.id}`,
      intervalMs: LOOK_EVERY_MS,
    });
    this.resource = resource;
    this.hub.live.hint.connect(this.hear, this);
    this.hub.live.gap.connect(this.look, this);
    resource.changed.connect(this.judge, this);
    resource.set(value);
    if (!this.isEnded) {
      this.use = resource.use();
    }
  }

  private hear(_: Live, { noun, switch_id }: Hint): void {
    if (noun === "switch" && switch_id === this.value?.id) {
      this.resource?.invalidate();
    }
  }

  private look(): void {
    this.resource?.look();
  }

  private judge(): void {
    const { value, error } = this.resource!.state;
    if (error?.code === "not_found") {
      this._error = error;
      this.enter("lost");
    } else if (value && !isUnderWay(value)) {
      this._error = null;
      this.enter(value.state as MovePhase);
    } else {
      this._error = error;
      this.enter("moving");
    }
  }

  private enter(phase: MovePhase): void {
    const wasEnded = this.isEnded;
    this._phase = phase;
    if (this.isEnded && !wasEnded) {
      this.leave();
      this.hub.places.invalidate(this.kernelId);
      this.hub.touched("lease");
    }
    this.emit();
  }

  private leave(): void {
    this.hub.live.hint.disconnect(this.hear, this);
    this.hub.live.gap.disconnect(this.look, this);
    this.use?.dispose();
    this.use = null;
  }

  private emit(): void {
    if (!this._isDisposed) {
      this._changed.emit();
    }
  }

  private readonly key = newKey();
  private _changed = new Signal<this, void>(this);
  private _error: ApiError | null = null;
  private _isCancelling = false;
  private _isDisposed = false;
  private _phase: MovePhase = "asking";
  private isAsking = false;
  private resource: Resource<Switch> | null = null;
  private use: IDisposable | null = null;
}

/** The latest move of each kernel that this tab asked for or saw; it outlives the dialog that it was asked in. */
export class Moves implements IDisposable {
  constructor(private readonly hub: ComputeHub) {}

  /** Something about a move changed, or another one took its place. */
  get changed(): ISignal<this, Move> {
    return this._changed;
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  of(kernelId: string): Move | null {
    return this.moves.get(kernelId) ?? null;
  }

  /** Ask for a move. While one is under way that one is the answer. */
  begin(kernelId: string, wish: SwitchRequest): Move {
    const known = this.moves.get(kernelId);
    if (known && !known.isEnded) {
      return known;
    }
    const move = this.keep(new Move(this.hub, kernelId, { ...wish, kernel_id: kernelId }));
    void move.begin();
    return move;
  }

  /** Follow a move that was begun elsewhere. */
  follow(value: Switch): Move {
    const known = this.moves.get(value.kernel_id);
    if (known && (!known.isEnded || known.value?.id === value.id)) {
      return known;
    }
    return this.keep(Move.follow(this.hub, value));
  }

  /** A dialog shows the moves of this kernel until the answer is disposed, so nothing else needs to. */
  attend(kernelId: string): IDisposable {
    this.attended.add(kernelId);
    return new DisposableDelegate(() => {
      this.attended.delete(kernelId);
      const move = this.moves.get(kernelId);
      if (move) {
        this._changed.emit(move);
      }
    });
  }

  isAttended(kernelId: string): boolean {
    return this.attended.has(kernelId);
  }

  /** A move that ended was seen by its person. */
  forget(kernelId: string): void {
    const move = this.moves.get(kernelId);
    if (move?.isEnded) {
      this.moves.delete(kernelId);
      this._changed.emit(move);
      move.dispose();
    }
  }

  dispose(): void {
    this._isDisposed = true;
    this.moves.forEach((move) => move.dispose());
    this.moves.clear();
    Signal.clearData(this);
  }

  private keep(move: Move): Move {
    const before = this.moves.get(move.kernelId);
    this.moves.set(move.kernelId, move);
    if (before) {
      // What is still shown of it goes with it.
      before.dispose();
      this._changed.emit(before);
    }
    move.changed.connect(() => this._changed.emit(move));
    this._changed.emit(move);
    return move;
  }

  private _changed = new Signal<this, Move>(this);
  private _isDisposed = false;
  private attended = new Set<string>();
  private moves = new Map<string, Move>();
}
