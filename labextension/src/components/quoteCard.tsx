/** What a wish costs and whether it is free, with what else is, before anybody decides. */
import type { ApiError } from "../api/errors";
import type { Quote } from "../api/types";
import { Button, ErrorNote, SimulatedBadge } from "./parts";
import { useWords } from "./words";

const OCCURRENCES_SHOWN = 8;

export interface QuoteCardProps {
  quote: Quote | null;
  error: ApiError | null;
  isQuoting: boolean;
  /** The form says nothing that can be asked about yet. */
  isIncomplete: boolean;
  skipTaken: boolean;
  /** What is left to spend; null while unknown. */
  availableMicrocredits: number | null;
  onTakeTime: (startsAt: string) => void;
  onTakeModel: (model: string) => void;
  onRetry: () => void;
}

export function QuoteCard(props: QuoteCardProps): JSX.Element {
  const { quote, error, isQuoting, isIncomplete, onRetry } = props;
  const { trans } = useWords();
  return (
    <section className="ch-Quote" aria-label={trans.__("Price")} aria-busy={isQuoting}>
      <div role="status" className="ch-Quote-said">
        {quote ? (
          <Price {...props} quote={quote} />
        ) : isIncomplete ? (
          <p>{trans.__("The price shows when all is filled in.")}</p>
        ) : (
          !error && <p>{trans.__("Asking for the price…")}</p>
        )}
        {quote && isQuoting && <p className="ch-Quote-old">{trans.__("Asking again…")}</p>}
      </div>
      {error && !isQuoting && <ErrorNote error={error} onRetry={onRetry} />}
      {quote && !quote.available && !quote.occurrences && <Others {...props} quote={quote} />}
      {quote?.occurrences && <Occurrences {...props} quote={quote} />}
    </section>
  );
}

function Price({ quote, skipTaken, availableMicrocredits }: QuoteCardProps & { quote: Quote }): JSX.Element {
  const { trans, formats } = useWords();
  const { occurrences, change_microcredits: change } = quote;
  const free = occurrences?.filter(({ available }) => available).length ?? 0;
  const taken = (occurrences?.length ?? 0) - free;
  const isFree = occurrences ? taken === 0 || (skipTaken && free > 0) : quote.available;
  const cost = change ?? quote.amount_microcredits;
  const left = availableMicrocredits === null ? null : availableMicrocredits - cost;
  return (
    <>
      <p className="ch-Quote-price">
        <strong>{formats.credits(quote.amount_microcredits)}</strong>{" "}
        {quote.simulated && (
          <>
            <SimulatedBadge />{" "}
          </>
        )}
        <span>
          {trans.__(
            "%1, %2",
            formats.devices(quote.model, quote.count),
            occurrences ? trans._n("once", "%1 times", free, free) : formats.span(quote.starts_at, quote.ends_at),
          )}
        </span>
      </p>
      {change !== null && change > 0 && <p>{trans.__("%1 more than before.", formats.credits(change))}</p>}
      {change !== null && change < 0 && <p>{trans.__("%1 less than before.", formats.credits(-change))}</p>}
      {change === 0 && <p>{trans.__("The same price as before.")}</p>}
      <p className={isFree ? "ch-Quote-free" : "ch-Quote-taken"}>
        <span aria-hidden="true">{isFree ? "✓ " : "✕ "}</span>
        {occurrences
          ? taken === 0
            ? trans._n("This one is free.", "All %1 are free.", occurrences.length, occurrences.length)
            : trans.__("%1 of %2 are free.", free, occurrences.length)
          : isFree
            ? trans.__("It is free.")
            : trans.__("Others have booked then.")}
      </p>
      {left !== null && left < 0 && (
        <p className="ch-Quote-taken">
          <span aria-hidden="true">✕ </span>
          {trans.__("You have %1 to spend; %2 are missing.", formats.credits(left + cost), formats.credits(-left))}
        </p>
      )}
      {isFree && left !== null && left >= 0 && cost > 0 && (
        <p>{trans.__("It is put on hold; %1 stay for you to spend.", formats.credits(left))}</p>
      )}
    </>
  );
}

/** The next times at which the same is free, and the models that are free at this one. */
function Others({ quote, onTakeTime, onTakeModel }: QuoteCardProps & { quote: Quote }): JSX.Element | null {
  const { trans, formats } = useWords();
  if (!quote.earliest.length && !quote.alternatives.length) {
    return <p>{trans.__("Nothing of this length is free in the time that can be booked.")}</p>;
  }
  return (
    <>
      {quote.earliest.length > 0 && (
        <div className="ch-Quote-others" role="group" aria-label={trans.__("Next free times")}>
          <span>{trans.__("Next free:")}</span>
          {quote.earliest.map(({ starts_at, ends_at }) => (
            <Button key={starts_at} label={formats.span(starts_at, ends_at)} onClick={() => onTakeTime(starts_at)} />
          ))}
        </div>
      )}
      {quote.alternatives.length > 0 && (
        <div className="ch-Quote-others" role="group" aria-label={trans.__("Free at this time")}>
          <span>{trans.__("Free at this time:")}</span>
          {quote.alternatives.map(({ model, pool_id, amount_microcredits }) => (
            <Button
              key={pool_id}
              label={trans.__("%1, %2", model, formats.credits(amount_microcredits))}
              onClick={() => onTakeModel(model)}
            />
          ))}
        </div>
      )}
    </>
  );
}

function Occurrences({ quote }: { quote: Quote }): JSX.Element {
  const { trans, formats } = useWords();
  const all = quote.occurrences ?? [];
  const rest = all.length - OCCURRENCES_SHOWN;
  // Those in the way are never among what is left out.
  const shown = rest > 0 ? all.filter((each, place) => place < OCCURRENCES_SHOWN || !each.available || each.note) : all;
  return (
    <ul className="ch-Quote-occurrences" aria-label={trans.__("Each time")}>
      {shown.map(({ starts_at, ends_at, available, note }) => (
        <li key={starts_at} className={available ? "ch-Quote-free" : "ch-Quote-taken"}>
          <span aria-hidden="true">{available ? "✓ " : "✕ "}</span>
          {formats.span(starts_at, ends_at)}
          {!available && <span className="ch-Quote-word">{trans.__("taken")}</span>}
          {note && <span className="ch-Quote-word">{note}</span>}
        </li>
      ))}
      {all.length > shown.length && (
        <li>{trans._n("and one more", "and %1 more", all.length - shown.length, all.length - shown.length)}</li>
      )}
    </ul>
  );
}
