import { useId } from "react";

import type { ApiError } from "../api/errors";
import type { Lease } from "../api/types";
import { ErrorNote } from "./parts";
import { useWords } from "./words";

const MINUTES_OFFERED = [15, 30, 60, 120];
const OTHER = "other";
const MINUTE_MS = 60_000;

/** A length as the form holds it: one of those offered, in minutes, or what was typed. */
export interface WishedLength {
  choice: string;
  typed: string;
}

export const SOME_LENGTH: WishedLength = { choice: "60", typed: "" };

/** The wished length in seconds; null where what was typed is none. */
export function secondsOf({ choice, typed }: WishedLength): number | null {
  const minutes = Number(choice === OTHER ? typed.trim().replace(",", ".") : choice);
  return Number.isFinite(minutes) && minutes > 0 ? Math.round(minutes * 60) : null;
}

/** What a time on a lease's devices costs. */
export function priceOf({ count, rate_microcredits_per_hour }: Lease, seconds: number): number {
  return Math.round((rate_microcredits_per_hour * count * seconds) / 3600);
}

/** The lengths that a lease can be shortened by and still run on for a minute. */
export function lengthsOf(lease: Lease, change: "extend" | "shorten", now: number): number[] {
  const left = Date.parse(lease.ends_at) - now - MINUTE_MS;
  return MINUTES_OFFERED.filter((minutes) => change === "extend" || minutes * MINUTE_MS < left);
}

/** By how much a lease's end is moved, with the price of each choice and the end that it leads to. */
export function LengthForm(props: {
  change: "extend" | "shorten";
  lease: Lease;
  now: number;
  /** What is free to be put on hold; unknown before the account is. */
  availableMicrocredits?: number;
  value: WishedLength;
  onChange: (value: WishedLength) => void;
  error: ApiError | null;
}): JSX.Element {
  const { trans, formats } = useWords();
  const id = useId();
  const { availableMicrocredits, change, error, lease, now, onChange, value } = props;
  const seconds = secondsOf(value);
  const sign = change === "extend" ? 1 : -1;
  const isMuch =
    change === "extend" && seconds !== null && priceOf(lease, seconds) > (availableMicrocredits ?? Infinity);
  return (
    <div className="ch-Form">
      <fieldset className="ch-Choices">
        <legend>{change === "extend" ? trans.__("How much longer") : trans.__("How much earlier")}</legend>
        {lengthsOf(lease, change, now).map((minutes) => (
          <label key={minutes} className="ch-Choice">
            <input
              type="radio"
              name={id}
              checked={value.choice === String(minutes)}
              onChange={() => onChange({ ...value, choice: String(minutes) })}
            />
            <span>{formats.duration(minutes * 60)}</span>
            <span className="ch-Choice-price">{formats.credits(priceOf(lease, minutes * 60))}</span>
          </label>
        ))}
        <div className="ch-Choice">
          <label className="ch-Choice-other">
            <input
              type="radio"
              name={id}
              checked={value.choice === OTHER}
              onChange={() => onChange({ ...value, choice: OTHER })}
            />
            <span>{trans.__("Minutes")}</span>
          </label>
          <input
            className="jp-mod-styled"
            type="text"
            inputMode="decimal"
            autoComplete="off"
            aria-label={trans.__("Minutes")}
            aria-invalid={value.choice === OTHER && seconds === null}
            value={value.typed}
            onChange={(event) => onChange({ choice: OTHER, typed: event.target.value })}
          />
          {value.choice === OTHER && seconds !== null && (
            <span className="ch-Choice-price">{formats.credits(priceOf(lease, seconds))}</span>
          )}
        </div>
      </fieldset>
      <p className="ch-Hint" role="status">
        {seconds === null
          ? trans.__("Say for how many minutes.")
          : change === "extend"
            ? trans.__("It then ends %1, and the price is put on hold.", endOf(seconds))
            : trans.__("It then ends %1, and the price comes off the hold.", endOf(seconds))}
      </p>
      {isMuch && availableMicrocredits !== undefined && (
        <p className="ch-Hint">{trans.__("You have %1 available.", formats.credits(availableMicrocredits))}</p>
      )}
      {error && <ErrorNote error={error} />}
    </div>
  );

  function endOf(length: number): string {
    return formats.dateTime(Date.parse(lease.ends_at) + sign * length * 1000);
  }
}
