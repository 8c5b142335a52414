import { downloadIcon } from "@jupyterlab/ui-components";
import { useId } from "react";

import type { HistoryLine } from "../api/types";
import { Button, EmptyNote, SimulatedBadge } from "./parts";
import type { Words } from "./words";
import { useWords } from "./words";

export type HistoryGrouping = "lease" | "none";

export interface HistoryListProps {
  lines: readonly HistoryLine[];
  first: number;
  hasNewer: boolean;
  hasOlder: boolean;
  isFetching: boolean;
  onNewer: () => void;
  onOlder: () => void;
}

/** One page of the account's lines, each with what caused it. */
export function HistoryList(props: HistoryListProps): JSX.Element {
  const { trans } = useWords();
  const { first, hasNewer, hasOlder, isFetching, lines, onNewer, onOlder } = props;
  if (!lines.length) {
    return <EmptyNote>{trans.__("No credits came or went yet.")}</EmptyNote>;
  }
  return (
    <>
      <ol className="ch-List ch-History" start={first} aria-busy={isFetching}>
        {lines.map((line) => (
          <HistoryItem key={line.id} line={line} />
        ))}
      </ol>
      {(hasNewer || hasOlder) && (
        <div className="ch-Pager">
          <Button label={trans.__("Newer")} onClick={onNewer} disabled={!hasNewer} isBusy={hasNewer && isFetching} />
          <span role="status">{trans.__("Lines %1 to %2", first, first + lines.length - 1)}</span>
          <Button label={trans.__("Older")} onClick={onOlder} disabled={!hasOlder} isBusy={hasOlder && isFetching} />
        </div>
      )}
    </>
  );
}

/** How the history is grouped, and the whole of it as a file. */
export function HistoryTools(props: {
  grouping: HistoryGrouping;
  onGrouping: (grouping: HistoryGrouping) => void;
  /** Where the file lies. */
  file: string;
}): JSX.Element {
  const { trans } = useWords();
  const id = useId();
  const { file, grouping, onGrouping } = props;
  return (
    <div className="ch-Tools">
      <label htmlFor={id} className="ch-visually-hidden">
        {trans.__("Group the history")}
      </label>
      <select
        id={id}
        className="jp-mod-styled"
        value={grouping}
        onChange={(event) => onGrouping(event.target.value as HistoryGrouping)}
      >
        <option value="lease">{trans.__("One line for each GPU run")}</option>
        <option value="none">{trans.__("Every single entry")}</option>
      </select>
      <a className="ch-Download" href={file} download>
        <downloadIcon.react tag="span" className="ch-Button-icon" aria-hidden="true" />
        <span>{trans.__("Download as CSV")}</span>
      </a>
    </div>
  );
}

function HistoryItem({ line }: { line: HistoryLine }): JSX.Element {
  const words = useWords();
  const { formats, trans } = words;
  const { amount_microcredits: amount, at, lease } = line;
  const shown = formats.amount(Math.abs(amount));
  return (
    <li className="ch-Item">
      <div className="ch-Item-head">
        <span className="ch-Item-title">
          {lease ? formats.devices(lease.model, lease.count) : kindOf(line, words)}{" "}
          {lease?.simulated && <SimulatedBadge />}
        </span>
        <span className="ch-Item-amount">
          <span aria-hidden="true">
            {amount < 0 ? trans.__("− %1", shown) : amount > 0 ? trans.__("+ %1", shown) : shown}
          </span>
          <span className="ch-visually-hidden">
            {amount > 0 ? trans.__("%1 credits received", shown) : trans.__("%1 credits paid", shown)}
          </span>
        </span>
      </div>
      <p className="ch-Item-line">
        <time dateTime={at}>{formats.dateTime(lease?.started_at ?? at)}</time>
        {lease?.started_at && lease.ended_at && (
          <span>{formats.duration((Date.parse(lease.ended_at) - Date.parse(lease.started_at)) / 1000)}</span>
        )}
        {lease?.notebook_path && <span className="ch-Path">{lease.notebook_path}</span>}
      </p>
      <p className="ch-Item-line">{causeOf(line, words)}</p>
    </li>
  );
}

function kindOf({ kind, lease_id, origin }: HistoryLine, { trans }: Words): string {
  if (kind === "grant") {
    return origin === "purchased" ? trans.__("Credits bought") : trans.__("Credits received");
  }
  if (kind === "reversal") {
    return trans.__("Correction");
  }
  return lease_id ? trans.__("GPU time") : trans.__("Charged");
}

/** Why credits moved: how the run ended, or what the entry says. */
function causeOf({ lease, memo }: HistoryLine, { trans }: Words): string {
  if (!lease) {
    return memo;
  }
  const ended: Record<string, string> = {
    returned: trans.__("You gave the GPU back."),
    idle: trans.__("Given back because no cell ran for a while."),
    time_up: trans.__("The booked time was over."),
    kernel_shut_down: trans.__("The kernel was shut down."),
    kernel_died: trans.__("The kernel on the GPU ended by itself."),
    server_stopped: trans.__("The server was stopped."),
    unpaid: trans.__("Ended because nobody renewed it in time."),
    start_failed: trans.__("It could not be started; nothing was charged."),
    cancelled: trans.__("The move was cancelled; nothing was charged."),
    out_of_memory: trans.__("The kernel needed more main memory (RAM) than it may use there."),
    preempted: trans.__("The cluster took the GPU for work that goes first."),
    place_lost: trans.__("Its machine could not be reached any more; billed is what was used before."),
  };
  return ended[lease.end_reason ?? ""] ?? lease.end_message ?? (lease.ended_at ? memo : trans.__("Running now."));
}
