import type { LostName, Offer, SwitchRequest } from "../api/types";

const MICROCREDITS_PER_CREDIT = 1_000_000;

/** What a person has put into the form, as they put it. */
export interface MoveDraft {
  target: "gpu" | "cpu";
  model: string | null;
  count: number;
  durationSeconds: number | null;
  keep: "all" | "none" | "some";
  /** Which names come along, for `some`. */
  names: readonly string[];
  /** Credits per device and hour, as typed; empty for no limit. */
  maxRate: string;
  acceptsLoss: boolean;
}

export function newDraft(target: "gpu" | "cpu"): MoveDraft {
  const unknown = { model: null, durationSeconds: null };
  return { target, ...unknown, count: 1, keep: "all", names: [], maxRate: "", acceptsLoss: false };
}

/** The wish that a draft stands for, as the API takes it. */
export function wishOf(draft: MoveDraft, kernelId: string): SwitchRequest {
  const keep = draft.keep === "some" ? [...draft.names] : draft.keep;
  const wish: SwitchRequest = { target: draft.target, kernel_id: kernelId, keep };
  if (draft.target === "gpu") {
    wish.count = draft.count;
    if (draft.model) {
      wish.model = draft.model;
    }
    if (draft.durationSeconds) {
      wish.duration_seconds = draft.durationSeconds;
    }
    const most = Number(draft.maxRate);
    if (draft.maxRate.trim() && Number.isFinite(most)) {
      wish.max_rate_microcredits_per_hour = Math.round(most * MICROCREDITS_PER_CREDIT);
    }
  }
  return draft.acceptsLoss ? { ...wish, accept_loss: true } : wish;
}

/** Why a move failed that may go on all the same, as the API names it. */
export interface Lacks {
  lost: readonly LostName[];
  problems: readonly { message?: string }[];
  /** Only there it turned out that they can't be rebuilt. */
  only_there: boolean;
}

/** The same wish once more, with a yes to what was shown and to nothing that nobody has seen yet. */
export function insistOn(wish: SwitchRequest, { lost, problems, only_there }: Lacks): SwitchRequest {
  if (only_there) {
    return { ...wish, accept_failures: true };
  }
  const accept_loss = wish.accept_loss || lost.length > 0;
  return { ...wish, accept_loss, accept_problems: wish.accept_problems || problems.length > 0 };
}

/** One row for each model: what is free comes first, then the cheaper. */
export function modelsOf(offers: readonly Offer[]): Offer[] {
  const order = (a: Offer, b: Offer) =>
    Number(b.free_now > 0) - Number(a.free_now > 0) || a.rate_microcredits_per_hour - b.rate_microcredits_per_hour;
  const best = new Map<string, Offer>();
  for (const offer of [...offers].sort(order)) {
    if (!best.has(offer.model)) {
      best.set(offer.model, offer);
    }
  }
  return [...best.values()];
}
