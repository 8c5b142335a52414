import { useEffect, useId, useRef } from "react";

import { Button } from "./parts";
import { useWords } from "./words";

/** Said once, at the top of the panel. It waits to be asked rather than standing in the way. */
export function TourNote({ onStart, onDecline }: { onStart: () => void; onDecline: () => void }): JSX.Element {
  const { trans } = useWords();
  return (
    <div className="ch-TourNote">
      <p>{trans.__("New here? A short tour shows what is where.")}</p>
      <Button label={trans.__("Take the tour")} kind="accept" onClick={onStart} />
      <Button label={trans.__("No, thanks")} onClick={onDecline} />
    </div>
  );
}

export interface TourCardProps {
  title: string;
  text: string;
  /** Counted from 1. */
  number: number;
  count: number;
  onBack: () => void;
  onNext: () => void;
  onEnd: () => void;
}

/** One stop of the tour. The way on has the focus, so that Enter goes through it and Escape ends it. */
export function TourCard({ title, text, number, count, onBack, onNext, onEnd }: TourCardProps): JSX.Element {
  const { trans } = useWords();
  const id = useId();
  const card = useRef<HTMLDivElement>(null);
  useEffect(() => {
    card.current?.querySelector<HTMLElement>(".jp-mod-accept")?.focus();
  }, [number]);
  const isLast = number === count;
  return (
    <div
      ref={card}
      className="ch-TourCard"
      role="dialog"
      aria-labelledby={`${id}-title`}
      aria-describedby={`${id}-text`}
    >
      <p className="ch-TourCard-count">{trans.__("%1 of %2", number, count)}</p>
      <h2 id={`${id}-title`}>{title}</h2>
      <p id={`${id}-text`}>{text}</p>
      <div className="ch-TourCard-actions">
        {!isLast && <Button label={trans.__("End the tour")} onClick={onEnd} />}
        {number > 1 && <Button label={trans.__("Back")} onClick={onBack} />}
        <Button label={isLast ? trans.__("Done") : trans.__("Next")} kind="accept" onClick={onNext} />
      </div>
    </div>
  );
}
