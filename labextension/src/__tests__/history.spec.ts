import { Signal } from "@lumino/signaling";

import type { HistoryLine } from "../api/types";
import { History } from "../models/history";
import { ComputeHub } from "../models/hub";
import type { Asked } from "./server";
import { FakeServer, person, refusal } from "./server";

const PAGE = 25;

/** An account with as many lines, served by page as the server does. */
function account(lines: number, server = new FakeServer()): FakeServer {
  return server.on("GET history", ({ query }: Asked) => {
    const start = Number(query.cursor ?? 0);
    const limit = Number(query.limit);
    const items = Array.from({ length: Math.max(0, Math.min(limit, lines - start)) }, (_, at) => ({
      id: `${query.group}-${start + at + 1}`,
    }));
    return { body: { items, next: start + limit < lines ? String(start + limit) : null } };
  });
}

function hubOf(server: FakeServer): ComputeHub {
  const stream = new Signal<unknown, unknown>({});
  return new ComputeHub({ events: { stream } as never, serverSettings: server.settings });
}

const ids = (history: History) => (history.state.value ?? []).map(({ id }: HistoryLine) => id);

async function settled(history: History): Promise<void> {
  while (history.state.isFetching || history.state.value === undefined) {
    await new Promise((resolve) => history.changed.connect(resolve));
  }
}

describe("History", () => {
  it("goes through five thousand lines a page at a time", async () => {
    const server = account(5_000);
    const history = new History(hubOf(server));
    history.watch(true);
    await settled(history);
    await history.older();
    await history.older();
    expect(ids(history)).toHaveLength(PAGE);
    expect(history.state).toMatchObject({ first: 51, hasNewer: true, hasOlder: true });
    await history.newer();
    expect(ids(history)[0]).toBe("lease-26");
    for (let page = 0; page < 300; page += 1) {
      await history.older();
    }
    expect(history.state).toMatchObject({ first: 4_976, hasOlder: false });
    expect(server.count("GET history")).toBe(3 + 1 + 198);
    history.dispose();
  });

  it("asks for nothing before somebody looks", async () => {
    const server = account(3);
    const history = new History(hubOf(server));
    history.group("none");
    expect(server.count("GET history")).toBe(0);
    history.watch(true);
    await settled(history);
    history.watch(false);
    history.watch(true);
    expect(server.count("GET history")).toBe(1);
    expect(ids(history)).toEqual(["none-1", "none-2", "none-3"]);
    history.dispose();
  });

  it("shows the grouping that was chosen last, whichever answer comes first", async () => {
    const waiting: (() => void)[] = [];
    const server = new FakeServer().on("GET history", async ({ query }) => {
      await new Promise<void>((resolve) => waiting.push(resolve));
      return { body: { items: [{ id: query.group }], next: null } };
    });
    const history = new History(hubOf(server));
    history.watch(true);
    history.group("none");
    while (waiting.length < 2) {
      await new Promise((resolve) => setTimeout(resolve));
    }
    waiting[1]!();
    await settled(history);
    waiting[0]!();
    await new Promise((resolve) => setTimeout(resolve));
    expect(ids(history)).toEqual(["none"]);
    history.dispose();
  });

  it("keeps the page beside a failure, and tries the wanted one again", async () => {
    const server = account(60);
    const history = new History(hubOf(server));
    history.watch(true);
    await settled(history);
    server.on("GET history", () => refusal(503, "unavailable", "The server restarts."));
    await history.older();
    expect(history.state).toMatchObject({ first: 1, isFetching: false, error: { status: 503 } });
    expect(ids(history)).toHaveLength(PAGE);
    account(60, server);
    await history.retry();
    expect(history.state).toMatchObject({ first: 26, error: null });
    history.dispose();
  });

  it("follows the balance on its first page alone", async () => {
    const server = account(60).on("GET me", () => ({ body: person() }));
    const hub = hubOf(server);
    const history = new History(hub);
    const spend = (posted: number) => {
      const { balance, ...rest } = person();
      hub.me.set(person({ ...rest, balance: { ...balance, posted_microcredits: posted } }));
    };
    spend(10);
    history.watch(true);
    await settled(history);
    spend(9);
    await settled(history);
    expect(server.count("GET history")).toBe(2);
    await history.older();
    spend(8);
    expect(server.count("GET history")).toBe(3);
    await history.newer();
    expect(server.count("GET history")).toBe(4);
    hub.dispose();
    history.dispose();
  });
});
