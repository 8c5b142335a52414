import type { ComputeHubClient } from "../api/client";
import type { AnswerOf } from "../api/types";
import { Resource } from "./resource";

export type LeaseReadings = AnswerOf<"listReadings">;
export type ReadDevice = LeaseReadings["devices"][number];
export type Reading = ReadDevice["readings"][number];
export type Measure = Exclude<keyof Reading, "at">;

const HOUR_MS = 3_600_000;
const LOOK_AGAIN_MS = 5000;
/** So many readings may be late before the line is broken rather than drawn over the hole. */
const GAP_INTERVALS = 4;

/** A lease's readings as lines: one row of moments in seconds, and one row of values for each device. */
export interface Lines {
  at: number[];
  /** `null` breaks a line; `undefined` is a moment of another device's. */
  values: (number | null | undefined)[][];
}

/** What a lease's devices said in the last hour. Each look asks only for what is new. */
export function readingsOf(client: ComputeHubClient, leaseId: string): Resource<LeaseReadings> {
  let known: LeaseReadings | undefined;
  const look = async () => {
    known = merged(known, await client.listReadings(leaseId, newestOf(known)));
    return known;
  };
  return new Resource(look, { name: `readings-${leaseId}`, intervalMs: LOOK_AGAIN_MS });
}

/** Old readings and new ones, without what is more than an hour old. */
export function merged(old: LeaseReadings | undefined, more: LeaseReadings): LeaseReadings {
  const since = Date.parse(more.server_now) - HOUR_MS;
  const devices = more.devices.map((device) => {
    const before = old?.devices.find(({ uuid }) => uuid === device.uuid)?.readings ?? [];
    const seen = new Set(before.map(({ at }) => at));
    const readings = [...before, ...device.readings.filter(({ at }) => !seen.has(at))];
    return { ...device, readings: readings.filter(({ at }) => Date.parse(at) >= since) };
  });
  return { ...more, devices };
}

/** One measure of all devices, ready to be drawn. */
export function linesOf({ devices, interval_seconds }: LeaseReadings, measure: Measure): Lines {
  const rows = new Map<number, (number | null | undefined)[]>();
  const rowAt = (at: number) => {
    const row = rows.get(at) ?? new Array<undefined>(devices.length).fill(undefined);
    rows.set(at, row);
    return row;
  };
  const hole = interval_seconds * GAP_INTERVALS;
  devices.forEach(({ readings }, device) => {
    let before: number | null = null;
    for (const reading of readings) {
      const at = Date.parse(reading.at) / 1000;
      if (before !== null && at - before > hole) {
        rowAt(before + interval_seconds)[device] = null;
      }
      rowAt(at)[device] = reading[measure];
      before = at;
    }
  });
  const at = [...rows.keys()].sort((one, other) => one - other);
  return { at, values: devices.map((_, device) => at.map((moment) => rows.get(moment)?.[device])) };
}

/** What a measure is now, and was at least and at most; `null` where a device can't say. */
export function extremesOf(device: ReadDevice, measure: Measure): { now: number; least: number; most: number } | null {
  const values = device.readings.flatMap((reading) => reading[measure] ?? []);
  const now = values.at(-1);
  return now === undefined ? null : { now, least: Math.min(...values), most: Math.max(...values) };
}

function newestOf(known: LeaseReadings | undefined): string | undefined {
  const all = known?.devices.flatMap(({ readings }) => readings.at(-1)?.at ?? []) ?? [];
  return all.sort().at(-1);
}
