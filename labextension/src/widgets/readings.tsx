import { useEffect, useState } from "react";

import type { Lease } from "../api/types";
import { Charts } from "../components/charts";
import { Loaded, Skeleton } from "../components/parts";
import { useWords } from "../components/words";
import type { ComputeHub } from "../models/hub";
import type { LeaseReadings } from "../models/readings";
import { readingsOf } from "../models/readings";
import type { Resource } from "../models/resource";
import { useResource } from "./hooks";

/** The charts of a lease's devices, read every few seconds while they are seen. */
export function Readings({ hub, lease }: { hub: ComputeHub; lease: Lease }): JSX.Element {
  const { trans } = useWords();
  const [resource, setResource] = useState<Resource<LeaseReadings> | null>(null);
  const { id } = lease;
  useEffect(() => {
    const made = readingsOf(hub.client, id);
    setResource(made);
    return () => made.dispose();
  }, [hub, id]);
  return resource ? <Followed resource={resource} /> : <Skeleton lines={LINES} label={trans.__("Loading")} />;
}

/** About the height of the charts. */
const LINES = 18;

function Followed({ resource }: { resource: Resource<LeaseReadings> }): JSX.Element {
  return (
    <Loaded state={useResource(resource)} onRetry={() => void resource.refresh()} lines={LINES}>
      {(readings) => <Charts readings={readings} now={Date.parse(readings.server_now)} />}
    </Loaded>
  );
}
