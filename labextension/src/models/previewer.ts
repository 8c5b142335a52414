import type { IDisposable } from "@lumino/disposable";
import type { ISignal } from "@lumino/signaling";
import { Signal } from "@lumino/signaling";

import type { ComputeHubClient } from "../api/client";
import type { ApiError } from "../api/errors";
import { asApiError } from "../api/errors";
import type { AnswerOf, SwitchRequest } from "../api/types";

/** Typing a number asks once, when it is typed. */
const SETTLED_MS = 300;

export type PreviewAnswer = AnswerOf<"previewSwitch">;

/** Asks what a move would cost and lose, for the latest wish alone. */
export class Previewer implements IDisposable {
  constructor(private readonly client: ComputeHubClient) {}

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** The last answer; of an earlier wish while `isAsking`. None where the last question failed: its price is not known. */
  get answer(): PreviewAnswer | null {
    return this._answer;
  }

  get error(): ApiError | null {
    return this._error;
  }

  get isAsking(): boolean {
    return this._isAsking;
  }

  /** Names that could come along, from the last answer about all of them. */
  get names(): { name: string; bytes?: number; type?: string }[] {
    return this._names;
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  /** Ask about a wish, unless it is the one that was asked about last. */
  ask(wish: SwitchRequest): void {
    const asked = JSON.stringify(wish);
    if (asked === this.asked) {
      return;
    }
    const isFirst = this.asked === "";
    this.asked = asked;
    window.clearTimeout(this.timer);
    this._isAsking = true;
    this._changed.emit();
    this.timer = window.setTimeout(() => void this.fetch(wish, asked), isFirst ? 0 : SETTLED_MS);
  }

  /** Ask about the same wish anew. */
  again(wish: SwitchRequest): void {
    this.asked = "";
    this.ask(wish);
  }

  dispose(): void {
    this._isDisposed = true;
    window.clearTimeout(this.timer);
    Signal.clearData(this);
  }

  private async fetch(wish: SwitchRequest, asked: string): Promise<void> {
    let answer: PreviewAnswer | null = null;
    let error: ApiError | null = null;
    try {
      answer = await this.client.previewSwitch(wish);
    } catch (reason) {
      error = asApiError(reason);
    }
    if (this._isDisposed || asked !== this.asked) {
      return;
    }
    this._isAsking = false;
    this._answer = answer;
    this._error = error;
    if (wish.keep === "all" && answer?.preview) {
      this._names = (answer.preview.carried ?? []).flatMap(({ name, ...rest }) => (name ? [{ name, ...rest }] : []));
    }
    this._changed.emit();
  }

  private _answer: PreviewAnswer | null = null;
  private _changed = new Signal<this, void>(this);
  private _error: ApiError | null = null;
  private _isAsking = false;
  private _isDisposed = false;
  private _names: { name: string; bytes?: number; type?: string }[] = [];
  private asked = "";
  private timer = 0;
}
