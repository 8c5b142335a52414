import type { IDisposable } from "@lumino/disposable";
import { DisposableDelegate } from "@lumino/disposable";
import type { ISignal } from "@lumino/signaling";
import { Signal } from "@lumino/signaling";

import type { Availability, Booking, Span } from "../api/types";
import type { ComputeHub } from "./hub";
import type { Hint, Live } from "./live";
import { Resource } from "./resource";
import { addDays, startOfDay, wallTimeOf, weekdayOf } from "./zoned";

const STEP_SECONDS = 900;
const STEP_MS = STEP_SECONDS * 1000;
/** Whose event it is can't be seen; fifty calendars must not all look at one moment. */
const LOOK_WITHIN_MS = 4000;
const PAGE = 200;
const PAGES_MOST = 5;
const SHOWN_STATES = ["held", "confirmed", "active", "completed"];

export type CalendarView = "week" | "day" | "list";

/** A stretch of time over which the same number of a pool's devices is free. */
export interface FreeRun {
  pool_id: string;
  starts_at: string;
  ends_at: string;
  free: number;
  count: number;
}

/** Bookings of a span, and whether there are more than a calendar can show. */
export interface BookingList {
  items: Booking[];
  isCut: boolean;
  /** The list shows all that is to come, the others what lies in their days. */
  view: CalendarView;
}

/** What of the calendar a person has chosen to see; kept from one visit to the next. */
export interface CalendarChoice {
  view: CalendarView;
  /** The day that is looked at, `2026-03-02`. */
  day: string;
  /** Whose free time is shown; empty for the first pool there is. */
  poolIds: readonly string[];
}

/**
 * What a calendar shows: the span, your bookings in it, and the free time of the pools that were chosen.
 *
 * It asks the server while somebody `use()`s it and the tab is seen, and looks again when an event says so.
 */
export class CalendarModel implements IDisposable {
  constructor(
    private readonly hub: ComputeHub,
    { zone, firstWeekday, choice }: { zone: string; firstWeekday: number; choice?: Partial<CalendarChoice> },
  ) {
    this.zone = zone;
    this._firstWeekday = firstWeekday;
    this._choice = { view: "week", day: wallTimeOf(hub.clock.now(), zone).date, poolIds: [], ...choice };
    this.bookings = new Resource(() => this.fetchBookings(), { name: "calendar-bookings", intervalMs: 120_000 });
    this.free = new Resource(() => this.fetchFree(), { name: "calendar-free", intervalMs: 120_000 });
    hub.live.hint.connect(this.follow, this);
    hub.live.gap.connect(this.look, this);
    hub.offers.changed.connect(this.choosePool, this);
  }

  readonly zone: string;
  readonly bookings: Resource<BookingList>;
  readonly free: Resource<FreeRun[]>;

  /** Emitted when what was chosen changes. */
  get changed(): ISignal<this, CalendarChoice> {
    return this._changed;
  }

  get choice(): CalendarChoice {
    return this._choice;
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  get firstWeekday(): number {
    return this._firstWeekday;
  }

  set firstWeekday(day: number) {
    if (day !== this._firstWeekday) {
      this._firstWeekday = day;
      this.tell();
    }
  }

  /** The pools whose free time is shown: those chosen and still there, else the first. */
  get pools(): string[] {
    const all = (this.hub.offers.value ?? []).map(({ pool_id }) => pool_id);
    const chosen = this._choice.poolIds.filter((id) => all.includes(id));
    return chosen.length ? chosen : all.slice(0, 1);
  }

  /** The days that are seen: the first, and the one after the last. */
  get days(): { first: string; end: string } {
    const { view, day } = this._choice;
    if (view === "day") {
      return { first: day, end: addDays(day, 1) };
    }
    const first = addDays(day, -((weekdayOf(day) - this._firstWeekday + 7) % 7));
    return { first, end: addDays(first, 7) };
  }

  /** The moments between which the days lie; a day of 23 or 25 hours is one. */
  get span(): Span {
    const { first, end } = this.days;
    return {
      starts_at: new Date(startOfDay(first, this.zone)).toISOString(),
      ends_at: new Date(startOfDay(end, this.zone)).toISOString(),
    };
  }

  choose(choice: Partial<CalendarChoice>): void {
    const chosen = { ...this._choice, ...choice };
    if (JSON.stringify(chosen) !== JSON.stringify(this._choice)) {
      this._choice = chosen;
      this.tell();
    }
  }

  /** One page on or back. */
  turn(pages: number): void {
    const { view, day } = this._choice;
    this.choose({ day: addDays(day, pages * (view === "day" ? 1 : 7)) });
  }

  today(): void {
    this.choose({ day: wallTimeOf(this.hub.clock.now(), this.zone).date });
  }

  /** Keep everything fresh until the answer is disposed. */
  use(): IDisposable {
    const uses = [this.hub.offers.use(), this.bookings.use(), this.free.use()];
    return new DisposableDelegate(() => uses.forEach((use) => use.dispose()));
  }

  /** This window has just changed something. */
  invalidate(): void {
    this.bookings.invalidate();
    this.free.invalidate();
  }

  dispose(): void {
    if (this._isDisposed) {
      return;
    }
    this._isDisposed = true;
    window.clearTimeout(this.later);
    this.hub.live.hint.disconnect(this.follow, this);
    this.hub.live.gap.disconnect(this.look, this);
    this.hub.offers.changed.disconnect(this.choosePool, this);
    this.bookings.dispose();
    this.free.dispose();
    Signal.clearData(this);
  }

  private async fetchBookings(): Promise<BookingList> {
    const { starts_at: from, ends_at: to } = this.span;
    const { view } = this._choice;
    const query = view === "list" ? { state: "upcoming" as const } : { from, to };
    const items: Booking[] = [];
    let cursor: string | undefined;
    for (let page = 0; page < PAGES_MOST; page += 1) {
      const answer = await this.hub.client.listBookings({ ...query, limit: PAGE, ...(cursor && { cursor }) });
      items.push(...answer.items.filter(({ state }) => SHOWN_STATES.includes(state)));
      if (!answer.next) {
        return { items, isCut: false, view };
      }
      cursor = answer.next;
    }
    return { items, isCut: true, view };
  }

  private async fetchFree(): Promise<FreeRun[]> {
    const { starts_at, ends_at } = this.span;
    // The past is nobody's to book.
    const now = Math.floor(this.hub.clock.now() / STEP_MS) * STEP_MS;
    const start = new Date(Math.max(Date.parse(starts_at), now)).toISOString();
    if (this._choice.view === "list" || start >= ends_at) {
      return [];
    }
    const query = { start, end: ends_at, step_seconds: STEP_SECONDS };
    const answers = this.pools.map((poolId) => this.hub.client.getAvailability(poolId, query));
    return (await Promise.all(answers)).flatMap((answer) => runsOf(answer, ends_at));
  }

  private tell(): void {
    this.invalidate();
    this._changed.emit(this._choice);
  }

  private choosePool(): void {
    // Which pools there are is known by now; without one the free time could not be asked for.
    const pools = this.pools.join();
    if (pools !== this.askedPools) {
      this.askedPools = pools;
      this.free.invalidate();
    }
  }

  private follow(_: Live, { noun }: Hint): void {
    if ((noun === "booking" || noun === "lease") && !this.later) {
      this.later = window.setTimeout(() => {
        this.later = 0;
        this.invalidate();
      }, Math.random() * LOOK_WITHIN_MS);
    }
  }

  private look(): void {
    this.bookings.look();
    this.free.look();
  }

  private _changed = new Signal<this, CalendarChoice>(this);
  private _choice: CalendarChoice;
  private _firstWeekday: number;
  private _isDisposed = false;
  private askedPools = "";
  private later = 0;
}

/** Neighbouring steps with as many free become one. */
export function runsOf({ pool_id, count, items }: Availability, end: string): FreeRun[] {
  const runs: FreeRun[] = [];
  items.forEach(({ starts_at, free }, place) => {
    const last = runs.at(-1);
    const ends_at = items[place + 1]?.starts_at ?? end;
    if (last?.free === free) {
      last.ends_at = ends_at;
    } else {
      runs.push({ pool_id, starts_at, ends_at, free, count });
    }
  });
  return runs;
}
