import { HTMLSelect } from "@jupyterlab/ui-components";
import { useId, useState } from "react";

import { FieldError } from "./field";
import { useWords } from "./words";

const USUAL_SECONDS = [900, 1800, 3600, 7200, 14_400, 28_800, 86_400];

/** How long: one of the usual lengths, or any number of minutes. */
export function LengthField(props: {
  seconds: number | null;
  onChange: (seconds: number) => void;
  error: string | null;
  least?: number | undefined;
  most?: number | undefined;
}): JSX.Element {
  const { trans, formats } = useWords();
  const { seconds, onChange, error, least = 0, most = Infinity } = props;
  const id = useId();
  const usual = USUAL_SECONDS.filter((each) => each >= least && each <= most);
  const isUsual = seconds === null || usual.includes(seconds);
  const [isOther, setOther] = useState(!isUsual);
  const [minutes, setMinutes] = useState(seconds ? String(Math.round(seconds / 60)) : "");
  const other = isOther || !isUsual;
  return (
    <div className="ch-MoveRow">
      <label className="ch-MoveRow-label" htmlFor={id}>
        {trans.__("For how long")}
      </label>
      <HTMLSelect
        id={id}
        value={other ? "other" : (seconds ?? "")}
        aria-describedby={`${id}-error`}
        aria-invalid={error ? true : undefined}
        onChange={({ target: { value } }) => {
          setOther(value === "other");
          if (value !== "other") {
            setMinutes(String(Number(value) / 60));
            onChange(Number(value));
          }
        }}
      >
        {seconds === null && <option value="">{trans.__("As usual here")}</option>}
        {usual.map((each) => (
          <option key={each} value={each}>
            {formats.duration(each)}
          </option>
        ))}
        <option value="other">{trans.__("Other…")}</option>
      </HTMLSelect>
      {other && (
        <label className="ch-MoveRow-more">
          <input
            className="jp-mod-styled"
            type="number"
            min={Math.ceil(least / 60)}
            max={Number.isFinite(most) ? Math.floor(most / 60) : undefined}
            value={minutes}
            onChange={({ target: { value } }) => {
              setMinutes(value);
              if (Number(value) > 0) {
                onChange(Math.round(Number(value) * 60));
              }
            }}
            // What stands here is what is paid for: without a number it is still the last one.
            onBlur={() => Number(minutes) > 0 || setMinutes(seconds ? String(Math.round(seconds / 60)) : "")}
          />
          {trans.__("minutes")}
        </label>
      )}
      <FieldError id={`${id}-error`} message={error} />
    </div>
  );
}
