import { act, cleanup, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";

import { wordsOf } from "../components/words";
import { Tour } from "../models/tour";
import { TourWidget } from "../widgets/tour";
import { nullTranslator } from "@jupyterlab/translation";

const words = wordsOf(nullTranslator.load("computehub"), "en");
const stop = (title: string, find: () => Element | null = () => document.body) => ({ title, text: "…", find });

async function started(...stops: ReturnType<typeof stop>[]): Promise<TourWidget> {
  const widget = new TourWidget(new Tour(stops), words);
  await act(async () => {
    widget.start();
    await widget.renderPromise;
  });
  return widget;
}

afterEach(cleanup);

describe("the tour", () => {
  it("leaves out what is not there", () => {
    const tour = new Tour([stop("one"), stop("nowhere", () => null), stop("two")]);
    expect(tour.stops.map(({ title }) => title)).toEqual(["one", "two"]);
    tour.dispose();
  });

  it("goes on with Enter, back with its button, and is over after the last stop", async () => {
    const user = userEvent.setup();
    const widget = await started(stop("First"), stop("Second"));
    await screen.findByRole("dialog", { name: "First" });
    expect(document.activeElement?.textContent).toBe("Next");
    await user.keyboard("{Enter}");
    await screen.findByRole("dialog", { name: "Second" });
    expect(screen.getByText("2 of 2")).toBeTruthy();
    await user.click(screen.getByRole("button", { name: "Back" }));
    await screen.findByRole("dialog", { name: "First" });
    await user.click(screen.getByRole("button", { name: "Next" }));
    await user.click(screen.getByRole("button", { name: "Done" }));
    expect(widget.isDisposed).toBe(true);
    expect(screen.queryByRole("dialog")).toBeNull();
  });

  it("ends with Escape and gives the focus back, but leaves the key to a dialog", async () => {
    const user = userEvent.setup();
    const button = document.body.appendChild(document.createElement("button"));
    button.focus();
    const widget = await started(stop("First"), stop("Second"));
    await screen.findByRole("dialog", { name: "First" });
    const dialog = document.body.appendChild(document.createElement("div"));
    dialog.className = "jp-Dialog";
    await user.keyboard("{Escape}");
    expect(widget.isDisposed).toBe(false);
    dialog.remove();
    await user.keyboard("{Escape}");
    expect(widget.isDisposed).toBe(true);
    expect(document.activeElement).toBe(button);
    expect(document.querySelector(".ch-Tour-shown")).toBeNull();
    button.remove();
  });
});
