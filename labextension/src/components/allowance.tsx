import { useId } from "react";

import type { ApiError } from "../api/errors";
import type { Person } from "../api/types";
import { Button, ErrorNote } from "./parts";
import { useWords } from "./words";

const MICROCREDITS_PER_CREDIT = 1_000_000;

/** What notebooks may spend without asking, in a sentence, with the way to change it. */
export function AllowanceView({ person, onChange }: { person: Person; onChange: () => void }): JSX.Element {
  const { trans, formats } = useWords();
  const { left_microcredits, per_day_microcredits } = person.allowance;
  return (
    <div className="ch-Row">
      <span className="ch-Row-text">
        {per_day_microcredits === 0
          ? trans.__("Notebooks ask you here before they spend anything.")
          : trans.__(
              "Notebooks may spend %1 a day without asking you; %2 of it is left.",
              formats.credits(per_day_microcredits),
              formats.credits(left_microcredits),
            )}
      </span>
      <Button label={trans.__("Set allowance…")} onClick={onChange} />
    </div>
  );
}

/** What was typed as microcredits; null where it is no amount. */
export function microcreditsOf(typed: string): number | null {
  const credits = Number(typed.trim().replace(",", "."));
  return typed.trim() !== "" && Number.isFinite(credits) && credits >= 0
    ? Math.round(credits * MICROCREDITS_PER_CREDIT)
    : null;
}

export const creditsTyped = (microcredits: number): string => String(microcredits / MICROCREDITS_PER_CREDIT);

export function AllowanceForm(props: {
  value: string;
  onChange: (typed: string) => void;
  error: ApiError | null;
}): JSX.Element {
  const { trans, formats } = useWords();
  const id = useId();
  const { value, onChange, error } = props;
  const understood = microcreditsOf(value);
  return (
    <div className="ch-Form">
      <label htmlFor={id}>{trans.__("Credits a day")}</label>
      <input
        id={id}
        className="jp-mod-styled"
        type="text"
        inputMode="decimal"
        autoComplete="off"
        value={value}
        aria-describedby={`${id}-understood ${id}-hint`}
        aria-invalid={error !== null || understood === null}
        onChange={(event) => onChange(event.target.value)}
      />
      {/* A comma is a point to some and parts thousands for others: what was understood is said before it is saved. */}
      <p id={`${id}-understood`} role="status">
        {understood === null
          ? trans.__("Write an amount, such as %1.", formats.amount(2_500_000))
          : trans.__("That is %1 a day.", formats.credits(understood))}
      </p>
      <p id={`${id}-hint`} className="ch-Hint">
        {trans.__(
          "A notebook runs whatever stands in it. Above this amount in 24 hours it asks you first; 0 asks always.",
        )}
      </p>
      {error && <ErrorNote error={error} />}
    </div>
  );
}
