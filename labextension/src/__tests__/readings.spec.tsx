import { act, cleanup, fireEvent, render, screen, within } from "@testing-library/react";

import { Charts } from "../components/charts";
import type { LeaseReadings, Reading } from "../models/readings";
import { extremesOf, linesOf, merged, readingsOf } from "../models/readings";
import { ComputeHubClient } from "../api/client";
import { ChartsFold } from "../widgets/chartsFold";
import { ComputeHub } from "../models/hub";
import { FakeServer, lease } from "./server";

// jsdom has no canvas. What is drawn is handed over here.
const drawn: unknown[] = [];
jest.mock("uplot", () => ({
  __esModule: true,
  default: class {
    setData(data: unknown) {
      drawn.push(data);
    }
    setSize() {}
    redraw() {}
    destroy() {}
  },
}));
beforeAll(() => {
  window.ResizeObserver = class {
    observe() {}
    unobserve() {}
    disconnect() {}
  };
});
afterEach(cleanup);

const START = Date.parse("2026-03-02T09:00:00Z");
const at = (seconds: number) => new Date(START + seconds * 1000).toISOString();

function reading(seconds: number, utilisation: number | null = 50, over: Partial<Reading> = {}): Reading {
  return {
    at: at(seconds),
    utilisation_percent: utilisation,
    memory_used_mib: 2048,
    temperature_celsius: 60,
    power_watts: 200,
    ...over,
  };
}

function readings(devices: Reading[][], over: Partial<LeaseReadings> = {}): LeaseReadings {
  return {
    lease_id: "lease_1",
    simulated: true,
    interval_seconds: 5,
    server_now: at(600),
    devices: devices.map((each, index) => ({
      index,
      uuid: `SIM-${index}`,
      name: "simulated A100",
      memory_total_mib: 81_920,
      readings: each,
    })),
    ...over,
  };
}

describe("the readings of the last hour", () => {
  it("are joined without doubles, and forget what is older than an hour", () => {
    const old = readings([[reading(0), reading(5)]], { server_now: at(10) });
    const more = readings([[reading(5), reading(3603)]], { server_now: at(3604) });
    expect(merged(old, more).devices[0]?.readings.map((each) => each.at)).toEqual([at(5), at(3603)]);
  });

  it("become lines that break where readings are missing, and not where devices were read one after another", () => {
    const both = readings([
      [reading(0, 10), reading(5, 20), reading(100, 30)],
      [reading(1, 1), reading(6, 2)],
    ]);
    const { at: moments, values } = linesOf(both, "utilisation_percent");
    expect(moments.map((moment) => moment - START / 1000)).toEqual([0, 1, 5, 6, 10, 100]);
    expect(values[0]).toEqual([10, undefined, 20, undefined, null, 30]);
    expect(values[1]).toEqual([undefined, 1, undefined, 2, undefined, undefined]);
  });

  it("know now, least and most, and what a device can't say", () => {
    const [device] = readings([[reading(0, 90), reading(5, 10), reading(10, null)]]).devices;
    expect(device && extremesOf(device, "utilisation_percent")).toEqual({ now: 10, least: 10, most: 90 });
    const [silent] = readings([[reading(0, null)]]).devices;
    expect(silent && extremesOf(silent, "utilisation_percent")).toBeNull();
  });

  it("are asked for whole once and by what is new afterwards", async () => {
    const server = new FakeServer();
    const answers = [readings([[reading(0)]]), readings([[reading(5)]])];
    server.on("GET leases/lease_1/readings", () => ({ body: answers.shift() }));
    const resource = readingsOf(new ComputeHubClient(server.settings), "lease_1");
    await resource.refresh();
    await resource.refresh();
    expect(server.asked.map(({ query }) => query.since)).toEqual([undefined, at(0)]);
    expect(resource.value?.devices[0]?.readings).toHaveLength(2);
    resource.dispose();
  });
});

describe("Charts", () => {
  it("tell in words what they draw, for one device", () => {
    render(<Charts readings={readings([[reading(0, 20), reading(5, 80)]])} now={START + 10_000} />);
    expect(screen.getByRole("img", { name: /Utilisation in the last hour: now 80 %, at least 20 %/ })).toBeTruthy();
    expect(screen.getByText(/simulated, and their readings are made up/)).toBeTruthy();
    expect(screen.queryByRole("list", { name: "Lines" })).toBeNull();
    fireEvent.click(screen.getByText("In numbers"));
    const row = screen.getByRole("row", { name: /Memory/ });
    expect(
      within(row)
        .getAllByRole("cell")
        .map(({ textContent }) => textContent),
    ).toEqual(["2 GiB", "2 GiB", "2 GiB"]);
    expect(drawn.length).toBeGreaterThan(0);
  });

  it("tell several devices apart by the dashes of their lines, and leave out what none can say", () => {
    const silent = { power_watts: null };
    const two = readings([[reading(0, 20, silent)], [reading(0, 80, silent)]]);
    const { container } = render(<Charts readings={two} now={START} />);
    expect(screen.getByRole("list", { name: "Lines" }).children).toHaveLength(2);
    const dashes = [...container.querySelectorAll("line")].map((line) => line.getAttribute("stroke-dasharray"));
    expect(new Set(dashes).size).toBe(2);
    expect(screen.getByText("20 % to 80 %")).toBeTruthy();
    expect(screen.queryByRole("img", { name: /Power/ })).toBeNull();
  });

  it("say so while there are none", () => {
    render(<Charts readings={readings([[]])} now={START} />);
    expect(screen.getByText(/first readings come within/)).toBeTruthy();
  });
});

describe("the place of the charts", () => {
  it("fetches nothing before it is unfolded, and says why where it can't", async () => {
    const server = new FakeServer();
    server.on("GET leases/lease_1/readings", () => ({
      status: 403,
      body: { message: "These are somebody else's.", code: "forbidden", details: {} },
    }));
    const events = { stream: { connect: () => true, disconnect: () => true } };
    const hub = new ComputeHub({ events, serverSettings: server.settings } as never);
    const fold = (isOpen: boolean) => (
      <ChartsFold hub={hub} lease={lease()} isOpen={isOpen} onToggle={() => undefined} />
    );
    const { rerender } = render(fold(false));
    expect(server.asked).toHaveLength(0);
    await act(async () => rerender(fold(true)));
    expect((await screen.findByRole("alert")).textContent).toContain("somebody else's");
    cleanup();
    hub.dispose();
  });
});
