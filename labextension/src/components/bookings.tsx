import type { Booking } from "../api/types";
import { ActionButton, useFocusKept } from "./action";
import { Button, EmptyNote, SimulatedBadge } from "./parts";
import { useWords } from "./words";

export interface BookingListProps {
  bookings: readonly Booking[];
  /** The server's time. */
  now: number;
  /** Asks first; resolves also where the person thinks better of it. */
  onCancel: (booking: Booking) => Promise<unknown>;
  onChange: (booking: Booking) => void;
  onShow: (booking: Booking) => void;
  onBook: () => void;
  onCalendar: () => void;
  /** Absent where no notebook is open that could move. */
  onMove?: (booking: Booking) => void;
}

/** Your next bookings, soonest first. */
export function BookingList({ bookings, now, onBook, onCalendar, onCancel, ...acts }: BookingListProps): JSX.Element {
  const { trans } = useWords();
  const { holder, kept } = useFocusKept<HTMLDivElement>();
  return (
    <div ref={holder} tabIndex={-1} className="ch-Holder">
      {bookings.length ? (
        <ul className="ch-List">
          {bookings.map((booking) => (
            <BookingItem
              key={booking.id}
              booking={booking}
              hasBegun={Date.parse(booking.starts_at) <= now}
              onCancel={(cancelled) => kept(onCancel(cancelled))}
              {...acts}
            />
          ))}
        </ul>
      ) : (
        <EmptyNote>{trans.__("Nothing is booked.")}</EmptyNote>
      )}
      <div className="ch-Item-actions">
        <Button label={trans.__("Book a GPU…")} onClick={onBook} />
        <Button label={trans.__("Calendar")} onClick={onCalendar} />
      </div>
    </div>
  );
}

function BookingItem(
  props: Pick<BookingListProps, "onCancel" | "onChange" | "onShow" | "onMove"> & {
    booking: Booking;
    hasBegun: boolean;
  },
): JSX.Element {
  const { trans, formats } = useWords();
  const { booking, hasBegun, onCancel, onChange, onMove, onShow } = props;
  const when = formats.span(booking.starts_at, booking.ends_at);
  return (
    <li className="ch-Item" aria-label={when}>
      <div className="ch-Item-head">
        <button
          type="button"
          className="ch-Link ch-Item-title"
          aria-label={trans.__("%1, show in the calendar", when)}
          title={trans.__("Show in the calendar")}
          onClick={() => onShow(booking)}
        >
          {when}
        </button>
      </div>
      <p className="ch-Item-line">
        <span>
          {formats.devices(booking.model, booking.count)} {booking.simulated && <SimulatedBadge />}
        </span>
        {booking.notebook_path && <span className="ch-Path">{booking.notebook_path}</span>}
        {booking.series_id && <span>{trans.__("One of a series")}</span>}
        {hasBegun && <span className="ch-State ch-mod-good">{trans.__("Yours now")}</span>}
        <span className="ch-Item-amount">{formats.credits(booking.amount_microcredits)}</span>
      </p>
      <div className="ch-Item-actions">
        {hasBegun && onMove && <Button label={trans.__("Move here")} kind="accept" onClick={() => onMove(booking)} />}
        <Button label={trans.__("Change…")} onClick={() => onChange(booking)} />
        <ActionButton label={trans.__("Cancel")} act={() => onCancel(booking)} />
      </div>
    </li>
  );
}
