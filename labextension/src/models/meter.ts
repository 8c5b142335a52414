import type { Lease } from "../api/types";

const SECONDS_PER_HOUR = 3600;

/** What all devices of a lease cost in an hour. */
export function ratePerHour({ rate_microcredits_per_hour: rate, count }: Lease): number {
  return rate * count;
}

/** What a lease has cost by `now`, counted on from the server's last word; never more than was held for it. */
export function costNow(lease: Lease, now: number): number {
  if (!lease.started_at || lease.ended_at) {
    return lease.cost_microcredits;
  }
  const since = Math.max(0, Math.min(now, Date.parse(lease.ends_at)) - Date.parse(lease.server_now)) / 1000;
  const cost = lease.cost_microcredits + (ratePerHour(lease) * since) / SECONDS_PER_HOUR;
  return Math.min(cost, Math.max(lease.held_microcredits, lease.cost_microcredits));
}

/** Seconds until the time that is paid for ends. */
export function secondsLeft(lease: Lease, now: number): number {
  return Math.max(0, (Date.parse(lease.ends_at) - now) / 1000);
}

/** How near the end is, in the steps at which people are told. */
export type Urgency = "calm" | "soon" | "urgent";

export const SOON_SECONDS = 600;
export const URGENT_SECONDS = 120;

export function urgencyOf(lease: Lease, now: number): Urgency {
  const left = secondsLeft(lease, now);
  return left <= URGENT_SECONDS ? "urgent" : left <= SOON_SECONDS ? "soon" : "calm";
}
