import type { Approval, Booking, Lease, Person, Switch } from "../api/types";
import type { ComputeHub } from "./hub";
import { Wishes } from "./wishes";

/** What a person does to their money, leases and bookings; what it changed is shown at once. */
export class Actions {
  constructor(private readonly hub: ComputeHub) {}

  async setAllowance(perDayMicrocredits: number): Promise<Person> {
    const { client, me } = this.hub;
    const person = await this.wishes.once(`allowance ${perDayMicrocredits}`, () =>
      client.setAllowance(perDayMicrocredits),
    );
    me.set(person);
    return person;
  }

  approve(approval: Approval): Promise<Approval> {
    return this.decide(approval, "approve");
  }

  decline(approval: Approval): Promise<Approval> {
    return this.decide(approval, "decline");
  }

  async extendLease(leaseId: string, seconds: number): Promise<Lease> {
    const { client } = this.hub;
    return this.showLease(
      await this.wishes.once(`extend ${leaseId} ${seconds}`, (key) => client.extendLease(leaseId, seconds, key)),
    );
  }

  async shortenLease(leaseId: string, seconds: number): Promise<Lease> {
    const { client } = this.hub;
    return this.showLease(
      await this.wishes.once(`shorten ${leaseId} ${seconds}`, (key) => client.shortenLease(leaseId, seconds, key)),
    );
  }

  async endLease(leaseId: string): Promise<Lease> {
    const { client } = this.hub;
    return this.showLease(await this.wishes.once(`end ${leaseId}`, (key) => client.endLease(leaseId, key)));
  }

  /** Move a lease's notebook back with its variables; the lease ends once they are there. */
  bringBack({ id, kernel_id }: Lease): Promise<Switch> {
    const { client } = this.hub;
    return this.wishes.once(`bring back ${id}`, (key) =>
      client.requestSwitch({ target: "cpu", kernel_id, keep: "all" }, key),
    );
  }

  async cancelBooking(bookingId: string): Promise<Booking> {
    const { bookings, client } = this.hub;
    const booking = await this.wishes.once(`cancel ${bookingId}`, (key) => client.cancelBooking(bookingId, key));
    bookings.set((bookings.value ?? []).filter(({ id }) => id !== bookingId));
    this.hub.touched("booking");
    return booking;
  }

  private async decide(approval: Approval, decision: "approve" | "decline"): Promise<Approval> {
    const { approvals, client } = this.hub;
    const decided = await this.wishes.once(`${decision} ${approval.id}`, () => client[decision](approval.id));
    approvals.set((approvals.value ?? []).filter(({ id }) => id !== approval.id));
    this.hub.touched("approval");
    return decided;
  }

  private showLease(lease: Lease): Lease {
    const { clock, leases } = this.hub;
    clock.learn(lease.server_now);
    const known = leases.value ?? [];
    const isKnown = known.some(({ id }) => id === lease.id);
    // At its old place, or a person's next click lands on another one.
    const shown = isKnown ? known.map((each) => (each.id === lease.id ? lease : each)) : [lease, ...known];
    leases.set(shown.filter(({ state }) => state !== "closed"));
    this.hub.touched("lease");
    return lease;
  }

  private wishes = new Wishes();
}
