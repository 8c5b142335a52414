/** Bookings, prices and free time as the server tells them. */
import type { Event } from "@jupyterlab/services";
import { Signal } from "@lumino/signaling";

import type { Availability, Booking, Person, Quote } from "../api/types";
import { ComputeHub } from "../models/hub";
import type { FakeServer } from "./server";
import { offer, person } from "./server";

export const LIMITS: Person["limits"] = {
  default_duration_seconds: 7200,
  min_duration_seconds: 300,
  max_duration_seconds: 86_400,
  max_ahead_seconds: 5_184_000,
  max_count: 8,
  idle_timeout_seconds: 1200,
  idle_timeout_max_seconds: 7200,
  closing_reserve_seconds: 60,
};

export function booking(over: Partial<Booking> = {}): Booking {
  return {
    id: "bkg_1",
    model: "T4",
    simulated: true,
    pool_id: "pool_t4",
    count: 1,
    starts_at: "2026-03-03T13:00:00Z",
    ends_at: "2026-03-03T15:00:00Z",
    state: "confirmed",
    rate_microcredits_per_hour: 1_000_000,
    amount_microcredits: 2_000_000,
    notebook_path: "train.ipynb",
    created_at: "2026-03-02T09:00:00Z",
    series_id: null,
    ...over,
  };
}

export function quote(over: Partial<Quote> = {}): Quote {
  return {
    model: "T4",
    pool_id: "pool_t4",
    pool: "simulated-t4",
    simulated: true,
    count: 1,
    starts_at: "2026-03-03T13:00:00Z",
    ends_at: "2026-03-03T15:00:00Z",
    rate_microcredits_per_hour: 1_000_000,
    amount_microcredits: 2_000_000,
    available: true,
    earliest: [],
    alternatives: [],
    change_microcredits: null,
    occurrences: null,
    ...over,
  };
}

/** Free devices per quarter of an hour from a time on. */
export function availability(start: string, free: readonly number[], over: Partial<Availability> = {}): Availability {
  const items = free.map((each, step) => ({
    starts_at: new Date(Date.parse(start) + step * 900_000).toISOString(),
    free: each,
  }));
  return { pool_id: "pool_t4", count: 2, step_seconds: 900, items, ...over };
}

/** A server with two pools, nothing booked, at the given time. */
export function stocked(server: FakeServer): FakeServer {
  return server
    .on("GET me", () => ({ body: person({ limits: LIMITS }) }))
    .on("GET offers", () => ({
      body: {
        items: [
          offer(),
          offer({ pool_id: "pool_a100", pool: "a100", model: "A100", rate_microcredits_per_hour: 4_000_000 }),
        ],
        next: null,
      },
    }))
    .on("GET bookings", () => ({ body: { items: [], next: null } }))
    .on("POST quotes", () => ({ body: quote() }));
}

/** A hub on a server, whose clock stands at a time, and what makes its events. */
export function hubAt(server: FakeServer, now: string): { hub: ComputeHub; emit: (payload: object) => void } {
  const stream = new Signal<object, Event.Emission>({});
  const hub = new ComputeHub({
    events: { stream } as unknown as Event.IManager,
    serverSettings: server.settings,
  });
  jest.spyOn(hub.clock, "now").mockReturnValue(Date.parse(now));
  return { hub, emit: (payload) => stream.emit(payload as Event.Emission) };
}
