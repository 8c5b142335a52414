/** Your bookings as a table: everything that the grid shows and does, in reading order. */
import type { Booking } from "../api/types";
import { stateInWords } from "./bookingWords";
import { Button, EmptyNote } from "./parts";
import { useWords } from "./words";

export interface BookingListProps {
  bookings: readonly Booking[];
  /** There are more than are shown. */
  isCut: boolean;
  /** Those being cancelled right now. */
  busy: ReadonlySet<string>;
  onOpen: (booking: Booking) => void;
  onCancel: (booking: Booking) => void;
}

export function BookingList({ bookings, isCut, busy, onOpen, onCancel }: BookingListProps): JSX.Element {
  const words = useWords();
  const { trans, formats } = words;
  if (!bookings.length) {
    return <EmptyNote>{trans.__("You have booked nothing. “New booking” is where to begin.")}</EmptyNote>;
  }
  return (
    // What scrolls must scroll by keyboard as well.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
    <div className="ch-BookingList" role="region" aria-label={trans.__("Your bookings")} tabIndex={0}>
      <table>
        <thead>
          <tr>
            <th scope="col">{trans.__("When")}</th>
            <th scope="col">{trans.__("GPU")}</th>
            <th scope="col">{trans.__("State")}</th>
            <th scope="col">{trans.__("At most")}</th>
            <th scope="col">{trans.__("Notebook")}</th>
            <th scope="col">{trans.__("Change")}</th>
          </tr>
        </thead>
        <tbody>
          {bookings.map((booking) => {
            const when = formats.span(booking.starts_at, booking.ends_at);
            return (
              <tr key={booking.id}>
                <th scope="row">{when}</th>
                <td>{formats.devices(booking.model, booking.count)}</td>
                <td>
                  {stateInWords(booking, words)}
                  {booking.series_id && <span className="ch-Badge">{trans.__("repeats")}</span>}
                </td>
                <td>{formats.credits(booking.amount_microcredits)}</td>
                <td>{booking.notebook_path}</td>
                <td>
                  <span className="ch-BookingList-buttons">
                    <Button label={trans.__("Move")} name={trans.__("Move %1", when)} onClick={() => onOpen(booking)} />
                    <Button
                      label={trans.__("Cancel")}
                      name={trans.__("Cancel %1", when)}
                      isBusy={busy.has(booking.id)}
                      onClick={() => onCancel(booking)}
                    />
                  </span>
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
      {isCut && <p className="ch-Note">{trans.__("There are more; these are the first.")}</p>}
    </div>
  );
}
