import type { IDisposable } from "@lumino/disposable";
import type { ISignal } from "@lumino/signaling";
import { Signal } from "@lumino/signaling";

import type { ApiError } from "../api/errors";
import { asApiError } from "../api/errors";
import { newKey } from "../api/request";
import type { BodyOf, Booking, Quote } from "../api/types";
import type { BookingForm, BookingWish, FormProblem, FormStart, Limits } from "./bookingForm";
import { formOf, hasBegun, moveOf, newForm, problemsOf, wishOf } from "./bookingForm";
import type { ComputeHub } from "./hub";

/** So long a form must stand still before its price is asked for. */
const QUOTE_AFTER_MS = 300;

/** What came of a form. */
export interface Outcome {
  kind: "booked" | "moved" | "cancelled" | "series_booked" | "series_cancelled";
  bookings: Booking[];
  /** How many occurrences of a series others had booked. */
  skipped: number;
  /** What the change of the clocks moved, in the server's words. */
  notes: readonly string[];
}

export interface DeskState {
  form: BookingForm;
  problems: FormProblem[];
  /** The last price, even while a newer one is asked for. */
  quote: Quote | null;
  quoteError: ApiError | null;
  isQuoting: boolean;
  isSending: boolean;
  /** Why the server refused what was sent. */
  refusal: ApiError | null;
  outcome: Outcome | null;
}

export interface DeskOptions {
  zone: string;
  limits: Limits;
  start?: FormStart;
  /** The booking to change; without it a new one is made. */
  booking?: Booking | undefined;
}

interface Sent {
  kind: unknown;
  said: string;
  form: BookingForm;
  key: string;
  send: (key: string) => Promise<Outcome>;
}

/**
 * One form at the counter: what is typed, what it would cost, and its sending.
 *
 * What is sent carries one idempotency key for as long as it stays the same wish, so that a second click, or a try after
 * a lost answer, books nothing twice.
 */
export class BookingDesk implements IDisposable {
  constructor(
    private readonly hub: ComputeHub,
    { zone, limits, start = {}, booking }: DeskOptions,
  ) {
    this.zone = zone;
    this.limits = limits;
    this.booking = booking;
    let form = newForm(start, limits, hub.clock.now(), zone);
    if (booking) {
      form = { ...formOf(booking, limits, zone), ...(start.starts_at || start.duration_seconds ? moved(form) : {}) };
    }
    this._state = {
      form,
      problems: [],
      quote: null,
      quoteError: null,
      isQuoting: false,
      isSending: false,
      refusal: null,
      outcome: null,
    };
    this.set({});
  }

  readonly zone: string;
  readonly limits: Limits;
  readonly booking: Booking | undefined;

  get changed(): ISignal<this, DeskState> {
    return this._changed;
  }

  get state(): DeskState {
    return this._state;
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  /** Whether the booking that is changed has begun, so that only its length can. */
  get hasBegun(): boolean {
    return this.booking !== undefined && hasBegun(this.booking, this.hub.clock.now());
  }

  /** Whether sending makes sense as far as is known; the server has the last word. */
  get canSend(): boolean {
    const { problems, quote, isQuoting, isSending, form } = this._state;
    const isTaken = !isQuoting && quote !== null && !isFree(quote, form);
    return !isSending && problems.length === 0 && !isTaken && !this.isUnchanged();
  }

  set(typed: Partial<BookingForm>): void {
    const form = { ...this._state.form, ...typed };
    const { limits, zone, hasBegun } = this;
    const problems = problemsOf(form, { limits, zone, hasBegun, now: this.hub.clock.now() });
    this.show({ form, problems, refusal: null, isQuoting: problems.length === 0 });
    window.clearTimeout(this.timer);
    this.asked += 1;
    if (problems.length === 0) {
      this.timer = window.setTimeout(() => void this.askPrice(), QUOTE_AFTER_MS);
    } else {
      this.show({ quote: null, quoteError: null });
    }
  }

  /** Ask for the price again. */
  async askPrice(): Promise<void> {
    this.asked += 1;
    const turn = this.asked;
    this.show({ isQuoting: true });
    try {
      const quote = await this.hub.client.quote(this.question());
      if (turn === this.asked) {
        this.show({ quote, quoteError: null, isQuoting: false });
      }
    } catch (reason) {
      if (turn === this.asked) {
        this.show({ quote: null, quoteError: asApiError(reason), isQuoting: false });
      }
    }
  }

  /** Book or move. True when it was done; what went wrong stands in the state. */
  async send(): Promise<boolean> {
    if (!this.canSend) {
      return false;
    }
    const { client, clock } = this.hub;
    const wish = this.wish();
    const { booking } = this;
    if (booking) {
      const body = moveOf(booking, wish, clock.now());
      return this.write(["move", booking.id, body], async (key) => {
        return outcome("moved", [await client.moveBooking(booking.id, body, key)]);
      });
    }
    const { rrule, skip_taken, time_zone, ...once } = wish;
    if (rrule) {
      const body = { ...once, rrule, skip_taken, time_zone };
      return this.write(["series", body], async (key) => {
        const { items, skipped, notes } = await client.bookSeries(body, key);
        return { kind: "series_booked", bookings: items, skipped: skipped.length, notes };
      });
    }
    return this.write(["book", once], async (key) => outcome("booked", [await client.book(once, key)]));
  }

  /** Cancel the booking, or with `all` those of its series that have not begun. */
  async cancel({ all = false } = {}): Promise<boolean> {
    const { booking } = this;
    const { client } = this.hub;
    if (!booking || this._state.isSending) {
      return false;
    }
    const { id, series_id } = booking;
    if (all && series_id) {
      return this.write(["cancel", series_id], async (key) =>
        outcome("series_cancelled", (await client.cancelSeries(series_id, key)).items),
      );
    }
    return this.write(["cancel", id], async (key) => outcome("cancelled", [await client.cancelBooking(id, key)]));
  }

  dispose(): void {
    if (this._isDisposed) {
      return;
    }
    this._isDisposed = true;
    window.clearTimeout(this.timer);
    Signal.clearData(this);
  }

  private async write(wish: unknown[], send: (key: string) => Promise<Outcome>): Promise<boolean> {
    const { form } = this._state;
    const said = JSON.stringify(wish);
    const isSame = this.sent?.kind === wish[0] && (this.sent?.form === form || this.sent?.said === said);
    if (!this.sent || !isSame) {
      this.sent = { kind: wish[0], said, form, send, key: newKey() };
    }
    const { sent } = this;
    this.show({ isSending: true, refusal: null });
    try {
      const done = await sent.send(sent.key);
      this.hub.touched("booking");
      this.show({ isSending: false, outcome: done });
      return true;
    } catch (reason) {
      const refusal = asApiError(reason);
      if (!refusal.isTransient) {
        // An answer, so that the next try is a new wish. Without one it may have been done, and the key must stay.
        this.sent = null;
      }
      this.show({ isSending: false, refusal });
      if (refusal.code === "slot_taken") {
        void this.askPrice();
      }
      return false;
    }
  }

  private wish(): BookingWish {
    return wishOf(this._state.form, this.zone, this.hub.clock.now());
  }

  private isUnchanged(): boolean {
    const { booking, hub } = this;
    return booking !== undefined && Object.keys(moveOf(booking, this.wish(), hub.clock.now())).length === 0;
  }

  private question(): BodyOf<"quote"> {
    const wish = this.wish();
    if (this.booking) {
      const { count, ...moved } = moveOf(this.booking, wish, this.hub.clock.now());
      delete moved.approval_id;
      return { ...moved, ...(count && { count }), moving_booking_id: this.booking.id };
    }
    const { model, count, starts_at, duration_seconds, rrule, time_zone } = wish;
    const once = { model, count, starts_at, duration_seconds };
    return rrule ? { ...once, rrule, time_zone } : once;
  }

  private show(state: Partial<DeskState>): void {
    if (!this._isDisposed) {
      this._state = { ...this._state, ...state };
      this._changed.emit(this._state);
    }
  }

  private _changed = new Signal<this, DeskState>(this);
  private _isDisposed = false;
  private _state: DeskState;
  /** Counts the questions, so that a slow answer to an old one is dropped. */
  private asked = 0;
  /** What was sent and not yet answered for good. Sent again as it was: a start that has passed since would else differ. */
  private sent: Sent | null = null;
  private timer = 0;
}

/** Whether a quote can be booked as the form stands. */
export function isFree(quote: Quote, form: BookingForm): boolean {
  const { occurrences } = quote;
  if (!occurrences) {
    return quote.available;
  }
  return form.skipTaken ? occurrences.some(({ available }) => available) : occurrences.every((each) => each.available);
}

function moved({ date, time, isSecond, hours, minutes }: BookingForm): Partial<BookingForm> {
  return { date, time, isSecond, hours, minutes };
}

function outcome(kind: Outcome["kind"], bookings: Booking[]): Outcome {
  return { kind, bookings, skipped: 0, notes: [] };
}
