import { useId } from "react";

import type { Offer } from "../api/types";
import { Button, EmptyNote, SimulatedBadge } from "./parts";
import { gpuMemoryWords, roomWords } from "./room";
import { useWords } from "./words";

export type OfferOrder = "price" | "free" | "memory";

export interface OfferFilter {
  text: string;
  order: OfferOrder;
}

const ORDERS: Record<OfferOrder, (a: Offer, b: Offer) => number> = {
  price: (a, b) => a.rate_microcredits_per_hour - b.rate_microcredits_per_hour,
  free: (a, b) => b.free_now - a.free_now,
  memory: (a, b) => b.memory_mib - a.memory_mib,
};

/** The offers that a filter leaves, in its order; those alike stay in the order of their names. */
export function chosen(offers: readonly Offer[], { text, order }: OfferFilter): Offer[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return offers
    .filter(({ model, pool }) => words.every((word) => `${model} ${pool}`.toLowerCase().includes(word)))
    .sort((a, b) => ORDERS[order](a, b) || a.model.localeCompare(b.model) || a.pool.localeCompare(b.pool));
}

export interface OfferListProps {
  offers: readonly Offer[];
  filter: OfferFilter;
  onFilter: (filter: Partial<OfferFilter>) => void;
  onBook: (offer: Offer) => void;
  /** Absent where no notebook is open that could move. */
  onMove?: (offer: Offer) => void;
}

/** What there is, what it costs and when it is free. */
export function OfferList({ offers, filter, onFilter, onBook, onMove }: OfferListProps): JSX.Element {
  const { trans } = useWords();
  const shown = chosen(offers, filter);
  if (!offers.length) {
    return <EmptyNote>{trans.__("This server offers no GPU. Its administrator can add some.")}</EmptyNote>;
  }
  return (
    <>
      <OfferTools filter={filter} onFilter={onFilter} />
      <p className="ch-visually-hidden" role="status">
        {trans._n("%1 GPU model is shown", "%1 GPU models are shown", shown.length, shown.length)}
      </p>
      {shown.length ? (
        <ul className="ch-List">
          {shown.map((offer) => (
            <OfferItem key={offer.pool_id} offer={offer} onBook={onBook} onMove={onMove} />
          ))}
        </ul>
      ) : (
        <EmptyNote>
          {trans.__("No GPU model has “%1” in its name.", filter.text)}{" "}
          <Button label={trans.__("Show all")} onClick={() => onFilter({ text: "" })} />
        </EmptyNote>
      )}
    </>
  );
}

function OfferTools({ filter, onFilter }: Pick<OfferListProps, "filter" | "onFilter">): JSX.Element {
  const { trans } = useWords();
  const id = useId();
  const orders: Record<OfferOrder, string> = {
    price: trans.__("Cheapest"),
    free: trans.__("Most free"),
    memory: trans.__("Most GPU memory"),
  };
  return (
    <div className="ch-Tools">
      <input
        className="jp-mod-styled"
        type="search"
        placeholder={trans.__("Filter by model")}
        aria-label={trans.__("Filter by model")}
        value={filter.text}
        onChange={(event) => onFilter({ text: event.target.value })}
      />
      <label htmlFor={id} className="ch-visually-hidden">
        {trans.__("First in the list")}
      </label>
      <select
        id={id}
        className="jp-mod-styled"
        value={filter.order}
        onChange={(event) => onFilter({ order: event.target.value as OfferOrder })}
      >
        {Object.entries(orders).map(([order, label]) => (
          <option key={order} value={order}>
            {label}
          </option>
        ))}
      </select>
    </div>
  );
}

function OfferItem({ offer, onBook, onMove }: Pick<OfferListProps, "onBook" | "onMove"> & { offer: Offer }) {
  const words = useWords();
  const { trans, formats } = words;
  const isFree = offer.free_now > 0;
  return (
    <li className="ch-Item" aria-label={offer.model}>
      <div className="ch-Item-head">
        <span className="ch-Item-title">
          {offer.model} {offer.simulated && <SimulatedBadge />}
        </span>
        <span className={`ch-State ${isFree ? "ch-mod-good" : "ch-mod-wait"}`}>{freeWords(offer)}</span>
      </div>
      <div>{formats.rate(offer.rate_microcredits_per_hour)}</div>
      <p className="ch-Item-line">
        {[gpuMemoryWords(words, offer), roomWords(words, offer).join(", ")].map(
          (said) => said && <span key={said}>{said}</span>,
        )}
      </p>
      {offer.unwell && <p className="ch-Hint">{offer.unwell}</p>}
      <div className="ch-Item-actions">
        {onMove && isFree && <Button label={trans.__("Move here")} kind="accept" onClick={() => onMove(offer)} />}
        <Button label={trans.__("Book…")} onClick={() => onBook(offer)} />
      </div>
    </li>
  );

  function freeWords({ count, earliest_at, free_now, unwell }: Offer): string {
    if (unwell) {
      return trans.__("Not available now");
    }
    if (free_now > 0) {
      return trans.__("%1 of %2 free", free_now, count);
    }
    return earliest_at ? trans.__("Free %1", formats.dateTime(earliest_at)) : trans.__("None free");
  }
}
