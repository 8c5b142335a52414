import { cleanup, fireEvent, render, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";

import { LengthField } from "../components/lengthField";
import { MoveForm } from "../components/moveForm";
import { MovePreview, fieldOf, lostIn } from "../components/movePreview";
import { MoveProgress } from "../components/moveProgress";
import { MoveResult } from "../components/moveResult";
import { StatusItem } from "../components/statusItem";
import { SwitchButton } from "../components/switchButton";
import type { PreviewAnswer } from "../models/previewer";
import { newDraft } from "../models/moveDraft";
import { lease, moveOf, offer, person, place } from "./server";

afterEach(cleanup);

const nothing = () => undefined;
const at = (time: string) => Date.parse(`2026-03-02T${time}Z`);

function answer(over: Partial<PreviewAnswer> = {}): PreviewAnswer {
  const preview = { carried: [{ name: "x", bytes: 24 }], lost: [], problems: [], total_bytes: 24, seconds: 0.1 };
  return { preview, quote: null, problem: null, busy: false, waits: null, ...over };
}

describe("the button", () => {
  const show = (props: Partial<Parameters<typeof SwitchButton>[0]>) =>
    render(<SwitchButton place={null} moving={null} now={at("09:10:00")} onClick={nothing} {...props} />);

  it("asks to move where the notebook is on the CPU", () => {
    show({ place: place({ place: "cpu", lease: null }) });
    expect(screen.getByRole("button", { name: "Move to a GPU" })).toBeTruthy();
  });

  it("counts the cost, calls a simulated device so, and warns with a sign and in words", () => {
    show({ place: place() });
    expect(screen.getByRole("button").textContent).toBe("A100(simulated)0.667 credits");
    cleanup();
    show({ place: place(), now: at("10:58:30") });
    expect(screen.getByRole("button").textContent).toBe("!A100(simulated)ends in 1:30");
  });

  it("shows how far a move is", () => {
    show({ place: place(), moving: moveOf() });
    expect(screen.getByText("38%")).toBeTruthy();
    expect(screen.getByRole("progressbar")).toBeTruthy();
  });
});

describe("the form", () => {
  it("shows what was refused at its field, and keeps what was typed", async () => {
    const changes: object[] = [];
    const draft = { ...newDraft("gpu"), model: "T4", durationSeconds: 60 };
    const error = { field: "duration_seconds", message: "A booking lasts at least 5m, not 1m." };
    render(
      <MoveForm
        draft={draft}
        onChange={(change) => changes.push(change)}
        offers={[offer(), offer({ model: "A100", pool_id: "a", free_now: 0 })]}
        me={person()}
        names={[]}
        error={error}
      />,
    );
    expect(screen.getByRole("alert").textContent).toBe(error.message);
    expect((screen.getByLabelText("minutes") as HTMLInputElement).value).toBe("1");
    expect((screen.getByRole("radio", { name: /^T4/ }) as HTMLInputElement).checked).toBe(true);
    await userEvent.click(screen.getByRole("radio", { name: /^A100/ }));
    expect(changes).toContainEqual({ model: "A100", acceptsLoss: false });
  });

  it("begins with all names where only some shall come along", async () => {
    const changes: object[] = [];
    const names = [{ name: "x" }, { name: "data" }];
    const form = { offers: [], me: undefined, names, error: null };
    render(<MoveForm {...form} draft={newDraft("cpu")} onChange={(change) => changes.push(change)} />);
    await userEvent.click(screen.getByRole("radio", { name: "These only" }));
    expect(changes).toEqual([{ keep: "some", acceptsLoss: false, names: ["x", "data"] }]);
  });

  it("offers lengths within the server's bounds, and any other", () => {
    const chosen: number[] = [];
    render(
      <LengthField seconds={3600} least={1800} most={7200} error={null} onChange={(seconds) => chosen.push(seconds)} />,
    );
    expect(screen.getAllByRole("option").map(({ textContent }) => textContent)).toEqual([
      "30 min",
      "1 h",
      "2 h",
      "Other…",
    ]);
    fireEvent.change(screen.getByRole("combobox"), { target: { value: "other" } });
    fireEvent.change(screen.getByLabelText("minutes"), { target: { value: "65" } });
    expect(chosen.at(-1)).toBe(65 * 60);
  });
});

describe("the preview", () => {
  it("warns of variables that are too large for the place, with those where they would fit", async () => {
    const fits = [
      offer({ model: "V100", pool_id: "v", kernel_limits: { memory_mib: 16_384, cpus: null } }),
      offer({ model: "A100", pool_id: "a", free_now: 0, kernel_limits: { memory_mib: 65_536, cpus: 8 } }),
    ];
    const message = "The notebook's variables take 5.2 GB.";
    const preview = { carried: [], lost: [], problems: [{ kind: "memory" as const, message, fits }], total_bytes: 5e9 };
    const changes: object[] = [];
    render(
      <MovePreview
        draft={{ ...newDraft("gpu"), model: "T4" }}
        answer={answer({ preview })}
        error={null}
        isAsking={false}
        onChange={(change) => changes.push(change)}
        onRetry={nothing}
        onBook={nothing}
      />,
    );
    expect(screen.getByRole("alert").textContent).toContain(message);
    expect(screen.getByRole("button", { name: /^A100 \(64 GiB RAM, .*\), free from / })).toBeTruthy();
    await userEvent.click(screen.getByRole("button", { name: "Take V100 now (16 GiB RAM, 1.00 credits an hour)" }));
    expect(changes).toContainEqual({ model: "V100", acceptsLoss: false });
  });

  const show = (given: PreviewAnswer, onChange = nothing as (change: object) => void) =>
    render(
      <MovePreview
        draft={newDraft("gpu")}
        answer={given}
        error={null}
        isAsking={false}
        onChange={onChange}
        onRetry={nothing}
        onBook={nothing}
      />,
    );

  it("names what can't come along, and asks to leave it behind", async () => {
    const changes: object[] = [];
    const lost = [{ name: "lock", reason: "a lock, which belongs to this process" }];
    show(answer({ preview: { ...answer().preview, lost } }), (change) => changes.push(change));
    expect(screen.getByRole("table", { name: "Can't come along" }).textContent).toContain("lock");
    await userEvent.click(screen.getByRole("checkbox", { name: "Leave these behind" }));
    expect(changes).toEqual([{ acceptsLoss: true }]);
  });

  it("offers what is free, and slots, where nothing is", async () => {
    const changes: object[] = [];
    const slot = { starts_at: "2026-03-02T14:00:00Z", ends_at: "2026-03-02T16:00:00Z" };
    const alternative = { ...slot, amount_microcredits: 2_000_000, model: "T4", pool_id: "p", simulated: true };
    const quote = {
      ...{ ...slot, available: false, model: "A100", pool: "a", pool_id: "a", count: 1, simulated: true },
      ...{ amount_microcredits: 8_000_000, rate_microcredits_per_hour: 4_000_000, change_microcredits: null },
      alternatives: [{ ...alternative, rate_microcredits_per_hour: 1_000_000 }],
      ...{ earliest: [slot], occurrences: null },
    };
    const problem = { code: "slot_taken", message: "No A100 is free now.", details: {} };
    show(answer({ quote, problem }), (change) => changes.push(change));
    expect(screen.getByRole("alert").textContent).toContain("No A100 is free now.");
    expect(screen.getByRole("button", { name: /^Book A100 for/ })).toBeTruthy();
    await userEvent.click(screen.getByRole("button", { name: /^Take T4 now/ }));
    expect(changes).toEqual([{ model: "T4" }]);
  });

  it("tells a field's problem and a loss from others", () => {
    const details = { field: "count", lost: [{ name: "f", reason: "an open file" }] } as never;
    expect(fieldOf(answer({ problem: { code: "invalid", message: "", details } }))).toBe("count");
    expect(lostIn(answer({ problem: { code: "loss_not_accepted", message: "", details } }))).toHaveLength(1);
  });
});

describe("a move under way and its end", () => {
  it("shows the steps, the one at hand by more than its colour", () => {
    render(<MoveProgress value={moveOf({ state: "capturing" })} keepsNothing={false} />);
    expect(screen.getByRole("status").textContent).toBe("Collect the variables");
    expect(document.querySelector("[aria-current=step]")?.textContent).toBe("Collect the variables");
    expect(screen.getAllByText("(done)")).toHaveLength(3);
  });

  it("says what came along, what stayed behind and what is otherwise", () => {
    const result = {
      restored: ["x", "data"],
      lost: [{ name: "lock", reason: "a lock" }],
      notes: ["w left a GPU for main memory."],
      bytes: 2_000_000,
      seconds: 2.4,
    };
    const value = moveOf({ state: "done", result });
    render(<MoveResult phase="done" value={value} error={null} devices="A100 (simulated)" />);
    expect(screen.getByRole("status").textContent).toBe("The notebook is on A100 (simulated) now.");
    expect(screen.getByText("2 names came along (2 MB, in 2 s):")).toBeTruthy();
    expect(screen.getByRole("table", { name: "Stayed behind" })).toBeTruthy();
    expect(screen.getByText("w left a GPU for main memory.")).toBeTruthy();
  });

  it("says that nothing was charged where it failed, and what was lacking", () => {
    const problems = [{ message: "The folder data is not there." }];
    const error = { code: "loss_not_accepted", message: "Nothing was moved.", details: { problems } as never };
    render(<MoveResult phase="failed" value={moveOf({ state: "failed", error })} error={null} devices={null} />);
    expect(screen.getByRole("alert").textContent).toBe("Nothing was moved.");
    expect(screen.getByText(/nothing was charged/)).toBeTruthy();
    expect(screen.getByText("The folder data is not there.")).toBeTruthy();
  });
});

describe("the status bar", () => {
  it("says place, rate, time left and balance, and which notebook it is elsewhere", () => {
    const shown = { availableMicrocredits: 8_000_000, onClick: nothing, now: at("09:07:30") };
    render(<StatusItem {...shown} lease={lease()} elsewhere={null} />);
    expect(screen.getByRole("button").textContent).toBe("A100 (simulated)4.00 an hour1:52:30 leftbalance 8.00 credits");
    cleanup();
    render(<StatusItem {...shown} now={at("10:55:00")} lease={lease()} elsewhere="train.ipynb" />);
    expect(screen.getByRole("button").textContent).toContain("A100 (simulated) in train.ipynb");
    expect(screen.getByRole("button").textContent).toContain("!");
    expect(screen.getByText("ends in 5:00")).toBeTruthy();
  });
});
