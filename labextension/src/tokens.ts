import { Token } from "@lumino/coreutils";

import type { ComputeHub } from "./models/hub";

/** What each plugin of this extension stands on. */
export const IComputeHub = new Token<ComputeHub>(
  "computehub:IComputeHub",
  "The control plane as this browser tab sees it: balance, leases, bookings, offers and the places of open kernels.",
);
