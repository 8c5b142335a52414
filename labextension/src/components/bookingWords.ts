import type { Booking } from "../api/types";
import type { Words } from "./words";

/** What has become of a booking, as a person would say it. */
export function stateInWords({ state, simulated }: Booking, { trans }: Words): string {
  const said: Record<Booking["state"], string> = {
    held: trans.__("on hold"),
    confirmed: trans.__("booked"),
    active: trans.__("running"),
    completed: trans.__("over"),
    cancelled: trans.__("cancelled"),
    expired: trans.__("not used"),
  };
  return simulated ? trans.__("%1, simulated", said[state]) : said[state];
}

/** One booking as a sentence, for those who hear it. */
export function bookingInWords(booking: Booking, words: Words): string {
  const { trans, formats } = words;
  return trans.__(
    "%1, %2, %3, %4",
    formats.devices(booking.model, booking.count),
    formats.span(booking.starts_at, booking.ends_at),
    stateInWords(booking, words),
    formats.credits(booking.amount_microcredits),
  );
}
