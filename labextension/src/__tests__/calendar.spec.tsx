import { nullTranslator } from "@jupyterlab/translation";
import { act, render, screen, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";

import { BookingList } from "../components/bookingList";
import { PoolChoice } from "../components/calendarBar";
import CalendarGrid from "../components/calendarGrid";
import { QuoteCard } from "../components/quoteCard";
import { Formats, WordsContext } from "../components/words";
import { CalendarModel, runsOf } from "../models/calendar";
import { availability, booking, hubAt, quote, stocked } from "./calendarSamples";
import { FakeServer, offer, refusal } from "./server";

const NOW = "2026-03-02T09:07:00Z";
const ZONE = "Europe/Berlin";
const trans = nullTranslator.load("computehub");
const words = { trans, formats: new Formats(trans, "en", ZONE) };

const settle = async () => {
  for (let turn = 0; turn < 50; turn += 1) {
    await Promise.resolve();
  }
};

const show = (element: JSX.Element) => render(<WordsContext.Provider value={words}>{element}</WordsContext.Provider>);

describe("CalendarModel", () => {
  beforeEach(() => jest.useFakeTimers({ doNotFake: ["queueMicrotask"] }));
  afterEach(() => jest.useRealTimers());

  const made = (server: FakeServer, choice = {}) => {
    const { hub, emit } = hubAt(stocked(server), NOW);
    server.on("GET pools/pool_t4/availability", () => ({ body: availability("2026-03-02T09:00:00Z", [2, 2, 1, 0]) }));
    server.on("GET pools/pool_a100/availability", () => ({
      body: availability("2026-03-02T09:00:00Z", [1], { pool_id: "pool_a100" }),
    }));
    return { hub, emit, model: new CalendarModel(hub, { zone: ZONE, firstWeekday: 1, choice }) };
  };

  it.each([
    ["2026-03-29", "week", "2026-03-22T23:00:00.000Z", "2026-03-29T22:00:00.000Z"],
    ["2026-03-29", "day", "2026-03-28T23:00:00.000Z", "2026-03-29T22:00:00.000Z"],
    ["2026-10-25", "day", "2026-10-24T22:00:00.000Z", "2026-10-25T23:00:00.000Z"],
  ] as const)("shows around %s by %s from %s to %s", (day, view, starts_at, ends_at) => {
    expect(made(new FakeServer(), { day, view }).model.span).toEqual({ starts_at, ends_at });
  });

  it("begins its week where the person's weeks begin", () => {
    const { model } = made(new FakeServer());
    model.firstWeekday = 0;
    expect(model.days).toEqual({ first: "2026-03-01", end: "2026-03-08" });
  });

  it("asks for its days alone, for the free time from now on, and for nothing once nobody looks", async () => {
    const server = new FakeServer();
    const { model } = made(server);
    const use = model.use();
    await jest.advanceTimersByTimeAsync(50);
    const asked = server.asked.map(({ path }) => path);
    expect(asked).toEqual(expect.arrayContaining(["offers", "bookings", "pools/pool_t4/availability"]));
    expect(server.asked.find(({ path }) => path === "bookings")?.query).toMatchObject({
      from: "2026-03-01T23:00:00.000Z",
      to: "2026-03-08T23:00:00.000Z",
    });
    expect(server.asked.find(({ path }) => path.startsWith("pools"))?.query.start).toBe("2026-03-02T09:00:00.000Z");
    expect(model.free.value).toHaveLength(3);
    use.dispose();
    const before = server.asked.length;
    model.turn(1);
    await jest.advanceTimersByTimeAsync(300_000);
    expect(server.asked).toHaveLength(before);
  });

  it("shows several pools, and looks once for a burst of events", async () => {
    const server = new FakeServer();
    const { emit, model } = made(server, { poolIds: ["pool_t4", "pool_a100"] });
    model.use();
    await jest.advanceTimersByTimeAsync(50);
    expect(new Set(model.free.value?.map(({ pool_id }) => pool_id))).toEqual(new Set(["pool_t4", "pool_a100"]));
    const before = server.count("GET bookings");
    for (let burst = 0; burst < 20; burst += 1) {
      emit({ schema_id: "urn:computehub:event:booking:v1", action: "created", booking_id: `b${burst}` });
    }
    await jest.advanceTimersByTimeAsync(5000);
    expect(server.count("GET bookings")).toBe(before + 1);
  });

  it("reads a long list page by page, leaves out what is cancelled, and says where it stops", async () => {
    const server = new FakeServer();
    const { model } = made(server, { view: "list" });
    server.on("GET bookings", ({ query }) => ({
      body: {
        items: [booking({ id: `b${query.cursor ?? 0}` }), booking({ id: "x", state: "cancelled" })],
        next: String(Number(query.cursor ?? 0) + 1),
      },
    }));
    await model.bookings.refresh();
    expect(model.bookings.value).toMatchObject({ isCut: true, view: "list" });
    expect(model.bookings.value?.items.map(({ id }) => id)).toEqual(["b0", "b1", "b2", "b3", "b4"]);
  });

  it("keeps what it showed when the server refuses", async () => {
    const server = new FakeServer();
    const { model } = made(server);
    await model.bookings.refresh();
    server.on("GET bookings", () => refusal(429, "too_many_requests", "Too often."));
    await model.bookings.refresh();
    expect(model.bookings.state).toMatchObject({ value: { items: [] }, error: { code: "too_many_requests" } });
  });

  it("joins what is free alike", () => {
    const runs = runsOf(availability("2026-03-02T09:00:00Z", [2, 2, 1, 1, 2]), "2026-03-02T10:15:00Z");
    expect(runs.map(({ free, starts_at }) => `${free} ${starts_at.slice(11, 16)}`)).toEqual([
      "2 09:00",
      "1 09:30",
      "2 10:00",
    ]);
    expect(runs.at(-1)?.ends_at).toBe("2026-03-02T10:15:00Z");
  });
});

describe("the calendar's parts", () => {
  it("shows the grid with 200 bookings, each with a name that says all", async () => {
    const bookings = Array.from({ length: 200 }, (_, place) =>
      booking({
        id: `b${place}`,
        starts_at: new Date(Date.parse("2026-03-02T00:00:00Z") + place * 3_000_000).toISOString(),
        ends_at: new Date(Date.parse("2026-03-02T00:40:00Z") + place * 3_000_000).toISOString(),
        state: place % 2 ? "confirmed" : "completed",
      }),
    );
    const onOpen = jest.fn();
    const props = {
      view: "week" as const,
      day: "2026-03-02",
      firstWeekday: 1,
      moving: new Map(),
      free: runsOf(availability("2026-03-02T09:00:00Z", [2, 0]), "2026-03-02T10:00:00Z"),
      pools: [{ id: "pool_t4", name: "T4" }],
      now: () => Date.parse(NOW),
      onDraw: jest.fn(),
      onMove: jest.fn(),
      onOpen,
    };
    const { container, unmount } = show(<CalendarGrid {...props} bookings={bookings} />);
    await act(settle);
    const shown = container.querySelectorAll("[data-booking]");
    expect(shown.length).toBeGreaterThanOrEqual(195);
    // Without a layout the library keeps events hidden, so that they are not found by role.
    const named = [...shown].find((each) =>
      /^T4, Mon, Mar 2, .*booked, simulated, 2.00/.test(each.getAttribute("aria-label")!),
    );
    (named as HTMLElement).focus();
    await userEvent.setup().keyboard("{Enter}");
    expect(onOpen).toHaveBeenCalledTimes(1);
    expect(container.querySelector("[role=grid]")).toBeNull();
    unmount();
  });

  it("lists bookings with buttons that say which", async () => {
    const [onOpen, onCancel] = [jest.fn(), jest.fn()];
    const bookings = [booking(), booking({ id: "bkg_2", series_id: "s1", starts_at: "2026-03-04T13:00:00Z" })];
    show(<BookingList bookings={bookings} isCut busy={new Set(["bkg_2"])} onOpen={onOpen} onCancel={onCancel} />);
    const user = userEvent.setup();
    await user.click(screen.getByRole("button", { name: /^Move Tue, Mar 3/ }));
    expect(onOpen).toHaveBeenCalledWith(bookings[0]);
    await user.click(screen.getByRole("button", { name: /^Cancel Tue, Mar 3/ }));
    expect(onCancel).toHaveBeenCalledWith(bookings[0]);
    await user.click(screen.getByRole("button", { name: /^Cancel Wed, Mar 4/ }));
    expect(onCancel).toHaveBeenCalledTimes(1);
    expect(screen.getByText(/There are more/)).toBeTruthy();
  });

  it("keeps one pool chosen", async () => {
    const onChoose = jest.fn();
    const offers = [offer(), offer({ pool_id: "pool_a100", model: "A100" })];
    show(<PoolChoice offers={offers} chosen={["pool_t4"]} onChoose={onChoose} />);
    const user = userEvent.setup();
    await user.click(screen.getByRole("checkbox", { name: /^T4/ }));
    expect(onChoose).not.toHaveBeenCalled();
    await user.click(screen.getByRole("checkbox", { name: /^A100/ }));
    expect(onChoose).toHaveBeenCalledWith(["pool_t4", "pool_a100"]);
  });

  it("says the price, what is in the way, and what else is free", async () => {
    const [onTakeTime, onTakeModel] = [jest.fn(), jest.fn()];
    const taken = quote({
      available: false,
      change_microcredits: 500_000,
      earliest: [{ starts_at: "2026-03-03T16:00:00Z", ends_at: "2026-03-03T18:00:00Z" }],
      alternatives: [
        {
          model: "V100",
          pool_id: "pool_v100",
          simulated: false,
          rate_microcredits_per_hour: 2_500_000,
          amount_microcredits: 5_000_000,
          starts_at: "2026-03-03T13:00:00Z",
          ends_at: "2026-03-03T15:00:00Z",
        },
      ],
    });
    const props = { error: null, isQuoting: false, isIncomplete: false, skipTaken: false, onRetry: jest.fn() };
    show(
      <QuoteCard
        {...props}
        quote={taken}
        availableMicrocredits={100_000}
        onTakeTime={onTakeTime}
        onTakeModel={onTakeModel}
      />,
    );
    const card = within(screen.getByRole("region", { name: "Price" }));
    expect(card.getByText("Others have booked then.")).toBeTruthy();
    expect(card.getByText("0.50 credits more than before.")).toBeTruthy();
    expect(card.getByText(/0.40 credits are missing/)).toBeTruthy();
    const user = userEvent.setup();
    await user.click(card.getByRole("button", { name: /5:00.*7:00/ }));
    await user.click(card.getByRole("button", { name: "V100, 5.00 credits" }));
    expect(onTakeTime).toHaveBeenCalledWith("2026-03-03T16:00:00Z");
    expect(onTakeModel).toHaveBeenCalledWith("V100");
  });
});
