import type { KernelPlace } from "../api/types";
import { costNow, ratePerHour, secondsLeft } from "../models/meter";
import { SimulatedBadge } from "./parts";
import { useWords } from "./words";

/** Where a notebook runs, who moved it there, who pays and for how long: the same for everybody at it. */
export function PlaceCard({ place, now }: { place: KernelPlace; now: number }): JSX.Element {
  const { trans, formats } = useWords();
  const { lease, payer, moved_by: mover, is_mine: isMine, idle, may } = place;
  const name = (named: { display_name: string; username: string }) => named.display_name || named.username;
  return (
    <>
      <dl className="ch-MoveFacts">
        <dt>{trans.__("Runs on")}</dt>
        <dd>
          {lease ? formats.devices(lease.model, lease.count) : trans.__("the CPU")}{" "}
          {lease?.simulated && <SimulatedBadge />}
        </dd>
        {mover && (
          <>
            <dt>{trans.__("Moved by")}</dt>
            <dd>{name(mover)}</dd>
          </>
        )}
        {payer && (
          <>
            <dt>{trans.__("Paid by")}</dt>
            <dd>{isMine ? trans.__("you (%1)", name(payer)) : name(payer)}</dd>
          </>
        )}
        {lease && (
          <>
            <dt>{trans.__("Cost so far")}</dt>
            <dd>{trans.__("%1, at %2", formats.credits(costNow(lease, now)), formats.rate(ratePerHour(lease)))}</dd>
            <dt>{trans.__("Time left")}</dt>
            <dd>
              {trans.__("%1, until %2", formats.countdown(secondsLeft(lease, now)), formats.dateTime(lease.ends_at))}
            </dd>
          </>
        )}
        {idle.gives_back_at && (
          <>
            <dt>{trans.__("Given back")}</dt>
            <dd>{trans.__("at %1, unless a cell runs before", formats.time(idle.gives_back_at))}</dd>
          </>
        )}
      </dl>
      {may.why && <p className="ch-Note">{may.why}</p>}
    </>
  );
}
