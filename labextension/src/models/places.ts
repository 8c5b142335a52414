import type { IDisposable } from "@lumino/disposable";
import { DisposableDelegate } from "@lumino/disposable";

import type { ComputeHubClient } from "../api/client";
import type { KernelPlace } from "../api/types";
import type { ServerClock } from "./clock";
import { Resource } from "./resource";

/** Where the kernels of open notebooks run, one resource each, for as long as somebody shows it. */
export class Places implements IDisposable {
  constructor(
    private readonly client: ComputeHubClient,
    private readonly clock: ServerClock,
  ) {}

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  /** The place of a kernel, and what gives it up again. */
  open(kernelId: string): { place: Resource<KernelPlace>; release: IDisposable } {
    let entry = this.entries.get(kernelId);
    if (!entry) {
      const place = new Resource(() => this.fetchPlace(kernelId), { name: `place:${kernelId}` });
      entry = { place, users: 0 };
      this.entries.set(kernelId, entry);
    }
    entry.users += 1;
    const { place } = entry;
    const use = place.use();
    const release = new DisposableDelegate(() => {
      use.dispose();
      entry.users -= 1;
      if (entry.users === 0) {
        this.entries.delete(kernelId);
        place.dispose();
      }
    });
    return { place, release };
  }

  isOpen(kernelId: string): boolean {
    return this.entries.has(kernelId);
  }

  invalidate(kernelId: string): void {
    this.entries.get(kernelId)?.place.invalidate();
  }

  look(): void {
    this.entries.forEach(({ place }) => place.look());
  }

  dispose(): void {
    this._isDisposed = true;
    this.entries.forEach(({ place }) => place.dispose());
    this.entries.clear();
  }

  private async fetchPlace(kernelId: string): Promise<KernelPlace> {
    const place = await this.client.getKernelPlace(kernelId);
    if (place.lease) {
      this.clock.learn(place.lease.server_now);
    }
    return place;
  }

  private _isDisposed = false;
  private entries = new Map<string, { place: Resource<KernelPlace>; users: number }>();
}
