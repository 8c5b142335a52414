import type { ReactNode } from "react";
import { useId } from "react";

import type { Offer, Person } from "../api/types";
import type { MoveDraft } from "../models/moveDraft";
import { modelsOf } from "../models/moveDraft";
import { FieldError } from "./field";
import { KeepField } from "./keepField";
import { LengthField } from "./lengthField";
import { SimulatedBadge, Skeleton } from "./parts";
import { gpuMemoryWords, roomWords } from "./room";
import { useWords } from "./words";

export interface MoveFormProps {
  draft: MoveDraft;
  onChange: (change: Partial<MoveDraft>) => void;
  offers: readonly Offer[] | undefined;
  me: Person | undefined;
  /** Names that could come along, where the notebook could be asked. */
  names: readonly { name: string; bytes?: number; type?: string }[];
  /** Why it was or would be refused; shown at the field that it is about. */
  error: { field: string | null; message: string } | null;
}

/** What a move to a GPU, or back, can be told. */
export function MoveForm({ draft, onChange, offers, me, names, error }: MoveFormProps): JSX.Element {
  const { trans, formats } = useWords();
  const at = (field: string) => (error?.field === field ? error.message : null);
  const keep = <KeepField draft={draft} names={names} onChange={onChange} error={at("keep")} />;
  if (draft.target === "cpu") {
    return <div className="ch-MoveForm">{keep}</div>;
  }
  const limits = me?.limits;
  const most = me?.defaults?.max_rate_microcredits_per_hour;
  const emptyIs = most
    ? trans.__("Empty for your usual limit, %1. A dearer GPU is refused.", formats.rate(most))
    : trans.__("Empty for no limit. A dearer GPU is refused.");
  return (
    <div className="ch-MoveForm">
      <ModelField draft={draft} offers={offers} onChange={onChange} error={at("model")} />
      <LengthField
        seconds={draft.durationSeconds}
        least={limits?.min_duration_seconds}
        most={limits?.max_duration_seconds}
        error={at("duration_seconds")}
        onChange={(durationSeconds) => onChange({ durationSeconds })}
      />
      <Payer me={me} />
      {keep}
      <details
        className="ch-MoveForm-more"
        open={at("count") || at("max_rate_microcredits_per_hour") ? true : undefined}
      >
        <summary>{trans.__("More choices")}</summary>
        <NumberField
          label={trans.__("Number of GPUs")}
          value={String(draft.count)}
          min={1}
          max={limits?.max_count ?? 8}
          error={at("count")}
          onChange={(value) => onChange({ count: Math.max(1, Math.round(Number(value)) || 1) })}
        />
        <NumberField
          label={trans.__("At most, in credits an hour for each GPU")}
          hint={emptyIs}
          value={draft.maxRate}
          min={0}
          step="any"
          error={at("max_rate_microcredits_per_hour")}
          onChange={(maxRate) => onChange({ maxRate })}
        />
      </details>
    </div>
  );
}

function ModelField(
  props: Pick<MoveFormProps, "draft" | "offers" | "onChange"> & { error: string | null },
): JSX.Element {
  const { trans } = useWords();
  const { draft, offers, onChange, error } = props;
  const id = useId();
  return (
    <fieldset className="ch-MoveFieldset" aria-describedby={error ? `${id}-error` : undefined}>
      <legend>{trans.__("GPU")}</legend>
      {offers ? (
        modelsOf(offers).map((offer) => (
          <label key={offer.model} className="ch-ModelRow">
            <input
              type="radio"
              name={id}
              checked={draft.model?.toLowerCase() === offer.model.toLowerCase()}
              onChange={() => onChange({ model: offer.model, acceptsLoss: false })}
            />
            <ModelWords offer={offer} />
          </label>
        ))
      ) : (
        <Skeleton lines={3} label={trans.__("Loading the GPUs")} />
      )}
      <FieldError id={`${id}-error`} message={error} />
    </fieldset>
  );
}

function ModelWords({ offer }: { offer: Offer }): JSX.Element {
  const words = useWords();
  const { trans, formats } = words;
  let free: ReactNode = trans.__("none free");
  if (offer.unwell) {
    free = <span title={offer.unwell}>{trans.__("not available now")}</span>;
  } else if (offer.free_now > 0) {
    free = trans._n("%1 free now", "%1 free now", offer.free_now);
  } else if (offer.earliest_at) {
    free = trans.__("free from %1", formats.dateTime(offer.earliest_at));
  }
  return (
    <>
      <span className="ch-ModelRow-model">
        {offer.model} {offer.simulated && <SimulatedBadge />}
      </span>
      <span className="ch-ModelRow-room">
        {[gpuMemoryWords(words, offer), roomWords(words, offer).join(", ")].map(
          (said) => said && <span key={said}>{said}</span>,
        )}
      </span>
      <span>{formats.rate(offer.rate_microcredits_per_hour)}</span>
      <span className={offer.free_now > 0 ? "ch-mod-free" : "ch-mod-taken"}>{free}</span>
    </>
  );
}

function Payer({ me }: { me: Person | undefined }): JSX.Element {
  const { trans, formats } = useWords();
  return (
    <div className="ch-MoveRow">
      <span className="ch-MoveRow-label">{trans.__("Who pays")}</span>
      <span>
        {me
          ? trans.__("You (%1), who have %2", me.display_name, formats.credits(me.balance.available_microcredits))
          : trans.__("You")}
      </span>
    </div>
  );
}

export function NumberField(props: {
  label: string;
  value: string;
  onChange: (value: string) => void;
  error: string | null;
  hint?: string;
  min?: number;
  max?: number;
  step?: string;
}): JSX.Element {
  const { label, value, onChange, error, hint, ...range } = props;
  const id = useId();
  return (
    <div className="ch-MoveRow">
      <label className="ch-MoveRow-label" htmlFor={id}>
        {label}
      </label>
      <input
        id={id}
        className="jp-mod-styled"
        type="number"
        inputMode="decimal"
        value={value}
        aria-invalid={error ? true : undefined}
        aria-describedby={`${id}-hint ${id}-error`}
        onChange={(event) => onChange(event.target.value)}
        {...range}
      />
      <span id={`${id}-hint`} className="ch-MoveRow-hint">
        {hint}
      </span>
      <FieldError id={`${id}-error`} message={error} />
    </div>
  );
}
