import { BookingDesk } from "../models/bookingDesk";
import type { BookingForm } from "../models/bookingForm";
import { formOf, newForm, problemsOf, ruleOf, wishOf } from "../models/bookingForm";
import { booking, hubAt, LIMITS, quote, stocked } from "./calendarSamples";
import { FakeServer, refusal } from "./server";

const ZONE = "Europe/Berlin";
const NOW = "2026-03-02T09:07:00Z";

function opened(server: FakeServer, options: Partial<ConstructorParameters<typeof BookingDesk>[1]> = {}) {
  const { hub } = hubAt(stocked(server), NOW);
  const desk = new BookingDesk(hub, { zone: ZONE, limits: LIMITS, start: { model: "T4" }, ...options });
  return { hub, desk };
}

describe("the booking form", () => {
  const form = (typed: Partial<BookingForm> = {}) => ({
    ...newForm({ model: "T4" }, LIMITS, Date.parse(NOW), ZONE),
    ...typed,
  });
  const problems = (typed: Partial<BookingForm>, hasBegun = false) =>
    problemsOf(form(typed), { limits: LIMITS, zone: ZONE, now: Date.parse(NOW), hasBegun }).map(
      ({ field, code }) => `${field} ${code}`,
    );

  it("begins at the next quarter of an hour, for the usual length", () => {
    expect(form()).toMatchObject({ date: "2026-03-02", time: "10:15", hours: "2", minutes: "0", count: "1" });
    expect(problems({})).toEqual([]);
  });

  it.each<[Partial<BookingForm>, string]>([
    [{ model: "" }, "model missing"],
    [{ count: "" }, "count missing"],
    [{ count: "1.5" }, "count not_whole"],
    [{ count: "0" }, "count too_few"],
    [{ count: "9" }, "count too_many"],
    [{ date: "" }, "starts_at missing"],
    [{ date: "2026-03-01" }, "starts_at past"],
    [{ date: "2027-03-01" }, "starts_at too_far"],
    [{ hours: "", minutes: "" }, "duration_seconds missing"],
    [{ hours: "0", minutes: "4" }, "duration_seconds too_short"],
    [{ hours: "25" }, "duration_seconds too_long"],
    [{ hours: "x" }, "duration_seconds not_whole"],
    [{ repeat: "daily", times: "" }, "rrule missing"],
    [{ repeat: "daily", times: "2.5" }, "rrule not_whole"],
    [{ repeat: "daily", ends: "on", until: "2026-03-01" }, "rrule past"],
  ])("says what is wrong with %j", (typed, problem) => {
    expect(problems(typed)).toEqual([problem]);
  });

  it("lets a booking that has begun end soon", () => {
    expect(problems({ date: "2026-03-01", hours: "0", minutes: "1" }, true)).toEqual([]);
  });

  it.each<[Partial<BookingForm>, string | null]>([
    [{ repeat: "none" }, null],
    [{ repeat: "daily", times: "5" }, "FREQ=DAILY;COUNT=5"],
    [{ repeat: "weekdays", times: "10" }, "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR;COUNT=10"],
    [{ repeat: "fortnightly", ends: "on", until: "2026-04-30" }, "FREQ=WEEKLY;INTERVAL=2;UNTIL=20260430"],
    [{ repeat: "monthly", times: "2" }, "FREQ=MONTHLY;COUNT=2"],
  ])("means by %j the rule %s", (typed, rule) => {
    expect(ruleOf(form(typed))).toBe(rule);
  });

  it.each<[Partial<BookingForm>, string | null]>([
    [{ date: "2026-03-29", time: "02:30" }, "2026-03-29T01:00:00.000Z"],
    [{ date: "2026-03-28", time: "14:00" }, "2026-03-28T13:00:00.000Z"],
    [{ date: "2026-03-30", time: "14:00" }, "2026-03-30T12:00:00.000Z"],
    [{ date: "2026-03-02", time: "10:05" }, null],
  ])("starts %j at %s", (typed, startsAt) => {
    expect(wishOf(form(typed), ZONE, Date.parse(NOW)).starts_at).toBe(startsAt);
  });

  it("knows which of two half past twos", () => {
    const second = formOf(
      booking({ starts_at: "2026-10-25T01:30:00Z", ends_at: "2026-10-25T02:30:00Z" }),
      LIMITS,
      ZONE,
    );
    expect(second).toMatchObject({ date: "2026-10-25", time: "02:30", isSecond: true, hours: "1", minutes: "0" });
    expect(wishOf(second, ZONE, Date.parse(NOW)).starts_at).toBe("2026-10-25T01:30:00.000Z");
  });
});

describe("BookingDesk", () => {
  beforeEach(() => jest.useFakeTimers());
  afterEach(() => jest.useRealTimers());

  it("asks for the price of what stands still, and shows the last answer alone", async () => {
    const server = new FakeServer();
    const { desk } = opened(server);
    desk.set({ count: "2" });
    await jest.advanceTimersByTimeAsync(200);
    desk.set({ count: "3" });
    await jest.advanceTimersByTimeAsync(400);
    expect(server.count("POST quotes")).toBe(1);
    expect(desk.state.quote?.amount_microcredits).toBe(2_000_000);
    expect(server.asked.at(-1)?.body).toEqual({
      model: "T4",
      count: 3,
      starts_at: "2026-03-02T09:15:00.000Z",
      duration_seconds: 7200,
    });
  });

  it("drops a slow answer to an old question", async () => {
    const answers: ((amount: number) => void)[] = [];
    const server = new FakeServer();
    const { desk } = opened(server);
    server.on(
      "POST quotes",
      () =>
        new Promise((resolve) => answers.push((amount) => resolve({ body: quote({ amount_microcredits: amount }) }))),
    );
    await jest.advanceTimersByTimeAsync(400);
    desk.set({ count: "2" });
    await jest.advanceTimersByTimeAsync(400);
    answers[1]!(2);
    answers[0]!(1);
    await jest.advanceTimersByTimeAsync(10);
    expect(desk.state.quote?.amount_microcredits).toBe(2);
  });

  it("books once, however often it is asked to", async () => {
    const server = new FakeServer().on("POST bookings", () => ({ status: 201, body: booking() }));
    const { desk } = opened(server);
    await jest.advanceTimersByTimeAsync(400);
    const sent = [desk.send(), desk.send()];
    await jest.advanceTimersByTimeAsync(10);
    expect(await Promise.all(sent)).toEqual([true, false]);
    expect(server.count("POST bookings")).toBe(1);
    expect(desk.state.outcome).toMatchObject({ kind: "booked", bookings: [{ id: "bkg_1" }] });
  });

  it("says the same again after an answer was lost, and something new after a refusal", async () => {
    const answers = [
      () => Promise.reject(new TypeError("Failed to fetch")),
      () => refusal(402, "insufficient_credits", "Not enough credits."),
      () => ({ status: 201, body: booking() }),
    ];
    const server = new FakeServer().on("POST bookings", () => answers.shift()!());
    const { hub, desk } = opened(server);
    await jest.advanceTimersByTimeAsync(400);
    for (const isDone of [false, false, true]) {
      // The time that was meant has passed meanwhile; what was sent is sent as it was.
      jest.spyOn(hub.clock, "now").mockReturnValue(Date.parse("2026-03-02T09:16:00Z"));
      const sent = desk.send();
      await jest.advanceTimersByTimeAsync(10);
      expect(await sent).toBe(isDone);
    }
    const [first, second, third] = server.asked.filter(({ path }) => path === "bookings");
    expect(second).toMatchObject({ key: first!.key, body: first!.body });
    expect(third!.key).not.toBe(first!.key);
  });

  it("keeps what was typed when it is refused, names the field, and asks what else is free", async () => {
    const server = new FakeServer().on("POST bookings", () =>
      refusal(409, "slot_taken", "Others have booked then.", { field: "starts_at" }),
    );
    const { desk } = opened(server);
    desk.set({ count: "2" });
    await jest.advanceTimersByTimeAsync(400);
    const sent = desk.send();
    await jest.advanceTimersByTimeAsync(10);
    expect(await sent).toBe(false);
    expect(desk.state).toMatchObject({ form: { count: "2" }, refusal: { field: "starts_at" }, isSending: false });
    expect(server.count("POST quotes")).toBe(2);
  });

  it("books a series, and only what is free where that is wished", async () => {
    const taken = { starts_at: "2026-03-10T13:00:00Z", ends_at: "2026-03-10T15:00:00Z", amount_microcredits: 0 };
    const server = new FakeServer();
    const { desk } = opened(server);
    server
      .on("POST quotes", () => ({
        body: quote({
          occurrences: [
            { ...taken, available: true, note: null },
            { ...taken, available: false, note: null },
          ],
        }),
      }))
      .on("POST booking-series", () => ({
        status: 201,
        body: {
          id: "s",
          items: [booking()],
          skipped: [taken],
          notes: ["The clocks change."],
          rrule: "",
          time_zone: ZONE,
        },
      }));
    desk.set({ repeat: "weekly", times: "2" });
    await jest.advanceTimersByTimeAsync(400);
    expect(desk.canSend).toBe(false);
    desk.set({ skipTaken: true });
    await jest.advanceTimersByTimeAsync(400);
    const sent = desk.send();
    await jest.advanceTimersByTimeAsync(10);
    expect(await sent).toBe(true);
    expect(server.asked.at(-1)?.path).toBe("booking-series");
    expect(server.asked.at(-1)?.body).toMatchObject({
      rrule: "FREQ=WEEKLY;COUNT=2",
      time_zone: ZONE,
      skip_taken: true,
    });
    expect(desk.state.outcome).toMatchObject({ kind: "series_booked", skipped: 1, notes: ["The clocks change."] });
  });

  it("moves only what was changed, and has nothing to send while nothing was", async () => {
    const server = new FakeServer().on("POST bookings/bkg_1/move", () => ({ body: booking() }));
    const { desk } = opened(server, { booking: booking(), start: {} });
    await jest.advanceTimersByTimeAsync(400);
    expect(desk.canSend).toBe(false);
    desk.set({ time: "15:00" });
    await jest.advanceTimersByTimeAsync(400);
    expect(server.asked.at(-1)?.body).toEqual({
      starts_at: "2026-03-03T14:00:00.000Z",
      moving_booking_id: "bkg_1",
    });
    const sent = desk.send();
    await jest.advanceTimersByTimeAsync(10);
    expect(await sent).toBe(true);
    expect(server.asked.at(-1)?.body).toEqual({ starts_at: "2026-03-03T14:00:00.000Z" });
  });

  it("changes only the length of what has begun", async () => {
    const begun = booking({ state: "active", starts_at: "2026-03-02T09:00:00Z", ends_at: "2026-03-02T10:00:00Z" });
    const server = new FakeServer();
    const { desk } = opened(server, { booking: begun, start: {} });
    desk.set({ hours: "3" });
    await jest.advanceTimersByTimeAsync(400);
    expect(server.asked.at(-1)?.body).toEqual({ duration_seconds: 10_800, moving_booking_id: "bkg_1" });
  });

  it("cancels one, or all of its series that are to come", async () => {
    const server = new FakeServer()
      .on("POST bookings/bkg_1/cancel", () => refusal(409, "illegal_move", "It is over."))
      .on("POST booking-series/s1/cancel", () => ({ body: { id: "s1", items: [], skipped: [], notes: [] } }));
    const { desk } = opened(server, { booking: booking({ series_id: "s1" }), start: {} });
    const one = desk.cancel();
    await jest.advanceTimersByTimeAsync(10);
    expect(await one).toBe(false);
    expect(desk.state.refusal?.message).toBe("It is over.");
    const all = desk.cancel({ all: true });
    await jest.advanceTimersByTimeAsync(10);
    expect(await all).toBe(true);
    expect(desk.state.outcome?.kind).toBe("series_cancelled");
  });
});
