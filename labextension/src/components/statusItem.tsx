import type { Lease } from "../api/types";
import { gpuIcon } from "../icons";
import { costNow, ratePerHour, secondsLeft, urgencyOf } from "../models/meter";
import { devicesOf } from "./moveWords";
import { useWords } from "./words";

export interface StatusItemProps {
  /** The lease of the notebook in front, or another of yours that runs; null on the CPU. */
  lease: Lease | null;
  /** What the lease's notebook is called, where it is not the one in front. */
  elsewhere: string | null;
  availableMicrocredits: number | undefined;
  now: number;
  onClick: () => void;
}

/** Place, rate, time left and balance in one line; before the end it says so with a sign and in words. */
export function StatusItem(props: StatusItemProps): JSX.Element {
  const words = useWords();
  const { trans, formats } = words;
  const { lease, elsewhere, availableMicrocredits: available, now, onClick } = props;
  const urgency = lease ? urgencyOf(lease, now) : "calm";
  const parts: string[] = [];
  let title = trans.__("This notebook runs on the CPU, which costs nothing. Click for GPUs and credits.");
  if (lease) {
    const [devices, left] = [devicesOf(words, lease), secondsLeft(lease, now)];
    parts.push(elsewhere ? trans.__("%1 in %2", devices, elsewhere) : devices);
    parts.push(trans.__("%1 an hour", formats.amount(ratePerHour(lease))));
    const counted = formats.countdown(left);
    parts.push(urgency === "calm" ? trans.__("%1 left", counted) : trans.__("ends in %1", counted));
    const cost = formats.credits(costNow(lease, now));
    title = trans.__("%1, %2 so far, until %3. Click for more.", devices, cost, formats.dateTime(lease.ends_at));
  } else {
    parts.push(trans.__("CPU"));
  }
  if (available !== undefined) {
    parts.push(lease ? trans.__("balance %1", formats.credits(available)) : formats.credits(available));
  }
  return (
    <button type="button" className={`ch-StatusItem ch-mod-${urgency}`} title={title} onClick={onClick}>
      <gpuIcon.react tag="span" className="ch-StatusItem-icon" aria-hidden="true" />
      {urgency !== "calm" && (
        <span aria-hidden="true" className="ch-SwitchButton-sign">
          !
        </span>
      )}
      {parts.map((part) => (
        <span key={part} className="ch-StatusItem-part">
          {part}
        </span>
      ))}
    </button>
  );
}
