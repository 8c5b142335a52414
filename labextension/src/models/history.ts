import type { IDisposable } from "@lumino/disposable";
import type { ISignal } from "@lumino/signaling";
import { Signal } from "@lumino/signaling";

import type { ApiError } from "../api/errors";
import { asApiError } from "../api/errors";
import type { HistoryLine } from "../api/types";
import type { ComputeHub } from "./hub";

const LINES_PER_PAGE = 25;

export type Grouping = "lease" | "none";

export interface HistoryState {
  /** The page's lines, newest first; undefined before the first answer. */
  readonly value: readonly HistoryLine[] | undefined;
  readonly error: ApiError | null;
  readonly isFetching: boolean;
  /** The number of the page's first line, counted from 1. */
  readonly first: number;
  readonly hasNewer: boolean;
  readonly hasOlder: boolean;
}

const EMPTY: HistoryState = {
  value: undefined,
  error: null,
  isFetching: false,
  first: 1,
  hasNewer: false,
  hasOlder: false,
};

/**
 * The account's lines, one page at a time, so that five thousand of them cost what twenty-five do.
 *
 * The page at the top follows the balance while somebody looks; older pages stay as they are.
 */
export class History implements IDisposable {
  constructor(private readonly hub: ComputeHub) {
    hub.me.changed.connect(this.follow, this);
  }

  get state(): HistoryState {
    return this._state;
  }

  get changed(): ISignal<this, HistoryState> {
    return this._changed;
  }

  get grouping(): Grouping {
    return this._grouping;
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  /** Somebody looks, or looks away. */
  watch(isWatched: boolean): void {
    this.isWatched = isWatched;
    if (isWatched && (this._state.value === undefined || this.isStale)) {
      void this.newest();
    }
  }

  group(grouping: Grouping): void {
    if (grouping !== this._grouping) {
      this._grouping = grouping;
      this.cursors = [undefined];
      this.show(EMPTY);
      if (this.isWatched) {
        void this.newest();
      }
    }
  }

  /** The first page, fetched anew. */
  newest(): Promise<void> {
    this.cursors = [undefined];
    return this.fetch(0);
  }

  older(): Promise<void> {
    return this.fetch(this.page + 1);
  }

  newer(): Promise<void> {
    return this.fetch(Math.max(0, this.page - 1));
  }

  /** The same page again, after a failure. */
  retry(): Promise<void> {
    return this.fetch(this.wantedPage);
  }

  dispose(): void {
    this._isDisposed = true;
    this.hub.me.changed.disconnect(this.follow, this);
    Signal.clearData(this);
  }

  private async fetch(page: number): Promise<void> {
    if (page >= this.cursors.length) {
      return;
    }
    const request = ++this.requests;
    this.wantedPage = page;
    this.show({ ...this._state, isFetching: true });
    try {
      const answer = await this.hub.client.listHistory({
        cursor: this.cursors[page],
        group: this._grouping,
        limit: LINES_PER_PAGE,
      });
      // Another page or grouping was asked for meanwhile: this one is nobody's.
      if (request === this.requests) {
        this.take(page, answer.items, answer.next);
      }
    } catch (reason) {
      if (request === this.requests) {
        this.show({ ...this._state, isFetching: false, error: asApiError(reason) });
      }
    }
  }

  private take(page: number, lines: HistoryLine[], next: string | null): void {
    this.page = page;
    this.isStale = this.isStale && page > 0;
    this.cursors = next ? [...this.cursors.slice(0, page + 1), next] : this.cursors.slice(0, page + 1);
    this.show({
      value: lines,
      error: null,
      isFetching: false,
      first: page * LINES_PER_PAGE + 1,
      hasNewer: page > 0,
      hasOlder: next !== null,
    });
  }

  private follow(): void {
    const posted = this.hub.me.value?.balance.posted_microcredits;
    if (posted === undefined || posted === this.posted) {
      return;
    }
    const isFirst = this.posted === undefined;
    this.posted = posted;
    if (isFirst) {
      return;
    }
    this.isStale = true;
    if (this.isWatched && this.page === 0) {
      void this.newest();
    }
  }

  private show(state: HistoryState): void {
    if (!this._isDisposed) {
      this._state = state;
      this._changed.emit(state);
    }
  }

  private _changed = new Signal<this, HistoryState>(this);
  private _grouping: Grouping = "lease";
  private _isDisposed = false;
  private _state: HistoryState = EMPTY;
  /** Where each page known so far begins. */
  private cursors: (string | undefined)[] = [undefined];
  private isStale = false;
  private isWatched = false;
  private page = 0;
  private posted: number | undefined;
  private requests = 0;
  private wantedPage = 0;
}
