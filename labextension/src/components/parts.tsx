/** Small things that every view is made of. */
import type { LabIcon } from "@jupyterlab/ui-components";
import { caretDownIcon, caretRightIcon, refreshIcon } from "@jupyterlab/ui-components";
import type { ReactNode } from "react";
import { useId } from "react";

import type { ApiError } from "../api/errors";
import { reasonInWords, useWords } from "./words";

export interface ButtonProps {
  label: string;
  onClick: () => void;
  /** Said to those who hear a row of equal buttons; it begins with the label. */
  name?: string;
  /** Shown before the label; the label stays for everybody. */
  icon?: LabIcon;
  /** Only the icon is seen; the label is its name and its tip. */
  iconOnly?: boolean;
  kind?: "accept" | "warn" | "plain";
  /** Disabled buttons can't be reached by keyboard, so a reason is given where one is known. */
  disabled?: boolean;
  why?: string;
  /** What it started is under way: it says so and takes no second click. */
  isBusy?: boolean;
}

export function Button(props: ButtonProps): JSX.Element {
  const { label, name, onClick, icon, iconOnly, kind = "plain", disabled, why, isBusy = false } = props;
  const look = { accept: "jp-mod-accept", warn: "jp-mod-warn", plain: "jp-mod-reject" }[kind];
  return (
    <button
      type="button"
      className={`${iconOnly ? "ch-IconButton" : `ch-Button jp-mod-styled ${look}`}${isBusy ? " ch-mod-busy" : ""}`}
      aria-busy={isBusy ? true : undefined}
      aria-disabled={disabled || isBusy ? true : undefined}
      aria-label={name ?? (iconOnly ? label : undefined)}
      title={disabled && why ? why : iconOnly ? label : undefined}
      onClick={disabled || isBusy ? undefined : onClick}
    >
      {icon && <icon.react tag="span" className="ch-Button-icon" aria-hidden="true" />}
      {!iconOnly && <span>{label}</span>}
    </button>
  );
}

/** A titled part of a panel that can be folded; `actions` stand at its right. */
export function Section(props: {
  title: string;
  isOpen: boolean;
  onToggle: (isOpen: boolean) => void;
  actions?: ReactNode;
  children: ReactNode;
}): JSX.Element {
  const id = useId();
  const { title, isOpen, onToggle, actions, children } = props;
  const Caret = isOpen ? caretDownIcon : caretRightIcon;
  return (
    <section className="ch-Section" aria-labelledby={`${id}-title`}>
      <div className="ch-Section-header">
        <h2 id={`${id}-title`} className="ch-Section-title">
          <button type="button" aria-expanded={isOpen} aria-controls={id} onClick={() => onToggle(!isOpen)}>
            <Caret.react tag="span" className="ch-Section-caret" aria-hidden="true" />
            {title}
          </button>
        </h2>
        {isOpen && actions && <div className="ch-Section-actions">{actions}</div>}
      </div>
      <div id={id} className="ch-Section-body" hidden={!isOpen}>
        {isOpen && children}
      </div>
    </section>
  );
}

/** What went wrong, in words, with the way on. */
export function ErrorNote({ error, onRetry }: { error: ApiError; onRetry?: () => void }): JSX.Element {
  const words = useWords();
  const { trans } = words;
  return (
    <div className="ch-Note ch-mod-error" role="alert">
      <span>{reasonInWords(error, words)}</span>
      {onRetry && <Button label={trans.__("Try again")} icon={refreshIcon} onClick={onRetry} />}
    </div>
  );
}

/** Nothing is there yet, and what one can do about it. */
export function EmptyNote({ children }: { children: ReactNode }): JSX.Element {
  return <p className="ch-Note ch-mod-empty">{children}</p>;
}

/** Lines of the height of what will stand here, so that nothing jumps when it comes. */
export function Skeleton({ lines, label }: { lines: number; label: string }): JSX.Element {
  return (
    <div className="ch-Skeleton" role="status" aria-label={label}>
      {Array.from({ length: lines }, (_, line) => (
        <span key={line} />
      ))}
    </div>
  );
}

/** Said wherever a device that does not exist is shown. */
export function SimulatedBadge(): JSX.Element {
  const { trans } = useWords();
  return (
    <span className="ch-Badge" title={trans.__("No such device is here; everything but CUDA works.")}>
      {trans.__("simulated")}
    </span>
  );
}

/** A resource's states in one way: nothing yet, failed with nothing, old beside a failure, or the value. */
export function Loaded<Value>(props: {
  state: { value: Value | undefined; error: ApiError | null };
  onRetry: () => void;
  lines?: number;
  children: (value: Value) => ReactNode;
}): JSX.Element {
  const { trans } = useWords();
  const { state, onRetry, lines = 3, children } = props;
  return (
    <>
      {state.error && <ErrorNote error={state.error} onRetry={onRetry} />}
      {state.value !== undefined
        ? children(state.value)
        : !state.error && <Skeleton lines={lines} label={trans.__("Loading")} />}
    </>
  );
}
