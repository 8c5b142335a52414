import { Token } from "@lumino/coreutils";

import type { ComputeHub } from "./models/hub";
import type { Moves } from "./models/moves";
import type { Preferences } from "./models/preferences";

/** What each plugin of this extension stands on. */
export const IComputeHub = new Token<ComputeHub>(
  "computehub:IComputeHub",
  "The control plane as this browser tab sees it: balance, leases, bookings, offers and the places of open kernels.",
);

/** What a person chose in the settings editor. */
export const IPreferences = new Token<Preferences>(
  "computehub:IPreferences",
  "A person's settings: the usual GPU and length, what comes along, and what is shown.",
);

/** The moves of notebooks that this browser tab asked for. */
export const IMoves = new Token<Moves>(
  "computehub:IMoves",
  "The moves of notebooks between the CPU and GPUs that this browser tab asked for or follows.",
);
