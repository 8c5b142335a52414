import type { Event } from "@jupyterlab/services";
import { Signal } from "@lumino/signaling";

import type { Lease } from "../api/types";
import { ComputeHub } from "../models/hub";
import { Notices } from "../models/notices";
import { FakeServer, lease, moveOf, person, place, refusal } from "./server";

const stream = new Signal<object, Event.Emission>({});
const seconds = (count: number) => new Date(Date.now() + count * 1000).toISOString();

/** A lease that has run for an hour and ends in some seconds. */
function ending(inSeconds: number, over: Partial<Lease> = {}): Lease {
  return lease({ started_at: seconds(-3600), ends_at: seconds(inSeconds), server_now: seconds(0), ...over });
}

function board(server: FakeServer): { hub: ComputeHub; notices: Notices; until: (ids: RegExp[]) => Promise<void> } {
  const hub = new ComputeHub({ events: { stream } as unknown as Event.IManager, serverSettings: server.settings });
  const notices = new Notices(hub);
  const holds = (ids: RegExp[]) => {
    const current = [...notices.current.keys()];
    return current.length === ids.length && ids.every((id) => current.some((each) => id.test(each)));
  };
  const until = async (ids: RegExp[]) => {
    while (!holds(ids)) {
      await new Promise<void>((resolve) => {
        const tell = () => {
          notices.changed.disconnect(tell);
          resolve();
        };
        notices.changed.connect(tell);
      });
    }
  };
  return { hub, notices, until };
}

describe("Notices", () => {
  let leases: Lease[];
  let server: FakeServer;

  beforeEach(() => {
    leases = [ending(500)];
    server = new FakeServer()
      .on("GET leases", () => ({ body: { items: leases, next: null } }))
      .on("GET approvals", () => ({ body: { items: [], next: null } }))
      .on("GET me", () => ({ body: person() }))
      .on("GET kernels/kernel-1", () => ({ body: place({ lease: leases[0] ?? null }) }));
  });

  it("warns before the end, and no more once it was extended", async () => {
    const { hub, notices, until } = board(server);
    await until([/^ending:lease_1:.*:600$/]);
    leases = [ending(7200)];
    stream.emit({ schema_id: "urn:computehub:event:lease:v1", action: "changed", lease_id: "lease_1" });
    await until([]);
    notices.dispose();
    hub.dispose();
  });

  it("waits for an end that is further off than a browser's timers reach", async () => {
    leases = [ending(40 * 86_400)];
    const { hub, notices } = board(server);
    await hub.leases.refresh();
    const waits = jest.spyOn(window, "setTimeout");
    await hub.leases.refresh();
    const longest = Math.max(...waits.mock.calls.map(([, wait]) => wait ?? 0));
    expect(longest).toBeLessThan(2 ** 31);
    waits.mockRestore();
    notices.dispose();
    hub.dispose();
  });

  it("offers as much more time as the balance lasts for", async () => {
    server.on("GET me", () => {
      const me = person();
      return { body: { ...me, balance: { ...me.balance, available_microcredits: 1_000_000 } } };
    });
    const { hub, notices, until } = board(server);
    await hub.me.refresh();
    await until([/^ending/]);
    expect([...notices.current.values()][0]).toMatchObject({ extraSeconds: 900, isUrgent: false });
    notices.dispose();
    hub.dispose();
  });

  it("does not warn of the end of one that is shorter than the warning", async () => {
    leases = [ending(300, { started_at: seconds(-10) })];
    const { hub, notices } = board(server);
    await hub.leases.refresh();
    expect(notices.current.size).toBe(0);
    notices.dispose();
    hub.dispose();
  });

  it("warns of an idle GPU by its place, and asks for approvals", async () => {
    leases = [ending(7200)];
    const idle = { since_at: seconds(-1100), gives_back_at: seconds(100) };
    const approval = { id: "apr_1", state: "pending", purpose: "1 × A100", amount_microcredits: 8_000_000 };
    server
      .on("GET kernels/kernel-1", () => ({ body: place({ lease: leases[0] ?? null, idle }) }))
      .on("GET approvals", () => ({ body: { items: [approval], next: null } }));
    const { hub, notices, until } = board(server);
    await until([/^idle:lease_1/, /^approval:apr_1$/]);
    notices.dispose();
    hub.dispose();
  });

  it("tells why a GPU was taken, but not what its person did", async () => {
    const { hub, notices, until } = board(server);
    await until([/^ending/]);
    const closed = lease({ state: "closed", end_reason: "idle", end_message: "No cell ran for a while." });
    server.on("GET leases/lease_1", () => ({ body: closed }));
    leases = [ending(7200, { id: "lease_2" })];
    await hub.leases.refresh();
    await until([/^ended:lease_1$/]);
    server.on("GET leases/lease_2", () => ({ body: { ...closed, id: "lease_2", end_reason: "returned" } }));
    leases = [];
    await hub.leases.refresh();
    await until([/^ended:lease_1$/]);
    notices.dispose();
    hub.dispose();
  });

  it("tells of a move that failed at a notebook that is open, and of nobody else's", async () => {
    leases = [ending(7200)];
    const failed = moveOf({ state: "failed", error: { code: "x", message: "It ended.", details: {} } });
    server.on("GET switches/switch_1", () => ({ body: failed }));
    server.on("GET switches/switch_2", () => refusal(404, "not_found", "There is no switch of yours."));
    const { hub, notices, until } = board(server);
    await hub.leases.refresh();
    const event = { schema_id: "urn:computehub:event:switch:v1", action: "failed", kernel_id: "kernel-1" };
    stream.emit({ ...event, switch_id: "switch_2" });
    stream.emit({ ...event, switch_id: "switch_1" });
    await until([/^failed:switch_1$/]);
    notices.dispose();
    hub.dispose();
  });
});
