import type { ApiError } from "../api/errors";
import type { Switch } from "../api/types";
import type { Lacks } from "../models/moveDraft";
import type { MovePhase } from "../models/moves";
import { LostNames } from "./movePreview";
import { ErrorNote } from "./parts";
import { useWords } from "./words";

/** What came of a move, in words. */
export function MoveResult(props: {
  phase: MovePhase;
  value: Switch | null;
  error: ApiError | null;
  /** `A100 (simulated)`, where it is on one now. */
  devices: string | null;
}): JSX.Element {
  const { trans, formats } = useWords();
  const { phase, value, error, devices } = props;
  if (phase === "lost") {
    return (
      <p className="ch-Note ch-mod-warning" role="alert">
        {trans.__("The server was restarted and no longer knows of this move. The button shows where the notebook is.")}
      </p>
    );
  }
  if (phase === "cancelled") {
    return <p role="status">{trans.__("Cancelled. The notebook stayed where it was, and nothing was charged.")}</p>;
  }
  if (!value || phase === "failed") {
    return (
      <>
        {value?.error ? (
          <div className="ch-Note ch-mod-error" role="alert">
            {value.error.message}
          </div>
        ) : (
          error && <ErrorNote error={error} />
        )}
        <p>{trans.__("The notebook stayed where it was, and nothing was charged for the try.")}</p>
        <FailureDetails value={value} />
      </>
    );
  }
  const { restored = [], lost = [], notes = [], bytes = 0, seconds = 0 } = value.result ?? {};
  return (
    <div className="ch-MoveResult">
      <p role="status">
        {value.target === "cpu"
          ? trans.__("The notebook is back on the CPU.")
          : devices
            ? trans.__("The notebook is on %1 now.", devices)
            : trans.__("The notebook is on the GPU now.")}
      </p>
      {restored.length > 0 && (
        <>
          <p>
            {trans._n(
              "%1 name came along (%2, in %3):",
              "%1 names came along (%2, in %3):",
              restored.length,
              formats.bytes(bytes),
              formats.duration(Math.max(1, seconds)),
            )}
          </p>
          <p className="ch-MoveResult-names">
            {restored.map((name) => (
              <code key={name}>{name}</code>
            ))}
          </p>
        </>
      )}
      {lost.length > 0 && <LostNames lost={lost} title={trans.__("Stayed behind")} />}
      {notes.length > 0 && (
        <ul className="ch-MoveResult-notes">
          {notes.map((note) => (
            <li key={note}>{note}</li>
          ))}
        </ul>
      )}
    </div>
  );
}

/** What a refusal for loss or for lacks is about. */
export function lacksOf(value: Switch | null): Lacks {
  const { lost = [], problems = [], only_there = false } = (value?.error?.details ?? {}) as Partial<Lacks>;
  return { lost, problems, only_there };
}

function FailureDetails({ value }: { value: Switch | null }): JSX.Element | null {
  const { trans } = useWords();
  const { lost, problems } = lacksOf(value);
  return (
    <>
      {lost.length > 0 && <LostNames lost={lost} title={trans.__("Can't come along")} />}
      {problems.length > 0 && (
        <ul className="ch-MoveResult-notes">
          {problems.map(({ message = "" }) => (
            <li key={message}>{message}</li>
          ))}
        </ul>
      )}
    </>
  );
}
