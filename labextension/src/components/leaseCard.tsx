import type { ReactNode } from "react";

import type { Lease } from "../api/types";
import { Button, SimulatedBadge } from "./parts";
import type { Words } from "./words";
import { useWords } from "./words";

export interface LeaseCardProps {
  lease: Lease;
  /** What it has cost by now, in microcredits. */
  cost: number;
  secondsLeft: number;
  /** The end is near enough to be told of. */
  isSoon: boolean;
  onOpenNotebook: (path: string) => void;
  onExtend: (lease: Lease) => void;
  onShorten: (lease: Lease) => void;
  onEnd: (lease: Lease) => void;
  onLog: (lease: Lease) => void;
  onTerminal: (lease: Lease) => void;
  /** The devices' charts, folded or not. */
  children?: ReactNode;
}

/** A lease that has not ended: where, how long still, what it costs, and the ways to change that. */
export function LeaseCard(props: LeaseCardProps): JSX.Element {
  const words = useWords();
  const { trans, formats } = words;
  const { children, cost, lease, onEnd, onExtend, onLog, onOpenNotebook, onShorten, onTerminal } = props;
  const { count, notebook_path: path } = lease;
  const isRunning = lease.state === "running";
  return (
    <article className="ch-Lease" aria-label={formats.devices(lease.model, count)}>
      <div className="ch-Item-head">
        <span className="ch-Item-title">
          {formats.devices(lease.model, count)} {lease.simulated && <SimulatedBadge />}
        </span>
        <span className={`ch-State ${isRunning ? "ch-mod-good" : "ch-mod-wait"}`} role="status">
          {stateOf(lease, words)}
        </span>
      </div>
      <div className="ch-Item-head">
        {path && (
          <button type="button" className="ch-Link ch-Path" onClick={() => onOpenNotebook(path)}>
            {path}
          </button>
        )}
        {lease.terminal && (
          <button
            type="button"
            className="ch-Link"
            title={trans.__("A shell where the notebook's kernel runs, as its user; it ends with the kernel")}
            onClick={() => onTerminal(lease)}
          >
            {trans.__("Terminal")}
          </button>
        )}
        {(isRunning || lease.state === "provisioning") && (
          <button
            type="button"
            className="ch-Link"
            title={trans.__("What the kernel wrote outside its cells")}
            onClick={() => onLog(lease)}
          >
            {isRunning ? trans.__("Kernel's log") : trans.__("Log of the start")}
          </button>
        )}
      </div>
      <TimeLeft {...props} />
      <dl className="ch-Facts">
        <div>
          <dt>{trans.__("Cost so far")}</dt>
          <dd>{formats.credits(cost)}</dd>
        </div>
        <div>
          <dt>{trans.__("Rate")}</dt>
          <dd>{formats.rate(lease.rate_microcredits_per_hour * count)}</dd>
        </div>
        {lease.place.name !== "local" && (
          <div title={detailsOf(lease)}>
            <dt>{trans.__("Place")}</dt>
            <dd>{lease.place.name}</dd>
          </div>
        )}
        <div title={trans.__("Set aside until it ends; what isn't used comes back.")}>
          <dt>{trans.__("On hold")}</dt>
          <dd>{formats.credits(lease.held_microcredits)}</dd>
        </div>
      </dl>
      {lease.state !== "closing" && (
        <div className="ch-Item-actions">
          {isRunning && <Button label={trans.__("Extend…")} kind="accept" onClick={() => onExtend(lease)} />}
          {isRunning && <Button label={trans.__("Shorten…")} onClick={() => onShorten(lease)} />}
          <Button label={trans.__("End…")} onClick={() => onEnd(lease)} />
        </div>
      )}
      {children}
    </article>
  );
}

/** The seconds go by silently: a screen reader reads them when it comes by, and the notices speak when it matters. */
function TimeLeft({ lease, secondsLeft, isSoon }: LeaseCardProps): JSX.Element {
  const { trans, formats } = useWords();
  const endsAt = Date.parse(lease.ends_at);
  const whole = Math.max(1, (endsAt - Date.parse(lease.started_at ?? lease.created_at)) / 1000);
  return (
    <div className={`ch-Time${isSoon ? " ch-mod-soon" : ""}`}>
      <div className="ch-Item-head">
        <span role="timer" aria-live="off" aria-label={trans.__("%1 left", formats.duration(secondsLeft))}>
          <span className="ch-Time-left" aria-hidden="true">
            {formats.countdown(secondsLeft)}
          </span>
        </span>
        <span role="status">
          {isSoon ? trans.__("Ends soon, at %1", formats.time(endsAt)) : trans.__("Until %1", formats.time(endsAt))}
        </span>
      </div>
      <progress
        max={whole}
        value={Math.min(whole, Math.max(0, whole - secondsLeft))}
        aria-label={trans.__("Part of the time that is over")}
      />
    </div>
  );
}

function detailsOf({ place }: Lease): string {
  return Object.entries(place.details)
    .map(([name, value]) => `${name}: ${value}`)
    .join("\n");
}

function stateOf({ state }: Lease, { trans }: Words): string {
  const states: Record<Lease["state"], string> = {
    requested: trans.__("Waits for its start"),
    provisioning: trans.__("Starts"),
    running: trans.__("Running"),
    closing: trans.__("Moves back"),
    closed: trans.__("Ended"),
  };
  return states[state];
}
