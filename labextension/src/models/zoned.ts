/** What a clock on the wall of a zone shows, and which moments that means. No library: `Intl` knows the zones. */

const DAY_MS = 86_400_000;
const MINUTE_MS = 60_000;

/** A day and a time of day as form fields hold them: `2026-03-29` and `02:30`. */
export interface WallTime {
  date: string;
  time: string;
}

const formats = new Map<string, Intl.DateTimeFormat>();

function formatOf(zone: string): Intl.DateTimeFormat {
  let format = formats.get(zone);
  if (!format) {
    format = new Intl.DateTimeFormat("en-US", {
      timeZone: zone,
      calendar: "gregory",
      numberingSystem: "latn",
      hourCycle: "h23",
      year: "numeric",
      month: "2-digit",
      day: "2-digit",
      hour: "2-digit",
      minute: "2-digit",
      second: "2-digit",
    });
    formats.set(zone, format);
  }
  return format;
}

/** How far a zone's clocks are ahead of UTC at a moment, in milliseconds. */
export function offsetAt(at: number, zone: string): number {
  const whole = Math.floor(at / 1000) * 1000;
  const part = Object.fromEntries(
    formatOf(zone)
      .formatToParts(whole)
      .map(({ type, value }) => [type, Number(value)]),
  );
  const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = part;
  return Date.UTC(year, month - 1, day, hour, minute, second) - whole;
}

/** What the clock on the wall shows at a moment. */
export function wallTimeOf(at: number, zone: string): WallTime {
  const shown = new Date(at + offsetAt(at, zone)).toISOString();
  return { date: shown.slice(0, 10), time: shown.slice(11, 16) };
}

/** The moments at which the clock shows this: one, or two where the clocks go back, or none where they go forward. */
export function momentsOf(wall: WallTime, zone: string): number[] {
  const asUtc = Date.parse(`${wall.date}T${wall.time}:00Z`);
  if (Number.isNaN(asUtc)) {
    return [];
  }
  const offsets = [offsetAt(asUtc - DAY_MS, zone), offsetAt(asUtc + DAY_MS, zone)];
  const moments = [...new Set(offsets.map((offset) => asUtc - offset))];
  return moments.filter((moment) => moment + offsetAt(moment, zone) === asUtc).sort((one, other) => one - other);
}

/** For a time of day that the clocks skip: the moment at which they do. The server takes the same one. */
export function endOfGap(wall: WallTime, zone: string): number {
  const asUtc = Date.parse(`${wall.date}T${wall.time}:00Z`);
  let early = asUtc - offsetAt(asUtc + DAY_MS, zone);
  let late = asUtc - offsetAt(asUtc - DAY_MS, zone);
  const before = offsetAt(early, zone);
  while (late - early > MINUTE_MS) {
    const middle = early + Math.floor((late - early) / 2 / MINUTE_MS) * MINUTE_MS;
    if (offsetAt(middle, zone) === before) {
      early = middle;
    } else {
      late = middle;
    }
  }
  return late;
}

/** When a day begins, on the wall clock. Where the clocks skip midnight it begins later. */
export function startOfDay(date: string, zone: string): number {
  const wall = { date, time: "00:00" };
  return momentsOf(wall, zone)[0] ?? endOfGap(wall, zone);
}

/** The day so many days later; days of the calendar, not of 24 hours. */
export function addDays(date: string, days: number): string {
  return new Date(Date.parse(`${date}T00:00:00Z`) + days * DAY_MS).toISOString().slice(0, 10);
}

/** 0 for Sunday to 6 for Saturday. */
export function weekdayOf(date: string): number {
  return new Date(`${date}T00:00:00Z`).getUTCDay();
}

/** Whether this is a day that exists, as `2026-02-30` does not. */
export function isDate(date: string): boolean {
  const at = Date.parse(`${date}T00:00:00Z`);
  return !Number.isNaN(at) && new Date(at).toISOString().startsWith(date);
}
