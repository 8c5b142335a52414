import { checkIcon } from "@jupyterlab/ui-components";

import type { Switch } from "../api/types";
import type { StepState } from "./moveWords";
import { stepWords } from "./moveWords";
import { useWords } from "./words";

const STEPS: readonly StepState[] = [
  "waiting",
  "checking",
  "starting",
  "capturing",
  "restoring",
  "verifying",
  "swapping",
];
const WITHOUT_VARIABLES: readonly StepState[] = ["waiting", "starting", "verifying", "swapping"];

/** The steps of a move under way; null before the server has said that it began. */
export function MoveProgress({ value, keepsNothing }: { value: Switch | null; keepsNothing: boolean }): JSX.Element {
  const { trans } = useWords();
  const steps = keepsNothing ? WITHOUT_VARIABLES : STEPS;
  const state = value?.state ?? "requested";
  const at = steps.indexOf(state);
  return (
    <div className="ch-MoveSteps">
      <p role="status">{value ? stepWords(trans, state) : trans.__("Asking for the move…")}</p>
      <progress aria-label={trans.__("The move")} value={value?.progress ?? 0} max={1} />
      <ol>
        {steps.map((step, position) => {
          const isDone = position < at;
          const isNow = position === at;
          return (
            <li
              key={step}
              className={isDone ? "ch-mod-done" : isNow ? "ch-mod-now" : "ch-mod-ahead"}
              aria-current={isNow ? "step" : undefined}
            >
              {isDone && <checkIcon.react tag="span" className="ch-MoveSteps-icon" aria-hidden="true" />}
              {stepWords(trans, step)}
              {isDone && <span className="ch-visually-hidden">{trans.__("(done)")}</span>}
            </li>
          );
        })}
      </ol>
      {value?.state === "waiting" && (
        <p className="ch-Note">{trans.__("A cell still runs. The move begins when it has ended.")}</p>
      )}
      <p className="ch-Note">
        {trans.__("You can close this and go on writing. Cells that you run now wait and then run on the new kernel.")}
      </p>
    </div>
  );
}
