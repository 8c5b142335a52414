import { useCallback, useEffect, useState } from "react";

import type { ApiError } from "../api/errors";
import { ApiError as LoadError } from "../api/errors";

/** Something that is loaded when first shown; a load that failed can be tried again. */
export function useLazy<Value>(load: () => Promise<Value>): {
  value: Value | undefined;
  error: ApiError | null;
  retry: () => void;
} {
  const [state, setState] = useState<{ value: Value | undefined; error: ApiError | null }>({
    value: undefined,
    error: null,
  });
  const retry = useCallback(() => {
    setState({ value: undefined, error: null });
    load().then(
      (value) => setState({ value, error: null }),
      () => setState({ value: undefined, error: new LoadError("unreachable", "A part of this page did not load.") }),
    );
  }, [load]);
  useEffect(retry, [retry]);
  return { ...state, retry };
}
