import type { BodyOf, Booking, Person } from "../api/types";
import type { WallTime } from "./zoned";
import { addDays, endOfGap, isDate, momentsOf, wallTimeOf } from "./zoned";

const HOUR_SECONDS = 3600;
const MINUTE_SECONDS = 60;
/** Forms offer quarters of an hour; any minute may be typed. */
const QUARTER_MS = 15 * 60_000;
/** A start that passed while the form was filled in means now; an earlier one is a mistake, and said to be. */
const NOW_WITHIN_MS = QUARTER_MS;
const WEEKDAYS = "MO,TU,WE,TH,FR";

export type Limits = Person["limits"];
export type Repeat = "none" | "daily" | "weekdays" | "weekly" | "fortnightly" | "monthly";
/** Named as the server names them in its refusals. */
export type FieldName = "model" | "count" | "starts_at" | "duration_seconds" | "rrule" | "notebook_path";

/** What a person has typed, as typed: nothing is lost or rounded while it makes no sense yet. */
export interface BookingForm {
  model: string;
  count: string;
  date: string;
  time: string;
  /** Which of two, where the clocks go back and show the time twice. */
  isSecond: boolean;
  hours: string;
  minutes: string;
  repeat: Repeat;
  ends: "after" | "on";
  times: string;
  until: string;
  skipTaken: boolean;
  notebook: string;
}

/** What a form asks of the server. */
export interface BookingWish {
  model: string;
  count: number;
  /** Null for now. */
  starts_at: string | null;
  duration_seconds: number;
  rrule: string | null;
  skip_taken: boolean;
  notebook_path: string | null;
  time_zone: string;
}

/** Why a form makes no wish yet; the view says it in words. */
export interface FormProblem {
  field: FieldName;
  code: "missing" | "not_whole" | "too_few" | "too_many" | "too_short" | "too_long" | "past" | "too_far";
}

export interface FormStart {
  model?: string | undefined;
  starts_at?: string | undefined;
  duration_seconds?: number | undefined;
  count?: number | undefined;
  notebook_path?: string | undefined;
}

/** A form as it first stands: the next quarter of an hour, the usual length. */
export function newForm(start: FormStart, limits: Limits, now: number, zone: string): BookingForm {
  const startsAt = start.starts_at ? Date.parse(start.starts_at) : Math.ceil(now / QUARTER_MS) * QUARTER_MS;
  return {
    model: start.model ?? "",
    count: String(start.count ?? 1),
    ...startFields(startsAt, zone),
    ...lengthFields(start.duration_seconds ?? limits.default_duration_seconds),
    repeat: "none",
    ends: "after",
    times: "4",
    until: addDays(wallTimeOf(startsAt, zone).date, 28),
    skipTaken: false,
    notebook: start.notebook_path ?? "",
  };
}

/** A booking as a form, for changing it. */
export function formOf(booking: Booking, limits: Limits, zone: string): BookingForm {
  const { model, count, starts_at, notebook_path } = booking;
  const duration_seconds = (Date.parse(booking.ends_at) - Date.parse(starts_at)) / 1000;
  const start = { model, count, starts_at, duration_seconds, notebook_path: notebook_path ?? undefined };
  return newForm(start, limits, Date.parse(starts_at), zone);
}

export function startFields(at: number, zone: string): Pick<BookingForm, "date" | "time" | "isSecond"> {
  const wall = wallTimeOf(at, zone);
  const second = momentsOf(wall, zone)[1];
  return { ...wall, isSecond: second !== undefined && at >= second };
}

export function lengthFields(seconds: number): Pick<BookingForm, "hours" | "minutes"> {
  const minutes = Math.round(seconds / MINUTE_SECONDS);
  return { hours: String(Math.floor(minutes / 60)), minutes: String(minutes % 60) };
}

/** How a time of day stands to the change of the clocks on its day. */
export function clockChange(wall: WallTime, zone: string): "none" | "skipped" | "twice" {
  const moments = momentsOf(wall, zone);
  if (!isDate(wall.date) || !/^\d\d:\d\d/.test(wall.time)) {
    return "none";
  }
  return moments.length === 0 ? "skipped" : moments.length === 2 ? "twice" : "none";
}

/** When a form starts, in milliseconds; null while it names no time. */
export function startOf(form: BookingForm, zone: string): number | null {
  const wall = { date: form.date, time: form.time.slice(0, 5) };
  if (!isDate(form.date) || !/^\d\d:\d\d$/.test(wall.time)) {
    return null;
  }
  const moments = momentsOf(wall, zone);
  return (form.isSecond ? moments[1] : undefined) ?? moments[0] ?? endOfGap(wall, zone);
}

export function lengthOf(form: BookingForm): number {
  return Number(form.hours || 0) * HOUR_SECONDS + Number(form.minutes || 0) * MINUTE_SECONDS;
}

/** The RRULE of RFC 5545 that a form means; null where it comes once. */
export function ruleOf({ repeat, ends, times, until }: BookingForm): string | null {
  const rules: Record<Exclude<Repeat, "none">, string> = {
    daily: "FREQ=DAILY",
    weekdays: `FREQ=WEEKLY;BYDAY=${WEEKDAYS}`,
    weekly: "FREQ=WEEKLY",
    fortnightly: "FREQ=WEEKLY;INTERVAL=2",
    monthly: "FREQ=MONTHLY",
  };
  if (repeat === "none") {
    return null;
  }
  return `${rules[repeat]};${ends === "after" ? `COUNT=${Number(times)}` : `UNTIL=${until.replaceAll("-", "")}`}`;
}

/**
 * What keeps a form from being asked about. The server judges all else, and names the field.
 *
 * `hasBegun` is said of a booking that is changed after its start, which then stays.
 */
export function problemsOf(
  form: BookingForm,
  { limits, zone, now, hasBegun }: { limits: Limits; zone: string; now: number; hasBegun: boolean },
): FormProblem[] {
  const problems: FormProblem[] = [];
  const claim = (field: FieldName, code: FormProblem["code"], isSo: boolean) => {
    if (isSo && !problems.some((problem) => problem.field === field)) {
      problems.push({ field, code });
    }
  };
  const count = Number(form.count);
  claim("model", "missing", !form.model);
  claim("count", "missing", form.count.trim() === "");
  claim("count", "not_whole", !Number.isInteger(count));
  claim("count", "too_few", count < 1);
  claim("count", "too_many", count > limits.max_count);
  const startsAt = startOf(form, zone);
  claim("starts_at", "missing", startsAt === null);
  claim("starts_at", "too_far", startsAt !== null && startsAt > now + limits.max_ahead_seconds * 1000);
  const length = lengthOf(form);
  claim("duration_seconds", "not_whole", !Number.isInteger(length));
  claim("duration_seconds", "missing", length === 0);
  claim("duration_seconds", "too_short", !hasBegun && length < limits.min_duration_seconds);
  claim("duration_seconds", "too_long", length > limits.max_duration_seconds);
  claim("starts_at", "past", !hasBegun && startsAt !== null && startsAt < now - NOW_WITHIN_MS);
  if (form.repeat !== "none") {
    const times = Number(form.times);
    claim("rrule", "missing", form.ends === "after" ? form.times.trim() === "" : !isDate(form.until));
    claim("rrule", "not_whole", form.ends === "after" && !(Number.isInteger(times) && times > 0));
    claim("rrule", "past", form.ends === "on" && form.until < form.date);
  }
  return problems;
}

/** The wish of a form without problems. */
export function wishOf(form: BookingForm, zone: string, now: number): BookingWish {
  const startsAt = startOf(form, zone) ?? now;
  return {
    model: form.model,
    count: Number(form.count),
    starts_at: startsAt <= now ? null : new Date(startsAt).toISOString(),
    duration_seconds: lengthOf(form),
    rrule: ruleOf(form),
    skip_taken: form.skipTaken,
    notebook_path: form.notebook.trim() || null,
    time_zone: zone,
  };
}

/** Whether a booking's start has passed, so that it stays where it starts. */
export function hasBegun(booking: Booking, now: number): boolean {
  return Date.parse(booking.starts_at) <= now;
}

/** What moving a booking to a wish asks for: what is not named stays. Once it has begun only its length changes. */
export function moveOf(booking: Booking, wish: BookingWish, now: number): BodyOf<"moveBooking"> {
  const body: BodyOf<"moveBooking"> = {};
  const length = (Date.parse(booking.ends_at) - Date.parse(booking.starts_at)) / 1000;
  if (wish.duration_seconds !== length) {
    body.duration_seconds = wish.duration_seconds;
  }
  if (!hasBegun(booking, now)) {
    // To leave the start out would leave it where it is, so that "now" is the next whole minute here.
    const startsAt = wish.starts_at ? Date.parse(wish.starts_at) : Math.ceil((now + 1000) / 60_000) * 60_000;
    if (startsAt !== Date.parse(booking.starts_at)) {
      body.starts_at = new Date(startsAt).toISOString();
    }
    if (wish.count !== booking.count) {
      body.count = wish.count;
    }
  }
  return body;
}
