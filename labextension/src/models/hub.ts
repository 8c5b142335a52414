import type { ServiceManager } from "@jupyterlab/services";
import type { IDisposable } from "@lumino/disposable";
import type { ISignal } from "@lumino/signaling";
import { Signal } from "@lumino/signaling";

import { ComputeHubClient } from "../api/client";
import type { ApiError } from "../api/errors";
import type { Approval, Booking, Lease, Offer, Person } from "../api/types";
import { ServerClock } from "./clock";
import type { Hint } from "./live";
import { Live } from "./live";
import { Places } from "./places";
import { Resource } from "./resource";

/** Somebody else's event is looked at within this time, at random, so that fifty panels don't ask at one moment. */
const OTHERS_WITHIN_MS = 4000;
const UPCOMING_MOST = 20;
/** A place that gets its image or its engine back tells of it by no event. */
const UNWELL_AGAIN_MS = 8000;

/** What the hub does to a resource, whatever it holds. */
type Shared = Pick<Resource<never>, "invalidate" | "look" | "dispose">;

/** Whether the server part is there and speaks what this panel speaks. */
export type ServerPart = "unknown" | "ready" | "missing" | "old" | "unreachable";

/**
 * What all views of one browser tab share: the client, the clock, and the resources that more than one of them shows.
 *
 * A view `use()`s what it shows and disposes that when it hides; nothing is fetched for nobody.
 */
export class ComputeHub implements IDisposable {
  constructor({ events, serverSettings }: Pick<ServiceManager.IManager, "events" | "serverSettings">, isThere = true) {
    this.client = new ComputeHubClient(serverSettings, isThere);
    this.clock = new ServerClock();
    this.live = new Live(events);
    const { client } = this;
    this.me = new Resource(() => client.getMe(), { name: "me", intervalMs: 120_000 });
    this.offers = new Resource(async () => (await client.listOffers()).items, {
      name: "offers",
      soonMs: (offers) => (offers.some(({ unwell }) => unwell) ? UNWELL_AGAIN_MS : 0),
    });
    this.leases = new Resource(() => this.fetchLeases(), { name: "leases" });
    this.bookings = new Resource(
      async () => (await client.listBookings({ state: "upcoming", limit: UPCOMING_MOST })).items,
      { name: "bookings", intervalMs: 120_000 },
    );
    this.approvals = new Resource(
      async () => (await client.listApprovals()).items.filter(({ state }) => state === "pending"),
      { name: "approvals", intervalMs: 300_000 },
    );
    this.places = new Places(client, this.clock);
    this.live.hint.connect(this.follow, this);
    this.live.gap.connect(() => this.look());
    this.me.changed.connect(this.judge, this);
    for (const part of [this.offers, this.leases, this.bookings, this.approvals] as Resource<unknown>[]) {
      part.changed.connect((_, { error }) => this.doubt(error));
    }
  }

  readonly client: ComputeHubClient;
  readonly clock: ServerClock;
  readonly live: Live;
  /** You: balance, allowance, limits. */
  readonly me: Resource<Person>;
  /** Each pool with its price and what is free now. */
  readonly offers: Resource<Offer[]>;
  /** Your leases that are not closed. */
  readonly leases: Resource<Lease[]>;
  /** Your next bookings, soonest first. */
  readonly bookings: Resource<Booking[]>;
  /** What your kernels ask to spend, not decided yet. */
  readonly approvals: Resource<Approval[]>;
  /** Where each open notebook's kernel runs. */
  readonly places: Places;

  get serverPart(): ServerPart {
    return this._serverPart;
  }

  get serverPartChanged(): ISignal<this, ServerPart> {
    return this._serverPartChanged;
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  /** After a write of this tab's: what it changed is fetched at once rather than when the event comes. */
  touched(...nouns: Hint["noun"][]): void {
    for (const noun of nouns) {
      this.about(noun).forEach((resource) => resource.invalidate());
    }
  }

  dispose(): void {
    if (this._isDisposed) {
      return;
    }
    this._isDisposed = true;
    this.later.forEach((timer) => window.clearTimeout(timer));
    [...this.all(), this.places, this.live, this.clock].forEach((part) => part.dispose());
    Signal.clearData(this);
  }

  private async fetchLeases(): Promise<Lease[]> {
    const { items } = await this.client.listLeases({ state: "open" });
    if (items[0]) {
      this.clock.learn(items[0].server_now);
    }
    return items;
  }

  private all(): Shared[] {
    return [this.me, this.offers, this.leases, this.bookings, this.approvals];
  }

  private about(noun: Hint["noun"]): Shared[] {
    const { me, offers, leases, bookings, approvals } = this;
    const changed: Partial<Record<Hint["noun"], Shared[]>> = {
      approval: [approvals],
      booking: [bookings, me, offers],
      lease: [leases, me, offers, bookings],
      notice: [leases],
      person: [me],
    };
    return changed[noun] ?? [];
  }

  private follow(_: Live, hint: Hint): void {
    if (hint.kernel_id) {
      this.places.invalidate(hint.kernel_id);
    }
    if (this.isMine(hint)) {
      this.about(hint.noun).forEach((resource) => resource.invalidate());
      return;
    }
    // It may be mine from another window, or somebody else's that changes what is free. One look for a whole burst.
    for (const resource of this.about(hint.noun)) {
      if (!this.later.has(resource)) {
        const timer = window.setTimeout(() => {
          this.later.delete(resource);
          resource.invalidate();
        }, Math.random() * OTHERS_WITHIN_MS);
        this.later.set(resource, timer);
      }
    }
  }

  private isMine({ approval_id, booking_id, kernel_id, lease_id }: Hint): boolean {
    return (
      (this.leases.value ?? []).some((lease) => lease.id === lease_id) ||
      (this.bookings.value ?? []).some((booking) => booking.id === booking_id) ||
      (this.approvals.value ?? []).some((approval) => approval.id === approval_id) ||
      (kernel_id !== undefined && this.places.isOpen(kernel_id))
    );
  }

  private look(): void {
    this.all().forEach((resource) => resource.look());
    this.places.look();
  }

  /** A part has no answer: whether the server has any is asked at once, and told in one place instead of in each. */
  private doubt(error: ApiError | null): void {
    const { error: known, isFetching, value } = this.me.state;
    if (error?.isTransient && value && !known && !isFetching) {
      this.me.invalidate();
    }
  }

  private judge(): void {
    const { value, error } = this.me.state;
    let part: ServerPart = this._serverPart;
    if (error?.code === "missing") {
      part = "missing";
    } else if (error) {
      part = error.isTransient ? "unreachable" : part;
    } else if (value) {
      part = value.limits === undefined ? "old" : "ready";
    }
    if (part !== this._serverPart) {
      const isBack = this._serverPart === "unreachable" && part === "ready";
      this._serverPart = part;
      this._serverPartChanged.emit(part);
      if (isBack) {
        // All that failed meanwhile is asked for again, or each part would wait for its own next try.
        this.look();
      }
    }
  }

  private _isDisposed = false;
  private _serverPart: ServerPart = "unknown";
  private _serverPartChanged = new Signal<this, ServerPart>(this);
  private later = new Map<Shared, number>();
}
