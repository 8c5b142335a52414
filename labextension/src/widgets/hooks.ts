import type { ISignal } from "@lumino/signaling";
import { useEffect, useLayoutEffect, useReducer, useState } from "react";

import type { ServerClock } from "../models/clock";
import type { Resource, ResourceState } from "../models/resource";

/** A resource's state; it is kept fresh for as long as the component is mounted. */
export function useResource<Value>(resource: Resource<Value>): ResourceState<Value> {
  const [, again] = useReducer((count: number) => count + 1, 0);
  // Before the first picture is painted: on a busy machine what is asked after it comes a quarter of a second later.
  useLayoutEffect(() => {
    resource.changed.connect(again);
    const use = resource.use();
    return () => {
      resource.changed.disconnect(again);
      use.dispose();
    };
  }, [resource]);
  return resource.state;
}

/** Render again whenever a signal is emitted. */
export function useSignal(signal: ISignal<unknown, unknown> | null): void {
  const [, again] = useReducer((count: number) => count + 1, 0);
  // As early as can be: what is emitted before would not be seen.
  useLayoutEffect(() => {
    signal?.connect(again);
    return () => {
      signal?.disconnect(again);
    };
  }, [signal]);
}

/** The server's time in milliseconds, once a second while mounted and seen, and while something is counted by it. */
export function useNow(clock: ServerClock, isCounting = true): number {
  const [now, setNow] = useState(() => clock.now());
  useEffect(() => {
    if (!isCounting) {
      return;
    }
    const tick = () => setNow(clock.now());
    // What is known is as old as the last count, which may have ended hours ago.
    tick();
    clock.tick.connect(tick);
    const watch = clock.watch();
    return () => {
      clock.tick.disconnect(tick);
      watch.dispose();
    };
  }, [clock, isCounting]);
  return now;
}
