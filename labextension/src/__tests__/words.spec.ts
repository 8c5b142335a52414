import { nullTranslator } from "@jupyterlab/translation";

import { Formats, wordsOf } from "../components/words";

const trans = nullTranslator.load("computehub");
const formats = new Formats(trans, "en", "Europe/Berlin");

describe("Formats", () => {
  it.each([
    [1_250_000, "1.25"],
    [1_000, "0.001"],
    [0, "0.00"],
    [-2_500_000, "-2.50"],
    [1_234_567_000_000, "1,234,567.00"],
  ])("shows %p microcredits as %p", (microcredits, shown) => {
    expect(formats.amount(microcredits)).toBe(shown);
  });

  it.each([
    [0, "0 s"],
    [59, "59 s"],
    [60, "1 min"],
    [7_500, "2 h 5 min"],
    [90_000, "1 d 1 h"],
    [-5, "0 s"],
  ])("tells %p seconds as %p", (seconds, told) => {
    expect(formats.duration(seconds)).toBe(told);
  });

  it.each([
    [3_599, "59:59"],
    [7_147, "1:59:07"],
    [-1, "0:00"],
  ])("counts %p seconds down as %p", (seconds, shown) => {
    expect(formats.countdown(seconds)).toBe(shown);
  });

  it("shows a span in the person's zone, over the change to summer time", () => {
    expect(formats.span("2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z")).toMatch(/1:30.*3:30/);
  });

  it("tells the moments of a server's sentence in the person's own time", () => {
    expect(formats.withTimes("1 × T4 from 2026-03-02T13:00:00Z, at most.")).toMatch(
      /from Mon, Mar 2, .*2:00.*, at most\.$/,
    );
  });

  it("falls back to English for a language that the browser does not know", () => {
    expect(wordsOf(trans, "xx_YY").formats.locale).toBe("en");
    expect(wordsOf(trans, "de_DE").formats.amount(1_500_000)).toBe("1,50");
  });
});
