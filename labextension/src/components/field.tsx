/** A labelled input with what is wrong with it, tied together for those who don't see them side by side. */
import type { ReactNode } from "react";
import { useId } from "react";

/** What an input takes over from its field. */
export interface FieldLinks {
  id: string;
  "aria-describedby"?: string;
  "aria-invalid"?: true;
}

export function Field(props: {
  label: string;
  error?: string | undefined;
  hint?: ReactNode;
  children: (links: FieldLinks) => ReactNode;
}): JSX.Element {
  const { label, error, hint, children } = props;
  const id = useId();
  const described = [hint ? `${id}-hint` : "", error ? `${id}-error` : ""].filter(Boolean).join(" ");
  const links: FieldLinks = { id, ...(described && { "aria-describedby": described }) };
  return (
    <div className="ch-Field">
      <label htmlFor={id}>{label}</label>
      {children(error ? { ...links, "aria-invalid": true } : links)}
      {hint && (
        <div id={`${id}-hint`} className="ch-Field-hint">
          {hint}
        </div>
      )}
      <FieldError id={`${id}-error`} message={error} />
    </div>
  );
}

/** Several inputs that are one thing to a person: a day and a time, hours and minutes. */
export function FieldGroup(props: {
  legend: string;
  error?: string | undefined;
  hint?: ReactNode;
  children: ReactNode;
}): JSX.Element {
  const { legend, error, hint, children } = props;
  const id = useId();
  return (
    <fieldset className="ch-Field ch-FieldGroup" aria-describedby={error ? `${id}-error` : undefined}>
      <legend>{legend}</legend>
      <div className="ch-FieldGroup-inputs">{children}</div>
      {hint && <div className="ch-Field-hint">{hint}</div>}
      <FieldError id={`${id}-error`} message={error} />
    </fieldset>
  );
}

/** What is wrong with an input, below it; read out when it comes. */
export function FieldError({ id, message }: { id: string; message: string | null | undefined }): JSX.Element | null {
  return message ? (
    <div id={id} className="ch-Field-error" role="alert">
      {message}
    </div>
  ) : null;
}
