import type { RefObject } from "react";
import { useRef, useState } from "react";

import type { ApiError } from "../api/errors";
import { asApiError } from "../api/errors";
import type { ButtonProps } from "./parts";
import { Button, ErrorNote } from "./parts";

export interface Action {
  run: () => void;
  isBusy: boolean;
  /** Why the last run failed; forgotten by the next. */
  error: ApiError | null;
}

/** Something that takes a while and may be refused. A second run while one is under way is none. */
export function useAction(act: () => Promise<unknown>): Action {
  const isRunning = useRef(false);
  const [state, setState] = useState<Omit<Action, "run">>({ isBusy: false, error: null });
  const run = () => {
    if (isRunning.current) {
      return;
    }
    isRunning.current = true;
    setState({ isBusy: true, error: null });
    act()
      .then(
        () => setState({ isBusy: false, error: null }),
        (reason) => setState({ isBusy: false, error: asApiError(reason) }),
      )
      .finally(() => {
        isRunning.current = false;
      });
  };
  return { run, ...state };
}

/**
 * Keep the keyboard's place where an action takes away what it was started from: the focus goes to what held it.
 *
 * @returns what marks the holder, and what an action is wrapped in.
 */
export function useFocusKept<Holder extends HTMLElement>(): {
  holder: RefObject<Holder>;
  kept: <Answer>(action: Promise<Answer>) => Promise<Answer>;
} {
  const holder = useRef<Holder>(null);
  const kept = <Answer,>(action: Promise<Answer>) =>
    action.finally(() =>
      // Once React has taken it away.
      window.setTimeout(() => {
        if (document.activeElement === document.body || !document.activeElement) {
          holder.current?.focus();
        }
      }),
    );
  return { holder, kept };
}

/** A button whose click is answered by the server: it shows that it works, and why it was refused. */
export function ActionButton(props: Omit<ButtonProps, "onClick" | "isBusy"> & { act: () => Promise<unknown> }) {
  const { act, ...button } = props;
  const { run, isBusy, error } = useAction(act);
  return (
    <>
      <Button {...button} onClick={run} isBusy={isBusy} />
      {error && <ErrorNote error={error} onRetry={error.isTransient ? run : undefined} />}
    </>
  );
}
