import type { ApiError } from "../api/errors";
import { ErrorNote } from "./parts";
import { useWords } from "./words";

export interface ServerPartNoteProps {
  part: "unknown" | "ready" | "missing" | "old" | "unreachable";
  error: ApiError | null;
  version: string | undefined;
  onRetry: () => void;
}

/** The one thing to be said where the panel can do nothing without its server. */
export function ServerPartNote({ part, error, version, onRetry }: ServerPartNoteProps): JSX.Element | null {
  const { trans } = useWords();
  if (part === "missing") {
    return (
      <div className="ch-Note ch-mod-error" role="alert">
        <span>
          {trans.__("ComputeHub is not installed on this Jupyter server, or not switched on.")}{" "}
          {trans.__("Your notebooks work as always, without GPUs from here.")}{" "}
          {trans.__("Reload this page once whoever runs the server has added it.")}
        </span>
      </div>
    );
  }
  if (part === "old") {
    return (
      <div className="ch-Note ch-mod-error" role="alert">
        <span>
          {version === undefined
            ? trans.__("ComputeHub on this Jupyter server is older than this panel.")
            : trans.__("ComputeHub %1 on this Jupyter server is older than this panel.", version)}{" "}
          {trans.__("Your notebooks work as always; ask whoever runs the server to update it.")}
        </span>
      </div>
    );
  }
  return error && <ErrorNote error={error} onRetry={onRetry} />;
}
