/** The form that a booking is made and changed with: everything that dragging does, and more, by keyboard. */
import type { ChangeEvent } from "react";
import { useId } from "react";

import type { ApiError } from "../api/errors";
import type { Offer } from "../api/types";
import type { BookingForm, FieldName, FormProblem, Limits, Repeat } from "../models/bookingForm";
import { clockChange, startOf } from "../models/bookingForm";
import { endOfGap } from "../models/zoned";
import { Field, FieldGroup } from "./field";
import { useWords } from "./words";
import { zoneLabel } from "./zone";

export interface BookingFieldsProps {
  form: BookingForm;
  problems: readonly FormProblem[];
  /** What the server refused, about the price or the booking. */
  error: ApiError | null;
  offers: readonly Offer[];
  limits: Limits;
  zone: string;
  /** Open notebooks, to choose from. */
  notebooks: readonly string[];
  /** A booking that is moved keeps its model; once begun it keeps its start. */
  mode: "new" | "move" | "begun";
  onChange: (typed: Partial<BookingForm>) => void;
}

export function BookingFields(props: BookingFieldsProps): JSX.Element {
  const { form, offers, limits, notebooks, mode, onChange } = props;
  const { trans } = useWords();
  const id = useId();
  const wrong = useProblems(props);
  const type = (name: keyof BookingForm) => (event: ChangeEvent<HTMLInputElement | HTMLSelectElement>) =>
    onChange({ [name]: event.target.value });
  return (
    <div className="ch-BookingForm">
      <Field label={trans.__("GPU")} error={wrong("model")}>
        {(links) => (
          <select
            {...links}
            className="jp-mod-styled"
            value={form.model}
            disabled={mode !== "new"}
            onChange={type("model")}
          >
            {!offers.some(({ model }) => model === form.model) && <option value={form.model}>{form.model}</option>}
            {offers.map((offer) => (
              <ModelOption key={offer.pool_id} offer={offer} />
            ))}
          </select>
        )}
      </Field>
      <Field label={trans.__("How many")} error={wrong("count")}>
        {(links) => (
          <input
            {...links}
            className="jp-mod-styled"
            type="number"
            min={1}
            max={limits.max_count}
            step={1}
            disabled={mode === "begun"}
            value={form.count}
            onChange={type("count")}
          />
        )}
      </Field>
      <StartFields {...props} error={wrong("starts_at")} />
      <FieldGroup legend={trans.__("Length")} error={wrong("duration_seconds")}>
        <input
          className="jp-mod-styled"
          type="number"
          min={0}
          max={Math.floor(limits.max_duration_seconds / 3600)}
          step={1}
          aria-label={trans.__("Hours")}
          value={form.hours}
          onChange={type("hours")}
        />
        <span aria-hidden="true">{trans.__("hours")}</span>
        <input
          className="jp-mod-styled"
          type="number"
          min={0}
          max={59}
          step={1}
          aria-label={trans.__("Minutes")}
          value={form.minutes}
          onChange={type("minutes")}
        />
        <span aria-hidden="true">{trans.__("minutes")}</span>
      </FieldGroup>
      {mode === "new" && (
        <>
          <RepeatFields {...props} error={wrong("rrule")} />
          <Field label={trans.__("Notebook (optional)")} error={wrong("notebook_path")}>
            {(links) => (
              <>
                <input
                  {...links}
                  className="jp-mod-styled"
                  type="text"
                  list={`${id}-notebooks`}
                  autoComplete="off"
                  spellCheck={false}
                  value={form.notebook}
                  onChange={type("notebook")}
                />
                <datalist id={`${id}-notebooks`}>
                  {notebooks.map((path) => (
                    <option key={path} value={path} />
                  ))}
                </datalist>
              </>
            )}
          </Field>
        </>
      )}
    </div>
  );
}

function ModelOption({ offer }: { offer: Offer }): JSX.Element {
  const { trans, formats } = useWords();
  const { model, simulated } = offer;
  const rate = formats.rate(offer.rate_microcredits_per_hour);
  const said = simulated ? trans.__("%1 (simulated), %2", model, rate) : trans.__("%1, %2", model, rate);
  return <option value={model}>{said}</option>;
}

function StartFields(props: Omit<BookingFieldsProps, "error"> & { error: string | undefined }): JSX.Element {
  const { form, zone, mode, error, onChange } = props;
  const { trans, formats } = useWords();
  const wall = { date: form.date, time: form.time.slice(0, 5) };
  const change = clockChange(wall, zone);
  const start = startOf(form, zone);
  return (
    <FieldGroup
      legend={trans.__("Start")}
      error={error}
      hint={
        <>
          <span>{trans.__("Time zone: %1", zoneLabel(zone, start ?? Date.now(), formats.locale))}</span>
          {change === "skipped" && (
            <span role="status">
              {trans.__(
                "The clocks go forward over %1 on this day; it begins at %2.",
                form.time,
                formats.time(endOfGap(wall, zone)),
              )}
            </span>
          )}
        </>
      }
    >
      <input
        className="jp-mod-styled"
        type="date"
        aria-label={trans.__("Day")}
        disabled={mode === "begun"}
        value={form.date}
        onChange={(event) => onChange({ date: event.target.value })}
      />
      <input
        className="jp-mod-styled"
        type="time"
        aria-label={trans.__("Time")}
        disabled={mode === "begun"}
        value={form.time}
        onChange={(event) => onChange({ time: event.target.value, isSecond: false })}
      />
      {change === "twice" && (
        <select
          className="jp-mod-styled"
          aria-label={trans.__("Which of the two, as the clocks go back")}
          value={form.isSecond ? "second" : "first"}
          onChange={(event) => onChange({ isSecond: event.target.value === "second" })}
        >
          <option value="first">{trans.__("before the clocks go back")}</option>
          <option value="second">{trans.__("after the clocks go back")}</option>
        </select>
      )}
    </FieldGroup>
  );
}

function RepeatFields(props: Omit<BookingFieldsProps, "error"> & { error: string | undefined }): JSX.Element {
  const { form, error, onChange } = props;
  const { trans } = useWords();
  const id = useId();
  const repeats: [Repeat, string][] = [
    ["none", trans.__("Once")],
    ["daily", trans.__("Every day")],
    ["weekdays", trans.__("Monday to Friday")],
    ["weekly", trans.__("Every week")],
    ["fortnightly", trans.__("Every two weeks")],
    ["monthly", trans.__("Every month")],
  ];
  return (
    <>
      <Field label={trans.__("Repeat")} error={form.repeat === "none" ? error : undefined}>
        {(links) => (
          <select
            {...links}
            className="jp-mod-styled"
            value={form.repeat}
            onChange={(event) => onChange({ repeat: event.target.value as Repeat })}
          >
            {repeats.map(([value, said]) => (
              <option key={value} value={value}>
                {said}
              </option>
            ))}
          </select>
        )}
      </Field>
      {form.repeat !== "none" && (
        <FieldGroup legend={trans.__("Ends")} error={error}>
          <select
            className="jp-mod-styled"
            aria-label={trans.__("How it ends")}
            value={form.ends}
            onChange={(event) => onChange({ ends: event.target.value as BookingForm["ends"] })}
          >
            <option value="after">{trans.__("after so many times")}</option>
            <option value="on">{trans.__("on a day")}</option>
          </select>
          {form.ends === "after" ? (
            <input
              className="jp-mod-styled"
              type="number"
              min={1}
              max={60}
              step={1}
              aria-label={trans.__("How many times")}
              value={form.times}
              onChange={(event) => onChange({ times: event.target.value })}
            />
          ) : (
            <input
              className="jp-mod-styled"
              type="date"
              aria-label={trans.__("Last day")}
              value={form.until}
              onChange={(event) => onChange({ until: event.target.value })}
            />
          )}
          <span className="ch-Check">
            <input
              id={`${id}-skip`}
              type="checkbox"
              checked={form.skipTaken}
              onChange={(event) => onChange({ skipTaken: event.target.checked })}
            />
            <label htmlFor={`${id}-skip`}>{trans.__("Leave out what others have booked")}</label>
          </span>
        </FieldGroup>
      )}
    </>
  );
}

/** What is wrong with a field, in words: what the server said of it, else what is plain from here. */
function useProblems({ problems, error, limits }: BookingFieldsProps): (field: FieldName) => string | undefined {
  const { trans, formats } = useWords();
  const say = ({ field, code }: FormProblem): string => {
    switch (code) {
      case "missing":
        return trans.__("Please fill this in.");
      case "not_whole":
        return trans.__("This is a whole number above zero.");
      case "too_few":
        return trans.__("At least one.");
      case "too_many":
        return trans.__("At most %1.", limits.max_count);
      case "too_short":
        return trans.__("At least %1.", formats.duration(limits.min_duration_seconds));
      case "too_long":
        return trans.__("At most %1.", formats.duration(limits.max_duration_seconds));
      case "too_far":
        return trans.__("At most %1 ahead.", formats.duration(limits.max_ahead_seconds));
      case "past":
        return field === "rrule" ? trans.__("This is before the first one.") : trans.__("This time is past.");
    }
  };
  const named = error?.field === "when" ? "starts_at" : error?.field;
  return (field) => {
    const problem = problems.find((each) => each.field === field);
    return problem ? say(problem) : named === field ? error?.message : undefined;
  };
}

/** The fields at which this form shows a refusal; one about anything else is shown by itself. */
export const SHOWN_AT_FIELDS = ["model", "count", "starts_at", "when", "duration_seconds", "rrule", "notebook_path"];
