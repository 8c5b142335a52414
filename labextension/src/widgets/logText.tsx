import { useEffect, useState } from "react";

import type { AnswerOf } from "../api/types";
import type { Words } from "../components/words";

type Log = AnswerOf<"getLog">;

const AGAIN_MS = 2000;

/** What a kernel wrote outside its cells; with `read` asked for again and again, as a start goes on. */
export function LogText(props: { words: Words; first: Log; read?: () => Promise<Log> }): JSX.Element {
  const { first, read, words } = props;
  const { trans } = words;
  const [log, setLog] = useState(first);
  useEffect(() => {
    if (!read) {
      return undefined;
    }
    let isOpen = true;
    let timer = 0;
    const again = async () => {
      try {
        const found = await read();
        if (isOpen) {
          setLog(found);
        }
      } catch {
        // The server may answer again in a moment; what was read stays to be seen.
      }
      if (isOpen) {
        timer = window.setTimeout(again, AGAIN_MS);
      }
    };
    timer = window.setTimeout(again, AGAIN_MS);
    return () => {
      isOpen = false;
      window.clearTimeout(timer);
    };
  }, [read]);
  if (!log.text) {
    const nothing = log.kept
      ? trans.__("The kernel wrote nothing outside its cells.")
      : trans.__("This place keeps no log.");
    return <p>{nothing}</p>;
  }
  return (
    // What scrolls is reached by the keyboard too.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
    <pre className="ch-Log" tabIndex={0} aria-label={trans.__("What the kernel wrote outside its cells")}>
      {log.text}
    </pre>
  );
}
