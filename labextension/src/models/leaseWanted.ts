import type { Lease } from "../api/types";
import type { ComputeHub } from "./hub";

/** The lease that a command is about: the one named, else the one that began last. Undefined where there is none. */
export async function leaseWanted(hub: ComputeHub, id: unknown): Promise<Lease | undefined> {
  const known = hub.leases.value?.find((lease) => lease.id === id);
  if (known) {
    return known;
  }
  // A command may be asked for while no view shows leases, or what they show is older than a notice.
  const { items } = await hub.client.listLeases({ state: "open" });
  if (items[0]) {
    hub.clock.learn(items[0].server_now);
  }
  return typeof id === "string" ? items.find((lease) => lease.id === id) : items[0];
}
