import { act, cleanup, render, screen, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";

import type { Approval, Booking, HistoryLine } from "../api/types";
import { AllowanceForm, AllowanceView, microcreditsOf } from "../components/allowance";
import { ApprovalList } from "../components/approvals";
import { BookingList } from "../components/bookings";
import { HistoryList } from "../components/history";
import { LeaseCard } from "../components/leaseCard";
import { lengthsOf, priceOf, secondsOf } from "../components/leaseForms";
import { OfferList, chosen } from "../components/offers";
import { ApiError } from "../api/errors";
import { lease, offer, person } from "./server";

afterEach(cleanup);

const nothing = () => undefined;

function approval(over: Partial<Approval> = {}): Approval {
  return {
    id: "apr_1",
    state: "pending",
    purpose: "1 × A100 for 2 hours",
    amount_microcredits: 8_000_000,
    kernel_id: "kernel-1",
    notebook_path: "train.ipynb",
    created_at: "2026-03-02T09:00:00Z",
    expires_at: "2026-03-02T09:10:00Z",
    decided_at: null,
    ...over,
  };
}

function booking(over: Partial<Booking> = {}): Booking {
  return {
    id: "bkg_1",
    model: "T4",
    simulated: true,
    pool_id: "pool_t4",
    count: 2,
    starts_at: "2026-03-03T13:00:00Z",
    ends_at: "2026-03-03T15:00:00Z",
    state: "confirmed",
    rate_microcredits_per_hour: 1_000_000,
    amount_microcredits: 4_000_000,
    notebook_path: "train.ipynb",
    created_at: "2026-03-02T09:00:00Z",
    series_id: null,
    ...over,
  };
}

export function line(over: Partial<HistoryLine> = {}): HistoryLine {
  return {
    id: "ent_1",
    at: "2026-03-02T09:00:00Z",
    kind: "lease",
    amount_microcredits: -1_250_000,
    memo: "T4 for 75 minutes",
    origin: "granted",
    by_origin: { granted: -1_250_000 },
    lease_id: "lease_1",
    lease: {
      model: "T4",
      count: 1,
      simulated: true,
      notebook_path: "train.ipynb",
      started_at: "2026-03-02T09:00:00Z",
      ended_at: "2026-03-02T10:15:00Z",
      end_reason: "idle",
      end_message: "No cell ran.",
    },
    ...over,
  };
}

describe("OfferList", () => {
  const offers = [
    offer({ model: "A100", pool_id: "a", pool: "big", rate_microcredits_per_hour: 4_000_000, memory_mib: 81_920 }),
    offer({ model: "T4", pool_id: "b", free_now: 0, earliest_at: "2026-03-03T13:00:00Z" }),
    offer({ model: "V100", pool_id: "c", rate_microcredits_per_hour: 2_500_000, free_now: 9, memory_mib: 16_384 }),
  ];

  it.each([
    ["price", ["T4", "V100", "A100"]],
    ["free", ["V100", "A100", "T4"]],
    ["memory", ["A100", "V100", "T4"]],
  ] as const)("is put in order by %s", (order, models) => {
    expect(chosen(offers, { text: "", order }).map(({ model }) => model)).toEqual(models);
  });

  it("tells a GPU's own memory from what a kernel may use beside it", () => {
    const limited = { ...offers[0]!, kernel_limits: { memory_mib: 6_144, cpus: 1.5 } };
    const filter = { text: "", order: "price" } as const;
    render(<OfferList offers={[limited, offers[1]!]} filter={filter} onFilter={nothing} onBook={nothing} />);
    const row = within(screen.getByRole("listitem", { name: "A100" }));
    expect(row.getByText("80 GiB GPU memory")).toBeTruthy();
    expect(row.getByText("6 GiB RAM, 1.5 cores")).toBeTruthy();
    expect(within(screen.getByRole("listitem", { name: "T4" })).queryByText(/RAM|core/)).toBeNull();
  });

  it("finds by any part of the model and the pool, whatever the case", () => {
    expect(chosen(offers, { text: " BIG a1", order: "price" }).map(({ model }) => model)).toEqual(["A100"]);
  });

  it("says what is free in words, and offers to move only to what is", async () => {
    const onMove = jest.fn();
    const filter = { text: "", order: "price" } as const;
    render(<OfferList offers={offers} filter={filter} onFilter={nothing} onBook={nothing} onMove={onMove} />);
    const taken = within(screen.getByRole("listitem", { name: "T4" }));
    expect(taken.getByText(/^Free Tue/)).toBeTruthy();
    expect(taken.queryByRole("button", { name: "Move here" })).toBeNull();
    const free = within(screen.getByRole("listitem", { name: "V100" }));
    expect(free.getByText("simulated")).toBeTruthy();
    await userEvent.click(free.getByRole("button", { name: "Move here" }));
    expect(onMove).toHaveBeenCalledWith(offers[2]);
  });

  it("says that nothing fits, with the way back", async () => {
    const onFilter = jest.fn();
    const filter = { text: "H100", order: "price" } as const;
    render(<OfferList offers={offers} filter={filter} onFilter={onFilter} onBook={nothing} />);
    expect(screen.getByText(/“H100”/)).toBeTruthy();
    await userEvent.click(screen.getByRole("button", { name: "Show all" }));
    expect(onFilter).toHaveBeenCalledWith({ text: "" });
  });
});

describe("OfferList with a place that is not well", () => {
  it("says why nothing can be started there, and still takes bookings", () => {
    const reason = "The Docker engine of gpu-server does not answer.";
    render(
      <OfferList
        offers={[offer({ free_now: 0, unwell: reason })]}
        filter={{ text: "", order: "price" }}
        onFilter={nothing}
        onBook={nothing}
        onMove={nothing}
      />,
    );
    expect(screen.getByText("Not available now")).toBeTruthy();
    expect(screen.getByText(reason)).toBeTruthy();
    expect(screen.queryByRole("button", { name: "Move here" })).toBeNull();
    expect(screen.getByRole("button", { name: "Book…" })).toBeTruthy();
  });
});

describe("LeaseCard", () => {
  const acts = {
    ...{ onOpenNotebook: nothing, onExtend: nothing, onShorten: nothing, onEnd: nothing },
    ...{ onLog: nothing, onTerminal: nothing },
  };

  it("tells time, cost and rate of all its devices", () => {
    render(<LeaseCard lease={lease({ count: 2 })} cost={1_250_000} secondsLeft={3_725} isSoon={false} {...acts} />);
    expect(screen.getByRole("timer", { name: "1 h 2 min left" }).textContent).toBe("1:02:05");
    expect(screen.getByText("1.25 credits")).toBeTruthy();
    expect(screen.getByText("8.00 credits an hour")).toBeTruthy();
    expect(screen.getByText("Running")).toBeTruthy();
  });

  it("names a place that is not this machine, and shows its log when asked", async () => {
    const onLog = jest.fn();
    const there = lease({ place: { name: "gpu-server", details: { image_digest: "sha256:1" } } });
    render(<LeaseCard lease={there} cost={0} secondsLeft={30} isSoon={false} {...acts} onLog={onLog} />);
    expect(screen.getByText("gpu-server").parentElement?.title).toBe("image_digest: sha256:1");
    await userEvent.click(screen.getByRole("button", { name: "Kernel's log" }));
    expect(onLog).toHaveBeenCalledWith(there);
  });

  it("opens a terminal where its place lets it, and nowhere else", async () => {
    const onTerminal = jest.fn();
    const there = lease({ terminal: true });
    const props = { cost: 0, secondsLeft: 30, isSoon: false, ...acts, onTerminal };
    const { rerender } = render(<LeaseCard lease={there} {...props} />);
    await userEvent.click(screen.getByRole("button", { name: "Terminal" }));
    expect(onTerminal).toHaveBeenCalledWith(there);
    rerender(<LeaseCard lease={lease({ terminal: false })} {...props} />);
    expect(screen.queryByRole("button", { name: "Terminal" })).toBeNull();
  });

  it("shows how its start goes on", async () => {
    const onLog = jest.fn();
    const starts = lease({ state: "provisioning", started_at: null });
    render(<LeaseCard lease={starts} cost={0} secondsLeft={30} isSoon={false} {...acts} onLog={onLog} />);
    await userEvent.click(screen.getByRole("button", { name: "Log of the start" }));
    expect(onLog).toHaveBeenCalledWith(starts);
  });

  it("opens its notebook, and has no buttons for what can't be done while it closes", async () => {
    const onOpenNotebook = jest.fn();
    const closing = lease({ state: "closing" });
    render(<LeaseCard lease={closing} cost={0} secondsLeft={30} isSoon {...acts} onOpenNotebook={onOpenNotebook} />);
    await userEvent.click(screen.getByRole("button", { name: "train.ipynb" }));
    expect(onOpenNotebook).toHaveBeenCalledWith("train.ipynb");
    expect(screen.getAllByRole("button")).toHaveLength(1);
    expect(screen.getByText(/^Ends soon, at/)).toBeTruthy();
  });
});

describe("the length of a lease", () => {
  it("is priced for all devices", () => {
    expect(priceOf(lease({ count: 2 }), 1_800)).toBe(4_000_000);
  });

  it("is shortened by less than what is left", () => {
    const now = Date.parse("2026-03-02T10:20:00Z");
    expect(lengthsOf(lease(), "shorten", now)).toEqual([15, 30]);
    expect(lengthsOf(lease(), "extend", now)).toEqual([15, 30, 60, 120]);
  });

  it.each([
    [{ choice: "30", typed: "x" }, 1_800],
    [{ choice: "other", typed: " 1,5 " }, 90],
    [{ choice: "other", typed: "" }, null],
    [{ choice: "other", typed: "soon" }, null],
    [{ choice: "other", typed: "-5" }, null],
  ])("reads %j as %p seconds", (wished, seconds) => {
    expect(secondsOf(wished)).toBe(seconds);
  });
});

describe("BookingList", () => {
  const acts = { onBook: nothing, onCalendar: nothing, onChange: nothing, onShow: nothing };

  it("cancels once for a double click, and says why it could not", async () => {
    let refuse: (reason: Error) => void = nothing;
    const onCancel = jest.fn(() => new Promise((_, reject) => (refuse = reject)));
    render(<BookingList bookings={[booking()]} now={0} onCancel={onCancel} {...acts} />);
    const button = screen.getByRole("button", { name: "Cancel" });
    await userEvent.dblClick(button);
    expect(onCancel).toHaveBeenCalledTimes(1);
    expect(button.getAttribute("aria-busy")).toBe("true");
    await act(async () => refuse(new ApiError("conflict", "It is over already.", 409)));
    expect(screen.getByRole("alert").textContent).toContain("It is over already.");
    expect(button.getAttribute("aria-busy")).toBeNull();
  });

  it("marks what has begun, and offers the notebook's move there", async () => {
    const onMove = jest.fn();
    const now = Date.parse("2026-03-03T13:30:00Z");
    render(<BookingList bookings={[booking()]} now={now} onCancel={async () => nothing} onMove={onMove} {...acts} />);
    expect(screen.getByText("Yours now")).toBeTruthy();
    await userEvent.click(screen.getByRole("button", { name: "Move here" }));
    expect(onMove).toHaveBeenCalledWith(booking());
  });

  it("leads on where nothing is booked", async () => {
    const onBook = jest.fn();
    render(<BookingList bookings={[]} now={0} onCancel={async () => nothing} {...acts} onBook={onBook} />);
    await userEvent.click(screen.getByRole("button", { name: "Book a GPU…" }));
    expect(onBook).toHaveBeenCalled();
  });
});

describe("ApprovalList", () => {
  it("names the notebook and the amount, and decides once", async () => {
    const onApprove = jest.fn(async () => nothing);
    render(<ApprovalList approvals={[approval()]} onApprove={onApprove} onDecline={async () => nothing} />);
    expect(screen.getByText("train.ipynb asks to spend 8.00 credits")).toBeTruthy();
    expect(screen.getByText("1 × A100 for 2 hours")).toBeTruthy();
    await userEvent.click(screen.getByRole("button", { name: "Approve" }));
    expect(onApprove).toHaveBeenCalledWith(approval());
  });
});

describe("AllowanceView", () => {
  it("says what is left, and that 0 asks always", () => {
    const { rerender } = render(<AllowanceView person={person()} onChange={nothing} />);
    expect(screen.getByText(/5\.00 credits a day.*3\.00 credits/)).toBeTruthy();
    const none = person({ allowance: { per_day_microcredits: 0, left_microcredits: 0 } });
    rerender(<AllowanceView person={none} onChange={nothing} />);
    expect(screen.getByText(/ask you here before they spend/)).toBeTruthy();
  });

  it.each([
    ["2.5", 2_500_000],
    ["2,5", 2_500_000],
    ["0", 0],
    ["", null],
    ["-1", null],
    ["many", null],
  ])("reads %p as %p microcredits", (typed, microcredits) => {
    expect(microcreditsOf(typed)).toBe(microcredits);
  });
});

describe("AllowanceForm", () => {
  it("says what was understood before it is saved", () => {
    const { rerender } = render(<AllowanceForm value="1,000" onChange={nothing} error={null} />);
    expect(screen.getByRole("status").textContent).toBe("That is 1.00 credits a day.");
    rerender(<AllowanceForm value="many" onChange={nothing} error={null} />);
    expect(screen.getByRole("status").textContent).toBe("Write an amount, such as 2.50.");
    expect(screen.getByRole("textbox").getAttribute("aria-invalid")).toBe("true");
  });
});

describe("HistoryList", () => {
  const page = { first: 1, hasNewer: false, hasOlder: false, isFetching: false, onNewer: nothing, onOlder: nothing };

  it("tells each line's cause in words", () => {
    const grant = line({ id: "ent_2", kind: "grant", amount_microcredits: 10_000_000, lease: null, memo: "Welcome" });
    const running = line({ id: "ent_3" });
    running.lease = { ...running.lease!, ended_at: null, end_reason: null, end_message: null };
    render(<HistoryList {...page} lines={[line(), grant, running]} />);
    const [run, received, going] = screen.getAllByRole("listitem");
    expect(run?.textContent).toContain("− 1.25");
    expect(run?.textContent).toContain("1 h 15 min");
    expect(run?.textContent).toContain("Given back because no cell ran for a while.");
    expect(received?.textContent).toContain("10.00 credits received");
    expect(received?.textContent).toContain("Welcome");
    expect(going?.textContent).toContain("Running now.");
  });

  it("is turned page by page", async () => {
    const onOlder = jest.fn();
    const onNewer = jest.fn();
    render(<HistoryList {...page} lines={[line()]} first={26} hasOlder onOlder={onOlder} onNewer={onNewer} />);
    expect(screen.getByText("Lines 26 to 26")).toBeTruthy();
    await userEvent.click(screen.getByRole("button", { name: "Older" }));
    await userEvent.click(screen.getByRole("button", { name: "Newer" }));
    expect(onOlder).toHaveBeenCalledTimes(1);
    expect(onNewer).not.toHaveBeenCalled();
  });
});
