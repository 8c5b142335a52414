import { addDays, endOfGap, isDate, momentsOf, offsetAt, startOfDay, wallTimeOf, weekdayOf } from "../models/zoned";

const iso = (at: number) => new Date(at).toISOString();
const BERLIN = "Europe/Berlin";

describe("the clock on the wall", () => {
  it.each([
    [BERLIN, "2026-03-02", "14:00", ["2026-03-02T13:00:00.000Z"]],
    [BERLIN, "2026-07-02", "14:00", ["2026-07-02T12:00:00.000Z"]],
    [BERLIN, "2026-03-29", "02:30", []],
    [BERLIN, "2026-10-25", "02:30", ["2026-10-25T00:30:00.000Z", "2026-10-25T01:30:00.000Z"]],
    [BERLIN, "2026-10-25", "03:00", ["2026-10-25T02:00:00.000Z"]],
    ["America/New_York", "2026-11-01", "01:30", ["2026-11-01T05:30:00.000Z", "2026-11-01T06:30:00.000Z"]],
    ["Australia/Lord_Howe", "2026-10-04", "02:15", []],
    ["Asia/Kathmandu", "2026-03-02", "00:00", ["2026-03-01T18:15:00.000Z"]],
    ["Pacific/Kiritimati", "2026-03-02", "00:00", ["2026-03-01T10:00:00.000Z"]],
    ["UTC", "nonsense", "14:00", []],
  ])("%s on %s shows %s at %j", (zone, date, time, moments) => {
    expect(momentsOf({ date, time }, zone).map(iso)).toEqual(moments);
  });

  it("reads back what it shows, every half hour of a year with two changes", () => {
    for (let at = Date.UTC(2026, 0, 1); at < Date.UTC(2027, 0, 1); at += 1_800_000) {
      expect(momentsOf(wallTimeOf(at, BERLIN), BERLIN)).toContain(at);
    }
  });

  it("knows the moment at which the clocks skip a time", () => {
    expect(iso(endOfGap({ date: "2026-03-29", time: "02:30" }, BERLIN))).toBe("2026-03-29T01:00:00.000Z");
    expect(iso(endOfGap({ date: "2026-10-04", time: "02:15" }, "Australia/Lord_Howe"))).toBe(
      "2026-10-03T15:30:00.000Z",
    );
  });

  it("has days of 23 and 25 hours, and one that begins at one", () => {
    const hours = (date: string) => (startOfDay(addDays(date, 1), BERLIN) - startOfDay(date, BERLIN)) / 3_600_000;
    expect([hours("2026-03-28"), hours("2026-03-29"), hours("2026-10-25")]).toEqual([24, 23, 25]);
    // Cairo's clocks skip midnight itself.
    expect(wallTimeOf(startOfDay("2026-04-24", "Africa/Cairo"), "Africa/Cairo").time).toBe("01:00");
  });

  it("counts days of the calendar", () => {
    expect(addDays("2026-02-28", 1)).toBe("2026-03-01");
    expect(addDays("2026-01-01", -1)).toBe("2025-12-31");
    expect(weekdayOf("2026-03-02")).toBe(1);
    expect([isDate("2026-02-30"), isDate("2028-02-29"), isDate("")]).toEqual([false, true, false]);
    expect(offsetAt(Date.UTC(2026, 6, 1), BERLIN)).toBe(7_200_000);
  });
});
