import { kernelIcon } from "@jupyterlab/ui-components";

import type { KernelPlace, Switch } from "../api/types";
import { gpuIcon } from "../icons";
import { costNow, secondsLeft, urgencyOf } from "../models/meter";
import { devicesOf, stepWords } from "./moveWords";
import { useWords } from "./words";

export interface SwitchButtonProps {
  /** Where the notebook's kernel runs; null while that is not known. */
  place: KernelPlace | null;
  /** The move under way, whoever asked for it. */
  moving: Switch | null;
  /** The server's time, in milliseconds. */
  now: number;
  onClick: () => void;
}

/** Where the notebook runs and what it has cost, beside the kernel's name. A click asks where to go from there. */
export function SwitchButton({ place, moving, now, onClick }: SwitchButtonProps): JSX.Element {
  const words = useWords();
  const { trans, formats } = words;
  const lease = place?.lease ?? null;
  const urgency = lease && !moving ? urgencyOf(lease, now) : "calm";
  let look = "cpu";
  let label = trans.__("Move to a GPU");
  let title = place
    ? trans.__("This notebook runs on the CPU. Choose a GPU to move it to, with its variables.")
    : trans.__("Where this notebook runs is not known yet. Choose a GPU to move it to, with its variables.");
  let note: string | null = null;
  let aside: string | null = null;
  if (moving) {
    look = "moving";
    label = moving.target === "gpu" ? trans.__("Moving to a GPU…") : trans.__("Moving to the CPU…");
    title = trans.__("%1. Click for the steps and to cancel.", stepWords(trans, moving.state));
    aside = formats.percent(moving.progress);
  } else if (lease) {
    look = "gpu";
    label = formats.devices(lease.model, lease.count);
    note = lease.simulated ? trans.__("(simulated)") : null;
    const left = secondsLeft(lease, now);
    const cost = formats.credits(costNow(lease, now));
    aside = urgency === "calm" ? cost : trans.__("ends in %1", formats.countdown(left));
    title = trans.__(
      "This notebook runs on %1: %2 so far, %3 left. Click for more.",
      devicesOf(words, lease),
      cost,
      formats.duration(left),
    );
  }
  const Icon = look === "cpu" ? kernelIcon : gpuIcon;
  return (
    <button
      type="button"
      className={`ch-SwitchButton ch-mod-${look} ch-mod-${urgency}`}
      aria-haspopup="dialog"
      title={title}
      onClick={onClick}
    >
      <Icon.react tag="span" className="ch-SwitchButton-icon" aria-hidden="true" />
      {urgency !== "calm" && (
        <span aria-hidden="true" className="ch-SwitchButton-sign">
          !
        </span>
      )}
      <span className="ch-SwitchButton-label">{label}</span>
      {note && <span className="ch-SwitchButton-note">{note}</span>}
      {aside && <span className="ch-SwitchButton-aside">{aside}</span>}
      {moving && <progress aria-label={title} value={moving.progress} max={1} />}
    </button>
  );
}
