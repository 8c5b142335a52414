import { useId } from "react";

import type { MoveDraft } from "../models/moveDraft";
import { FieldError } from "./field";
import { useWords } from "./words";

/** Which variables come along. */
export function KeepField(props: {
  draft: MoveDraft;
  names: readonly { name: string; bytes?: number; type?: string }[];
  onChange: (change: Partial<MoveDraft>) => void;
  error: string | null;
}): JSX.Element {
  const { trans } = useWords();
  const { draft, names, onChange, error } = props;
  const id = useId();
  const choices: [MoveDraft["keep"], string][] = [
    ["all", trans.__("All variables")],
    ["none", trans.__("None: start afresh")],
    ["some", trans.__("These only")],
  ];
  return (
    <fieldset className="ch-MoveFieldset">
      <legend>{trans.__("What comes along")}</legend>
      <div className="ch-MoveChoices">
        {choices.map(([keep, label]) => (
          <label key={keep}>
            <input
              type="radio"
              name={id}
              checked={draft.keep === keep}
              onChange={() =>
                onChange({
                  keep,
                  acceptsLoss: false,
                  // To leave out a few is more usual than to name a few.
                  ...(keep === "some" && !draft.names.length && { names: names.map(({ name }) => name) }),
                })
              }
            />
            {label}
          </label>
        ))}
      </div>
      {draft.keep === "some" && <Names draft={draft} names={names} onChange={onChange} />}
      <FieldError id={`${id}-error`} message={error} />
    </fieldset>
  );
}

function Names(props: {
  draft: MoveDraft;
  names: readonly { name: string; bytes?: number; type?: string }[];
  onChange: (change: Partial<MoveDraft>) => void;
}): JSX.Element {
  const { trans, formats } = useWords();
  const { draft, names, onChange } = props;
  const choose = (chosen: readonly string[]) => onChange({ names: chosen, acceptsLoss: false });
  if (!names.length) {
    return (
      <label className="ch-MoveRow">
        <span className="ch-MoveRow-label">{trans.__("Names, with commas between")}</span>
        <input
          className="jp-mod-styled"
          type="text"
          defaultValue={draft.names.join(", ")}
          onChange={({ target }) => choose(target.value.split(/[\s,]+/).filter(Boolean))}
        />
      </label>
    );
  }
  return (
    <ul className="ch-MoveNames" aria-label={trans.__("Variables")}>
      {names.map(({ name, bytes, type }) => (
        <li key={name}>
          <label>
            <input
              type="checkbox"
              checked={draft.names.includes(name)}
              onChange={({ target }) =>
                choose(target.checked ? [...draft.names, name] : draft.names.filter((each) => each !== name))
              }
            />
            <code>{name}</code>
            {type && <span className="ch-mod-quiet">{type}</span>}
            {bytes !== undefined && <span className="ch-mod-quiet">{formats.bytes(bytes)}</span>}
          </label>
        </li>
      ))}
    </ul>
  );
}
