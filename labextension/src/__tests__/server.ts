/** A control plane for tests: answers by route, in memory, and remembers what it was asked. */
import { ServerConnection } from "@jupyterlab/services";

import type { KernelPlace, Lease, Offer, Person, Switch } from "../api/types";

export interface Asked {
  method: string;
  /** Below `api/computehub/v1/`. */
  path: string;
  query: Record<string, string>;
  body: unknown;
  key: string | null;
  contentType: string | null;
}

export type Answer = { status?: number; body?: unknown; headers?: Record<string, string> };
type Answerer = (asked: Asked) => Answer | Promise<Answer>;

/** `server.on("GET me", () => ({ body: person() }))`; an address that nobody set is a 404 without a code, as Jupyter's. */
export class FakeServer {
  readonly asked: Asked[] = [];

  readonly settings = ServerConnection.makeSettings({
    baseUrl: "http://127.0.0.1:8888/",
    appUrl: "http://127.0.0.1:8888/lab",
    wsUrl: "ws://127.0.0.1:8888/",
    token: "",
    fetch: (input, init) => this.answer(input as Request | string, init),
  });

  on(route: string, answer: Answerer): this {
    this.routes.set(route, answer);
    return this;
  }

  /** How often a route was asked. */
  count(route: string): number {
    return this.asked.filter(({ method, path }) => `${method} ${path}` === route).length;
  }

  private async answer(input: Request | string, init?: RequestInit): Promise<Response> {
    const request = new Request(input, init);
    const url = new URL(request.url);
    const text = await request.text();
    const asked: Asked = {
      method: request.method,
      path: url.pathname.replace("/api/computehub/v1/", ""),
      query: Object.fromEntries(url.searchParams),
      body: text ? JSON.parse(text) : undefined,
      key: request.headers.get("Idempotency-Key"),
      contentType: request.headers.get("Content-Type"),
    };
    this.asked.push(asked);
    const answerer = this.routes.get(`${asked.method} ${asked.path}`);
    const {
      status = 200,
      body,
      headers = {},
    } = answerer ? await answerer(asked) : { status: 404, body: { message: "Not Found", reason: null } };
    const sent = body === undefined ? null : JSON.stringify(body);
    return new Response(sent, { status, headers: { "Content-Type": "application/json", ...headers } });
  }

  private routes = new Map<string, Answerer>();
}

/** The body of a refusal. */
export function refusal(status: number, code: string, message: string, details: object = {}): Answer {
  return { status, body: { message, code, details } };
}

export function person(over: Partial<Person> = {}): Person {
  return {
    username: "alice",
    display_name: "Alice",
    identity: "person",
    balance: {
      posted_microcredits: 10_000_000,
      held_microcredits: 2_000_000,
      available_microcredits: 8_000_000,
      by_origin: { granted: 10_000_000, purchased: 0, earned: 0 },
    },
    allowance: { per_day_microcredits: 5_000_000, left_microcredits: 3_000_000 },
    defaults: {
      idle_timeout_seconds: null,
      duration_seconds: null,
      max_rate_microcredits_per_hour: null,
      changed_at: null,
    },
    control_plane: "embedded",
    ...over,
  } as Person;
}

export function offer(over: Partial<Offer> = {}): Offer {
  return {
    pool_id: "pool_t4",
    pool: "simulated-t4",
    model: "T4",
    count: 2,
    simulated: true,
    memory_mib: 15_360,
    kernel_limits: { memory_mib: null, cpus: null },
    rate_microcredits_per_hour: 1_000_000,
    free_now: 2,
    unwell: null,
    earliest_at: "2026-03-02T09:00:00Z",
    billed_as: "credits",
    ...over,
  };
}

export function lease(over: Partial<Lease> = {}): Lease {
  return {
    id: "lease_1",
    booking_id: "bkg_1",
    state: "running",
    end_reason: null,
    end_message: null,
    model: "A100",
    pool: "simulated-a100",
    simulated: true,
    count: 1,
    kernel_id: "kernel-1",
    notebook_path: "train.ipynb",
    rate_microcredits_per_hour: 4_000_000,
    cost_microcredits: 500_000,
    held_microcredits: 8_000_000,
    created_at: "2026-03-02T08:59:58Z",
    started_at: "2026-03-02T09:00:00Z",
    ended_at: null,
    ends_at: "2026-03-02T11:00:00Z",
    closing_at: "2026-03-02T10:59:00Z",
    paid_until: "2026-03-02T09:17:30Z",
    idle_timeout_seconds: 1200,
    billed_as: "credits",
    server_now: "2026-03-02T09:07:30Z",
    roomier: null,
    terminal: false,
    placement_id: "plc_1",
    place: { name: "local", details: {} },
    devices: [{ index: 0, uuid: "SIM-A100-0", name: "simulated A100" }],
    ...over,
  };
}

export function place(over: Partial<KernelPlace> = {}): KernelPlace {
  return {
    kernel_id: "kernel-1",
    place: "gpu",
    notebook_path: "train.ipynb",
    lease: lease(),
    last_lease: null,
    switch: null,
    payer: { username: "alice", display_name: "Alice" },
    moved_by: { username: "alice", display_name: "Alice" },
    is_mine: true,
    may: { move: true, extend: true, shorten: true, end: true, why: null },
    idle: { since_at: null, gives_back_at: null },
    waiting_cells: 0,
    busy: false,
    ...over,
  };
}

/** A move under way. */
export function moveOf(over: Partial<Switch> = {}): Switch {
  return {
    id: "switch_1",
    kernel_id: "kernel-1",
    notebook_path: "train.ipynb",
    target: "gpu",
    state: "starting",
    step_message: "Starting the kernel",
    progress: 0.375,
    error: null,
    lease_id: "lease_1",
    preview: null,
    result: null,
    requested_by: "alice",
    created_at: "2026-03-02T09:00:00Z",
    updated_at: "2026-03-02T09:00:01Z",
    ...over,
  };
}
