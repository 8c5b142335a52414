import type { ApiError } from "../api/errors";
import type { LostName, Quote } from "../api/types";
import type { MoveDraft } from "../models/moveDraft";
import type { PreviewAnswer } from "../models/previewer";
import { Button, ErrorNote, SimulatedBadge, Skeleton } from "./parts";
import { Cramped } from "./room";
import { useWords } from "./words";

/** What the form shows a message at; anything else is told below the price. */
const FIELDS = ["model", "duration_seconds", "keep", "count", "max_rate_microcredits_per_hour"];

export interface MovePreviewProps {
  draft: MoveDraft;
  answer: PreviewAnswer | null;
  error: ApiError | null;
  isAsking: boolean;
  /** After how long without a running cell the GPU goes back. */
  idleSeconds?: number | undefined;
  onChange: (change: Partial<MoveDraft>) => void;
  onRetry: () => void;
  /** Book a slot instead, where nothing is free now. */
  onBook: (quote: Quote, startsAt: string) => void;
}

/** What the move would cost, take along and lose, before anything happens. */
export function MovePreview(props: MovePreviewProps): JSX.Element {
  const { trans } = useWords();
  const { draft, answer, error, isAsking, idleSeconds, onChange, onRetry, onBook } = props;
  return (
    <section className="ch-MovePreview" aria-label={trans.__("What the move means")} aria-busy={isAsking}>
      {error && <ErrorNote error={error} onRetry={onRetry} />}
      {answer ? (
        <div className={isAsking ? "ch-mod-stale" : undefined}>
          <dl className="ch-MoveFacts">
            <Price draft={draft} answer={answer} />
            <Carried draft={draft} answer={answer} />
            <GivenBack draft={draft} idleSeconds={idleSeconds} />
          </dl>
          {answer.waits && <p className="ch-Note ch-mod-wait">{answer.waits}</p>}
          <Cramped answer={answer} onChange={onChange} />
          <Loss draft={draft} answer={answer} onChange={onChange} />
          <Refusal answer={answer} onChange={onChange} onBook={onBook} />
        </div>
      ) : (
        !error && <Skeleton lines={3} label={trans.__("Asking what the move costs and what comes along")} />
      )}
    </section>
  );
}

function Price({ draft, answer }: Pick<MovePreviewProps, "draft"> & { answer: PreviewAnswer }): JSX.Element | null {
  const { trans, formats } = useWords();
  const { quote, preview } = answer;
  if (draft.target === "cpu") {
    return (
      <>
        <dt>{trans.__("Cost")}</dt>
        <dd>{trans.__("Nothing more. What was held for the rest of the time is yours again.")}</dd>
      </>
    );
  }
  if (quote) {
    const seconds = (Date.parse(quote.ends_at) - Date.parse(quote.starts_at)) / 1000;
    return (
      <>
        <dt>{trans.__("Cost")}</dt>
        <dd>
          {trans.__(
            "%1 at most, for %2 (%3). You pay by the second and only until you come back.",
            formats.credits(quote.amount_microcredits),
            formats.duration(seconds),
            formats.rate(quote.rate_microcredits_per_hour * quote.count),
          )}
        </dd>
      </>
    );
  }
  return preview?.amount_microcredits ? (
    <>
      <dt>{trans.__("Cost")}</dt>
      <dd>{trans.__("%1 at most, as you have booked it.", formats.credits(preview.amount_microcredits))}</dd>
    </>
  ) : null;
}

function Carried({ draft, answer }: Pick<MovePreviewProps, "draft"> & { answer: PreviewAnswer }): JSX.Element | null {
  const { trans, formats } = useWords();
  const { preview } = answer;
  let said: string;
  if (draft.keep === "none") {
    said = trans.__("Nothing: the notebook starts afresh there.");
  } else if (!preview) {
    return null;
  } else {
    const count = preview.carried?.length ?? 0;
    const size = formats.bytes(preview.total_bytes ?? 0);
    said = count
      ? trans._n("%1 name, %2", "%1 names, %2", count, size)
      : trans.__("Nothing: the notebook holds no variables.");
    if (count && preview.seconds) {
      said = trans.__("%1, in about %2", said, formats.duration(Math.max(1, preview.seconds)));
    }
  }
  return (
    <>
      <dt>{trans.__("Comes along")}</dt>
      <dd>{said}</dd>
    </>
  );
}

function GivenBack({ draft, idleSeconds }: Pick<MovePreviewProps, "draft" | "idleSeconds">): JSX.Element | null {
  const { trans, formats } = useWords();
  return draft.target === "gpu" && idleSeconds ? (
    <>
      <dt>{trans.__("Given back")}</dt>
      <dd>{trans.__("when no cell has run for %1", formats.duration(idleSeconds))}</dd>
    </>
  ) : null;
}

function Loss(props: {
  draft: MoveDraft;
  answer: PreviewAnswer;
  onChange: MovePreviewProps["onChange"];
}): JSX.Element | null {
  const { trans } = useWords();
  const { draft, answer, onChange } = props;
  const lost = lostIn(answer);
  if (!lost.length || draft.keep === "none") {
    return null;
  }
  return (
    <div className="ch-MoveLoss">
      <LostNames lost={lost} title={trans.__("Can't come along")} />
      <label>
        <input
          type="checkbox"
          checked={draft.acceptsLoss}
          onChange={({ target }) => onChange({ acceptsLoss: target.checked })}
        />
        {trans.__("Leave these behind")}
      </label>
    </div>
  );
}

/** The field of the form that a move would be refused for, where it is one of those below. */
export function fieldOf({ problem }: PreviewAnswer): string | null {
  const { field } = (problem?.details ?? {}) as { field?: string };
  return field && FIELDS.includes(field) ? field : null;
}

/** The names that a preview, or its refusal, says can't come along. */
export function lostIn({ preview, problem }: PreviewAnswer): LostName[] {
  const details = problem?.code === "loss_not_accepted" ? (problem.details as { lost?: LostName[] }) : {};
  return preview?.lost?.length ? preview.lost : (details.lost ?? []);
}

/** Names that stay behind, each with its reason. */
export function LostNames({ lost, title }: { lost: readonly LostName[]; title: string }): JSX.Element {
  const { trans } = useWords();
  return (
    <table className="ch-MoveLost">
      <caption>{title}</caption>
      <thead>
        <tr>
          <th scope="col">{trans.__("Name")}</th>
          <th scope="col">{trans.__("Why")}</th>
        </tr>
      </thead>
      <tbody>
        {lost.map(({ name, reason, type }) => (
          <tr key={name}>
            <th scope="row" title={type}>
              <code>{name}</code>
            </th>
            <td>{reason}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Refusal(props: { answer: PreviewAnswer } & Pick<MovePreviewProps, "onChange" | "onBook">): JSX.Element | null {
  const { trans, formats } = useWords();
  const { answer, onChange, onBook } = props;
  const { problem, quote } = answer;
  if (!problem || problem.code === "loss_not_accepted" || fieldOf(answer)) {
    return null;
  }
  return (
    <div className="ch-Note ch-mod-error ch-MoveRefusal" role="alert">
      <p>{problem.message}</p>
      {quote && !quote.available && (
        <ul className="ch-MoveWays">
          {quote.alternatives.map(({ model, rate_microcredits_per_hour: rate, simulated }) => (
            <li key={model}>
              <Button
                label={trans.__("Take %1 now (%2)", model, formats.rate(rate))}
                onClick={() => onChange({ model })}
              />
              {simulated && <SimulatedBadge />}
            </li>
          ))}
          {quote.earliest.slice(0, 3).map(({ starts_at: startsAt }) => (
            <li key={startsAt}>
              <Button
                label={trans.__("Book %1 for %2", quote.model, formats.dateTime(startsAt))}
                onClick={() => onBook(quote, startsAt)}
              />
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
