/** What went wrong with a request, as one kind of error that views can tell apart by `code`. */

/**
 * Codes made on this side of the connection; all others are the server's (docs/reference/errors.md).
 *
 * - `unreachable`: no answer (offline, server gone or restarting).
 * - `timeout`: no answer in time; whether the write happened is unknown, so it is tried again with the same key.
 * - `missing`: this Jupyter server has no ComputeHub.
 * - `unreadable`: an answer that is none of ours, such as a proxy's error page.
 */
export type LocalCode = "unreachable" | "timeout" | "missing" | "unreadable";

export class ApiError extends Error {
  constructor(
    readonly code: LocalCode | (string & {}),
    message: string,
    readonly status: number = 0,
    readonly details: Readonly<Record<string, unknown>> = {},
    /** Seconds until the server wants to be asked again, when it said so. */
    readonly retryAfterSeconds: number | null = null,
  ) {
    super(message);
    this.name = "ApiError";
  }

  /** The input at fault, when the server names one. */
  get field(): string | null {
    return typeof this.details.field === "string" ? this.details.field : null;
  }

  /** True where the same request may work in a moment, unchanged. */
  get isTransient(): boolean {
    return ["unreachable", "timeout", "unreadable"].includes(this.code) || this.status === 429 || this.status >= 502;
  }
}

/** Any thrown thing as an `ApiError`. */
export function asApiError(reason: unknown): ApiError {
  if (reason instanceof ApiError) {
    return reason;
  }
  return new ApiError("unreadable", reason instanceof Error ? reason.message : String(reason));
}
