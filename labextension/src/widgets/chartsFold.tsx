import { useId } from "react";

import type { Lease } from "../api/types";
import { ErrorNote, Skeleton } from "../components/parts";
import { useWords } from "../components/words";
import type { ComputeHub } from "../models/hub";
import { useLazy } from "./lazy";

export interface ChartsFoldProps {
  hub: ComputeHub;
  lease: Lease;
  isOpen: boolean;
  onToggle: (isOpen: boolean) => void;
}

/** The place of a lease's charts. Neither the charts nor what draws them is loaded before it is unfolded. */
export function ChartsFold({ hub, lease, isOpen, onToggle }: ChartsFoldProps): JSX.Element {
  const { trans } = useWords();
  const id = useId();
  return (
    <div className="ch-ChartsFold">
      <button
        type="button"
        className="ch-Link"
        aria-expanded={isOpen}
        aria-controls={id}
        onClick={() => onToggle(!isOpen)}
      >
        {isOpen ? trans.__("Hide the charts") : trans.__("Show charts of the last hour")}
      </button>
      <div id={id}>{isOpen && <Unfolded hub={hub} lease={lease} />}</div>
    </div>
  );
}

const load = async () => (await import("./readings")).Readings;

function Unfolded({ hub, lease }: Pick<ChartsFoldProps, "hub" | "lease">): JSX.Element {
  const { trans } = useWords();
  const { value: Readings, error, retry } = useLazy(load);
  if (error) {
    return <ErrorNote error={error} onRetry={retry} />;
  }
  return Readings ? <Readings hub={hub} lease={lease} /> : <Skeleton lines={18} label={trans.__("Loading")} />;
}
