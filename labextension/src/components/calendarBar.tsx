/** What stands above the calendar: the way through the days, what is shown, and the button that books. */
import { addIcon, caretLeftIcon, caretRightIcon, downloadIcon } from "@jupyterlab/ui-components";
import type { ReactNode } from "react";

import type { Offer } from "../api/types";
import type { CalendarChoice, CalendarView } from "../models/calendar";
import { isDate, startOfDay } from "../models/zoned";
import { Button, SimulatedBadge } from "./parts";
import { useWords } from "./words";
import { zoneLabel } from "./zone";

export interface CalendarBarProps {
  choice: CalendarChoice;
  days: { first: string; end: string };
  zone: string;
  /** Where the bookings can be had as a file. */
  fileAddress: string;
  onChoose: (choice: Partial<CalendarChoice>) => void;
  onTurn: (pages: number) => void;
  onToday: () => void;
  onBook: () => void;
}

export function CalendarBar(props: CalendarBarProps): JSX.Element {
  const { choice, days, zone, fileAddress, onChoose, onTurn, onToday, onBook } = props;
  const { trans, formats } = useWords();
  const isDay = choice.view === "day";
  const isList = choice.view === "list";
  const title = isList ? trans.__("All that is to come") : titleOf(days, formats.locale);
  const views: [CalendarView, string][] = [
    ["week", trans.__("Week")],
    ["day", trans.__("Day")],
    ["list", trans.__("List")],
  ];
  return (
    <div className="ch-CalendarBar">
      <Button label={trans.__("New booking")} icon={addIcon} kind="accept" onClick={onBook} />
      {!isList && (
        <div className="ch-CalendarBar-group" role="group" aria-label={trans.__("Go to")}>
          <Button label={trans.__("Today")} onClick={onToday} />
          <Button
            label={isDay ? trans.__("Day before") : trans.__("Week before")}
            icon={caretLeftIcon}
            iconOnly
            onClick={() => onTurn(-1)}
          />
          <Button
            label={isDay ? trans.__("Next day") : trans.__("Next week")}
            icon={caretRightIcon}
            iconOnly
            onClick={() => onTurn(1)}
          />
          <input
            className="jp-mod-styled"
            type="date"
            aria-label={trans.__("Go to a day")}
            value={choice.day}
            onChange={({ target }) => isDate(target.value) && onChoose({ day: target.value })}
          />
        </div>
      )}
      <h2 className="ch-CalendarBar-title" aria-live="polite">
        {title}
      </h2>
      <div className="ch-CalendarBar-group" role="group" aria-label={trans.__("Show as")}>
        {views.map(([view, said]) => (
          <button
            key={view}
            type="button"
            className="ch-CalendarBar-view jp-mod-styled"
            aria-pressed={choice.view === view}
            onClick={() => onChoose({ view })}
          >
            {said}
          </button>
        ))}
      </div>
      <span className="ch-CalendarBar-zone">
        {trans.__("Times: %1", zoneLabel(zone, startOfDay(days.first, zone), formats.locale))}
      </span>
      <a className="ch-CalendarBar-file" href={fileAddress} download="computehub-bookings.ics">
        <downloadIcon.react tag="span" aria-hidden="true" />
        {trans.__("For other calendars")}
      </a>
    </div>
  );
}

/** `16 – 22 November 2026`, or one day in full. */
function titleOf({ first, end }: CalendarBarProps["days"], locale: string): string {
  const last = Date.parse(`${end}T00:00:00Z`) - 1;
  const format = new Intl.DateTimeFormat(locale, { timeZone: "UTC", dateStyle: "long" });
  return format.formatRange(Date.parse(`${first}T00:00:00Z`), last);
}

/** Which pools' free time lies behind the bookings, each in a lane of its own. */
export function PoolChoice(props: {
  offers: readonly Offer[];
  chosen: readonly string[];
  onChoose: (poolIds: string[]) => void;
  children?: ReactNode;
}): JSX.Element {
  const { offers, chosen, onChoose, children } = props;
  const { trans, formats } = useWords();
  const toggle = (poolId: string, isOn: boolean) =>
    onChoose(
      offers
        .map(({ pool_id }) => pool_id)
        .filter((id) => (id === poolId ? isOn : chosen.includes(id) && id !== poolId)),
    );
  return (
    <fieldset className="ch-PoolChoice">
      <legend>{trans.__("Free time of")}</legend>
      {offers.map((offer) => {
        const isChosen = chosen.includes(offer.pool_id);
        return (
          <label key={offer.pool_id} className="ch-PoolChoice-pool">
            <input
              type="checkbox"
              checked={isChosen}
              // One stays, or there would be nothing to see.
              aria-disabled={isChosen && chosen.length === 1 ? true : undefined}
              onChange={({ target }) => (target.checked || chosen.length > 1) && toggle(offer.pool_id, target.checked)}
            />
            <span>{offer.model}</span>
            <span className="ch-PoolChoice-rate">{formats.rate(offer.rate_microcredits_per_hour)}</span>
            {offer.simulated && <SimulatedBadge />}
          </label>
        );
      })}
      {children}
    </fieldset>
  );
}

/** What the looks mean, in words. */
export function Legend(): JSX.Element {
  const { trans } = useWords();
  return (
    <ul className="ch-Legend" aria-label={trans.__("What it looks like")}>
      <li>
        <span className="ch-Legend-sign ch-Booked" aria-hidden="true" />
        {trans.__("yours")}
      </li>
      <li>
        <span className="ch-Legend-sign ch-Free ch-mod-free" aria-hidden="true" />
        {trans.__("free: draw across it to book")}
      </li>
      <li>
        <span className="ch-Legend-sign ch-Free ch-mod-taken" aria-hidden="true" />
        {trans.__("taken by others")}
      </li>
    </ul>
  );
}
