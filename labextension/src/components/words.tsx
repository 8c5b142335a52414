import type { TranslationBundle } from "@jupyterlab/translation";
import { nullTranslator } from "@jupyterlab/translation";
import { createContext, useContext } from "react";

import { asApiError } from "../api/errors";

const MICROCREDITS_PER_CREDIT = 1_000_000;
const DAY_AND_TIME = { weekday: "short", day: "numeric", month: "short", hour: "numeric", minute: "2-digit" } as const;

/** To make one of `Intl`'s formats takes a hundred times as long as to use it, and a calendar uses it a thousand times. */
function kept<Format>(formats: Map<string, Format>, options: string, make: () => Format): Format {
  const format = formats.get(options) ?? make();
  formats.set(options, format);
  return format;
}

/** Numbers, money and times as a person reads them, in the language of the user interface. */
export class Formats {
  constructor(
    private readonly trans: TranslationBundle,
    /** A BCP 47 language tag, such as `de-DE`. */
    readonly locale: string,
    /** An IANA name, such as `Europe/Berlin`; the browser's own by default. */
    readonly timeZone: string = Intl.DateTimeFormat().resolvedOptions().timeZone,
  ) {}

  /** `1,250,000` microcredits as `1.25`; small costs keep the digits that move. */
  amount(microcredits: number): string {
    const credits = microcredits / MICROCREDITS_PER_CREDIT;
    const digits = credits !== 0 && Math.abs(credits) < 1 ? 3 : 2;
    return this.numbers({ minimumFractionDigits: 2, maximumFractionDigits: digits }).format(credits);
  }

  /** A count or a measure, with at most as many digits after the point. */
  number(value: number, digits = 0): string {
    return this.numbers({ maximumFractionDigits: digits }).format(value);
  }

  /** `0.25` as `25 %`. */
  percent(part: number): string {
    return this.numbers({ style: "percent" }).format(part);
  }

  /** `1.25 credits`. */
  credits(microcredits: number): string {
    return this.trans.__("%1 credits", this.amount(microcredits));
  }

  /** `4.00 credits an hour`. */
  rate(microcreditsPerHour: number): string {
    return this.trans.__("%1 credits an hour", this.amount(microcreditsPerHour));
  }

  /** `2 h 5 min`; below a minute, seconds. For sentences. */
  duration(seconds: number): string {
    const whole = Math.max(0, Math.round(seconds));
    if (whole < 60) {
      return this.trans.__("%1 s", whole);
    }
    const minutes = Math.round(whole / 60);
    const [days, hours, rest] = [Math.floor(minutes / 1440), Math.floor((minutes % 1440) / 60), minutes % 60];
    const parts: string[] = [];
    if (days) {
      parts.push(this.trans.__("%1 d", days));
    }
    if (hours) {
      parts.push(this.trans.__("%1 h", hours));
    }
    if (rest || !parts.length) {
      parts.push(this.trans.__("%1 min", rest));
    }
    return parts.join(" ");
  }

  /** `1:59:07`; for what counts down before one's eyes. */
  countdown(seconds: number): string {
    const whole = Math.max(0, Math.floor(seconds));
    const pad = (part: number) => String(part).padStart(2, "0");
    const [hours, minutes] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60)];
    return hours ? `${hours}:${pad(minutes)}:${pad(whole % 60)}` : `${minutes}:${pad(whole % 60)}`;
  }

  time(at: string | number | Date): string {
    return this.format(at, { timeStyle: "short" });
  }

  /** With the weekday: bookings are thought of by it. */
  dateTime(at: string | number | Date): string {
    return this.format(at, DAY_AND_TIME);
  }

  date(at: string | number | Date): string {
    return this.format(at, { weekday: "long", day: "numeric", month: "long" });
  }

  /** `Mon, Nov 23, 2:00 – 4:00 PM`. */
  span(startsAt: string, endsAt: string): string {
    return this.dates(DAY_AND_TIME).formatRange(new Date(startsAt), new Date(endsAt));
  }

  /** `2 × A100`, or `A100` for one. */
  devices(model: string, count: number): string {
    return count === 1 ? model : this.trans.__("%1 × %2", count, model);
  }

  bytes(bytes: number): string {
    const units = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
    let step = 0;
    for (; bytes >= 1000 && step < units.length - 1; step += 1) {
      bytes /= 1000;
    }
    const style = { style: "unit", unit: units[step], unitDisplay: "short", maximumFractionDigits: 1 } as const;
    return this.numbers(style).format(bytes);
  }

  /** A sentence of the server's, with its moments in the person's own time. */
  withTimes(sentence: string): string {
    return sentence.replace(/\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?Z/g, (moment) => this.dateTime(moment));
  }

  /** Memory as its makers count it: `80 GiB`, and `512 MiB` where there is less than one. */
  memory(mebibytes: number): string {
    if (mebibytes > 0 && mebibytes < 1024) {
      return this.trans.__("%1 MiB", this.number(mebibytes));
    }
    return this.trans.__("%1 GiB", this.number(mebibytes / 1024, 1));
  }

  private format(at: string | number | Date, options: Intl.DateTimeFormatOptions): string {
    return this.dates(options).format(new Date(at));
  }

  private dates(options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
    const make = () => new Intl.DateTimeFormat(this.locale, { timeZone: this.timeZone, ...options });
    return kept(this.dateFormats, JSON.stringify(options), make);
  }

  private numbers(options: Intl.NumberFormatOptions): Intl.NumberFormat {
    return kept(this.numberFormats, JSON.stringify(options), () => new Intl.NumberFormat(this.locale, options));
  }

  private readonly dateFormats = new Map<string, Intl.DateTimeFormat>();
  private readonly numberFormats = new Map<string, Intl.NumberFormat>();
}

/** The language of the interface: its sentences and its formats. */
export interface Words {
  trans: TranslationBundle;
  formats: Formats;
}

/** Words in a language, from JupyterLab's translator. */
export function wordsOf(trans: TranslationBundle, languageCode: string): Words {
  const tag = languageCode.replace("_", "-");
  const locale = Intl.DateTimeFormat.supportedLocalesOf(tag).length ? tag : "en";
  return { trans, formats: new Formats(trans, locale) };
}

/** Why something failed, for a sentence or a notification. The server's own reasons come in its own words. */
export function reasonInWords(reason: unknown, { trans }: Words): string {
  const { code, message } = asApiError(reason);
  const known: Record<string, string> = {
    unreachable: trans.__("The Jupyter server does not answer. What you see may be old."),
    timeout: trans.__("The server takes longer than usual. What you see may be old."),
    unreadable: trans.__("Something between here and the server gave an answer that makes no sense."),
    missing: trans.__("ComputeHub is not installed on this Jupyter server."),
  };
  return known[code] ?? message;
}

export const WordsContext = createContext<Words>(wordsOf(nullTranslator.load("computehub"), "en"));

export const useWords = (): Words => useContext(WordsContext);
