import type { IDisposable } from "@lumino/disposable";
import type { ISignal } from "@lumino/signaling";
import { Signal } from "@lumino/signaling";

import type { Approval, KernelPlace, Lease, Switch } from "../api/types";
import type { ComputeHub } from "./hub";
import type { Hint, Live } from "./live";
import { SOON_SECONDS, URGENT_SECONDS, ratePerHour, secondsLeft } from "./meter";

/** As the server's own warning: two minutes before, or half of a shorter idle time; with room for a late look. */
const IDLE_SECONDS = 150;
/** Shorter additions are not worth a click. */
const WORTH_SECONDS = 300;
/** A browser's timers end at once when they are set for more than 24 days; and a laptop sleeps through long ones. */
const LOOK_WITHIN_SECONDS = 3600;
/** A person's own doing needs no telling. */
const OWN_DOING = ["returned", "cancelled", "start_failed", "kernel_shut_down"];

/** Something that a person should know now, and for as long as it holds. */
export type Notice = { readonly id: string } & (
  | { kind: "ending"; lease: Lease; isUrgent: boolean; extraSeconds: number }
  | { kind: "idle"; lease: Lease; place: KernelPlace; givesBackAt: string }
  | { kind: "approval"; approval: Approval }
  | { kind: "ended"; lease: Lease }
  | { kind: "failed"; move: Switch }
);

/**
 * What there is to warn of, worked out from leases, places and approvals rather than from events: those only make it
 * look sooner, so that a missed one is told late instead of never, and a forged one tells nothing.
 */
export class Notices implements IDisposable {
  constructor(private readonly hub: ComputeHub) {
    const { approvals, clock, leases, live, me } = hub;
    // Before anything is asked for: what is already known is told at once.
    this.now = () => clock.now();
    leases.changed.connect(this.onLeases, this);
    approvals.changed.connect(this.judge, this);
    me.changed.connect(this.judge, this);
    live.hint.connect(this.hear, this);
    this.uses = [leases.use(), approvals.use(), me.use()];
  }

  /** The notices that hold changed. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get current(): ReadonlyMap<string, Notice> {
    return this._current;
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  dispose(): void {
    if (this._isDisposed) {
      return;
    }
    this._isDisposed = true;
    const { approvals, leases, live, me } = this.hub;
    leases.changed.disconnect(this.onLeases, this);
    approvals.changed.disconnect(this.judge, this);
    me.changed.disconnect(this.judge, this);
    live.hint.disconnect(this.hear, this);
    window.clearTimeout(this.timer);
    this.uses.forEach((use) => use.dispose());
    this.opened.forEach(({ release }) => release.dispose());
    Signal.clearData(this);
  }

  private hear(_: Live, { noun, action, kernel_id: kernelId, switch_id: switchId }: Hint): void {
    if (noun === "switch" && action === "failed" && switchId && kernelId && this.hub.places.isOpen(kernelId)) {
      // Not found is somebody else's, who is told by their own browser.
      this.hub.client.getSwitch(switchId).then(
        (move) => move.state === "failed" && this.tell({ id: `failed:${move.id}`, kind: "failed", move }),
        () => undefined,
      );
    }
  }

  private onLeases(): void {
    const leases = this.hub.leases.value ?? [];
    const open = new Set(leases.map(({ id }) => id));
    this.known.forEach((lease) => !open.has(lease.id) && void this.onGone(lease));
    this.known = leases;
    for (const { id, kernel_id: kernelId, state } of leases) {
      if (!this.opened.has(id) && state === "running") {
        const { place, release } = this.hub.places.open(kernelId);
        place.changed.connect(this.judge, this);
        this.opened.set(id, { place, release });
      }
    }
    this.opened.forEach(({ place, release }, id) => {
      if (!open.has(id)) {
        place.changed.disconnect(this.judge, this);
        release.dispose();
        this.opened.delete(id);
      }
    });
    this.judge();
  }

  private async onGone({ id }: Lease): Promise<void> {
    const lease = await this.hub.client.getLease(id).catch(() => null);
    if (lease?.state === "closed" && lease.end_reason && !OWN_DOING.includes(lease.end_reason)) {
      this.tell({ id: `ended:${id}`, kind: "ended", lease });
    }
  }

  /** Something that happened and stays true. */
  private tell(notice: Notice): void {
    if (!this._isDisposed && !this.told.has(notice.id)) {
      this.told.set(notice.id, notice);
      this.judge();
    }
  }

  private judge(): void {
    if (this._isDisposed) {
      return;
    }
    const now = this.now();
    const current = new Map(this.told);
    const add = (notice: Notice) => current.set(notice.id, notice);
    let next = Infinity;
    for (const lease of this.hub.leases.value ?? []) {
      if (lease.state === "running") {
        next = Math.min(next, this.judgeEnd(lease, now, add), this.judgeIdle(lease, now, add));
      }
    }
    for (const approval of this.hub.approvals.value ?? []) {
      add({ id: `approval:${approval.id}`, kind: "approval", approval });
    }
    this._current = current;
    window.clearTimeout(this.timer);
    if (Number.isFinite(next)) {
      const wait = Math.min(LOOK_WITHIN_SECONDS, Math.max(1, next));
      this.timer = window.setTimeout(() => this.judge(), wait * 1000);
    }
    this._changed.emit();
  }

  /** Returns after how many seconds there is something else to say. */
  private judgeEnd(lease: Lease, now: number, add: (notice: Notice) => void): number {
    const left = secondsLeft(lease, now);
    const length = (Date.parse(lease.ends_at) - Date.parse(lease.started_at ?? lease.created_at)) / 1000;
    // One shorter than its warning would be warned of at its first breath, which tells nobody anything.
    const step = [URGENT_SECONDS, SOON_SECONDS].find((seconds) => left <= seconds && length > seconds);
    if (step !== undefined && left > 0) {
      const [kind, isUrgent] = ["ending" as const, step === URGENT_SECONDS];
      add({
        id: `ending:${lease.id}:${lease.ends_at}:${step}`,
        kind,
        lease,
        isUrgent,
        extraSeconds: this.extra(lease),
      });
    }
    const ahead = [SOON_SECONDS, URGENT_SECONDS].map((seconds) => left - seconds).filter((seconds) => seconds > 0);
    return Math.min(...ahead, Infinity);
  }

  private judgeIdle(lease: Lease, now: number, add: (notice: Notice) => void): number {
    const place = this.opened.get(lease.id)?.place.value;
    const givesBackAt = place?.idle.gives_back_at;
    if (!place || !givesBackAt || place.lease?.id !== lease.id) {
      return Infinity;
    }
    const left = (Date.parse(givesBackAt) - now) / 1000 - Math.min(IDLE_SECONDS, lease.idle_timeout_seconds / 2);
    if (left <= 0) {
      add({ id: `idle:${lease.id}:${givesBackAt}`, kind: "idle", lease, place, givesBackAt });
      return Infinity;
    }
    return left;
  }

  /** How much longer the balance lasts, an hour at most; 0 where that is not worth it. */
  private extra(lease: Lease): number {
    const available = this.hub.me.value?.balance.available_microcredits;
    if (available === undefined || ratePerHour(lease) === 0) {
      return 3600;
    }
    const minutes = Math.floor(((available / ratePerHour(lease)) * 3600) / 60);
    return minutes * 60 >= WORTH_SECONDS ? Math.min(3600, minutes * 60) : 0;
  }

  private _changed = new Signal<this, void>(this);
  private _current = new Map<string, Notice>();
  private _isDisposed = false;
  private known: Lease[] = [];
  private readonly now: () => number;
  private opened = new Map<string, ReturnType<ComputeHub["places"]["open"]>>();
  private timer = 0;
  private told = new Map<string, Notice>();
  private readonly uses: IDisposable[];
}
