/** Words about moves that several views say alike. */
import type { TranslationBundle } from "@jupyterlab/translation";

import type { Lease, Switch } from "../api/types";
import type { Words } from "./words";

export type StepState = Switch["state"];

/** What happens at a step, as a line of a list. */
export function stepWords(trans: TranslationBundle, state: StepState): string {
  const words: Record<StepState, string> = {
    requested: trans.__("Asked for"),
    waiting: trans.__("Wait for the running cell to end"),
    checking: trans.__("Check what the notebook uses"),
    starting: trans.__("Start the new kernel"),
    capturing: trans.__("Collect the variables"),
    restoring: trans.__("Restore the variables"),
    verifying: trans.__("Check the new kernel"),
    swapping: trans.__("Change over"),
    done: trans.__("Done"),
    failed: trans.__("Not moved"),
    cancelled: trans.__("Cancelled"),
  };
  return words[state];
}

/** `2 × A100 (simulated)`. */
export function devicesOf({ trans, formats }: Words, lease: Pick<Lease, "model" | "count" | "simulated">): string {
  const devices = formats.devices(lease.model, lease.count);
  return lease.simulated ? trans.__("%1 (simulated)", devices) : devices;
}
